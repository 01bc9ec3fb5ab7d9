"""The examples of docs/guides/tools.md, run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from batchrun.functions import Toolbox
from batchrun.functions.toolbox import EXCHANGE_BYTES, OUTPUT_BYTES
from batchrun.records import ToolCall
from tests.support.markdown import marked_block

PAGE = Path(__file__).parents[3] / "docs" / "guides" / "tools.md"


@pytest.fixture
def toolbox(tmp_path: Path) -> Toolbox:
    path = tmp_path / "tools.py"
    path.write_text(marked_block(PAGE, "file: tools.py")[1], encoding="utf-8")
    return Toolbox.load(path)


@pytest.mark.anyio
async def test_the_functions_work(toolbox: Toolbox) -> None:
    """The file on the page loads, its functions are strict, and they answer."""
    assert [(each["name"], each["strict"]) for each in toolbox.declarations] == [("price", True), ("delivery", True)]
    outputs = await toolbox.call(
        [
            ToolCall("1", "price", '{"article": "AX-1", "count": "3"}'),
            ToolCall("2", "delivery", '{"ordered": "2026-11-23", "speed": "express", "country": null}'),
            ToolCall("3", "price", '{"article": "AX-9", "count": 1}'),
        ]
    )
    assert [output.text for output in outputs[:2]] == ['{"each":12.5,"total":37.5}', '"2026-11-24"']
    assert f"`{outputs[2].text}`" in PAGE.read_text(encoding="utf-8")


@pytest.mark.anyio
async def test_what_the_model_sees(toolbox: Toolbox) -> None:
    """The declaration on the page is the one that is sent."""
    assert json.loads(marked_block(PAGE, "declaration: price")[1]) == toolbox.declarations[0]


@pytest.mark.anyio
async def test_the_error_that_the_model_receives(toolbox: Toolbox) -> None:
    """Wrong arguments give the output on the page."""
    arguments, told = marked_block(PAGE, "call: price")
    (output,) = await toolbox.call([ToolCall("1", "price", arguments)])
    assert json.loads(output.text) == json.loads(told)


def test_the_sizes() -> None:
    """Outputs are cut at the sizes on the page."""
    words = " ".join(PAGE.read_text(encoding="utf-8").split())
    assert f"more than {OUTPUT_BYTES:,} bytes" in words
    assert f"together at most {EXCHANGE_BYTES:,} bytes" in words
