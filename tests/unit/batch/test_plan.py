"""What is decided and refused before anything is sent."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from batchrun.batch.lock import held
from batchrun.batch.paths import paths_for
from batchrun.batch.plan import Plan, make_plan
from batchrun.errors import BatchrunError, InputError, OutputHeld
from batchrun.job.environment import Environment
from batchrun.job.validation import make_job
from tests.support.rows import write_csv

LOCAL: dict[str, Any] = {"base_url": "http://127.0.0.1:9/v1", "model": "m"}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "in.csv", [{"id": "1", "question": "2 + 2"}, {"id": "2", "question": "3 + 3"}])


def plan(table: Path, environment: Environment | None = None, **options: Any) -> Plan:
    return make_plan(make_job(options), table, environment or Environment(), table.with_name("out.csv"))


def refusal(table: Path, environment: Environment | None = None, **options: Any) -> str:
    with pytest.raises(BatchrunError) as caught:
        plan(table, environment, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_without_key_and_url_the_server_is_our_own(table: Path) -> None:
    """Without a key and a URL the embedded server answers, over the Assistants protocol."""
    made = plan(table)
    assert (made.destination.is_embedded, made.destination.api, made.destination.base_url, made.job.model) == (
        True,
        "assistants",
        None,
        "tutor",
    )


def test_a_key_or_a_url_means_a_service(table: Path) -> None:
    """With a key or a URL a service answers; the job's URL takes precedence over the environment's."""
    assert not plan(table, Environment(api_key="k"), model="m").destination.is_embedded
    environment = Environment(base_url="http://127.0.0.1:1/v1")
    assert plan(table, environment, model="m").destination.base_url == environment.base_url
    assert plan(table, environment, **LOCAL).destination.base_url == LOCAL["base_url"]


def test_a_service_needs_a_model(table: Path) -> None:
    """There is no default model for a service: the job or the environment must name one."""
    assert "--model" in refusal(table, Environment(api_key="k"))
    assert plan(table, Environment(api_key="k", model="from-env")).job.model == "from-env"


def test_a_service_that_is_not_there_to_speak_to(table: Path) -> None:
    """--api chat without a service, and an invalid URL, are refused."""
    assert "needs a service" in refusal(table, api="chat")
    assert "http:// or https://" in refusal(table, base_url="localhost:8000", model="m")


def test_an_unknown_column(table: Path) -> None:
    """A template that names a missing column is refused with a list of the columns, and the one that was meant."""
    assert refusal(table, prompt="{{ qestion }}").endswith("(columns: 'id', 'question'); did you mean {{ question }}?")


def test_a_template_that_fails_on_the_first_row(table: Path) -> None:
    """A template that cannot work is noticed on the first row, before anything is sent."""
    assert refusal(table, prompt="{{ row['nope'] }}").startswith("--prompt: the first row cannot be rendered: ")


def test_templates_and_instructions_from_files(table: Path) -> None:
    """@FILE is read for both, and the settings contain the text."""
    template = table.with_name("p.txt")
    template.write_text("Solve {{ question }}")
    made = plan(table, prompt=f"@{template}", instructions=f"@{template}")
    assert made.settings["prompt"] == made.settings["instructions"] == "Solve {{ question }}"


def test_a_bad_row_is_found_before_anything_is_sent(table: Path) -> None:
    """The whole table is read first: a ragged last row is named by its physical line."""
    table.write_text('id,question\n1,"two\nlines"\n2,x,y\n')
    assert "line 4" in refusal(table)


def test_missing_input(tmp_path: Path) -> None:
    """A missing file is one line."""
    assert "nope.csv" in refusal(tmp_path / "nope.csv")


@pytest.mark.parametrize(
    ("output", "keep", "said"),
    [
        (
            "out.xlsx",
            ["raw", "reasoning"],
            "out.xlsx: .* 32,767 .* a cell of raw \\(--keep\\) is longer; --output with .csv",
        ),
        ("out.xlsx", ["logprobs", "raw"], "a cell of raw or logprobs"),
        ("out.xlsx", ["reasoning"], None),
        ("out.csv", ["raw"], None),
    ],
)
def test_columns_that_excel_may_not_hold(table: Path, output: str, keep: list[str], said: str | None) -> None:
    """A batch that keeps whole replies in a workbook says before the first request that their cells may be too long."""
    made = make_plan(make_job({"keep": keep, **LOCAL, "api": "chat"}), table, Environment(), table.with_name(output))
    notices = [notice for notice in made.notices if "Excel" in notice]
    assert len(notices) == (said is not None)
    assert said is None or re.search(said, notices[0])


def test_a_cell_that_excel_cannot_hold(table: Path) -> None:
    """A cell of the input that is too long for the output's workbook is found before anything is sent."""
    table.write_text(f"id,question\n1,x\n2,{'y' * 32_768}\n")
    with pytest.raises(InputError, match=r"line 3, column 'question': 32,768 characters, .*out\.xlsx .*32,767; choose"):
        make_plan(make_job(LOCAL), table, Environment(), table.with_name("out.xlsx"))
    make_plan(make_job(LOCAL), table, Environment(), table.with_name("out.xlsx"), write_output=False)
    make_plan(make_job(LOCAL), table, Environment(), table.with_name("out.csv"))


def test_a_plan_writes_nothing(table: Path) -> None:
    """Planning leaves the folder as it was."""
    plan(table)
    assert [path.name for path in table.parent.iterdir()] == ["in.csv"]


def test_the_input_is_not_overwritten(table: Path) -> None:
    """An output that is the input is refused."""
    with pytest.raises(InputError, match="is the input file"):
        make_plan(make_job({}), table, Environment(), table)


def test_a_refused_batch_leaves_the_copy_of_a_running_one_alone(tmp_path: Path) -> None:
    """The copy of standard input that a running batch reads stays when a second batch is refused."""
    paths = paths_for(tmp_path / "out.csv")
    paths.incoming.write_text("question\n2 + 2\n", encoding="utf-8")
    with held(paths.lock), pytest.raises(OutputHeld):
        make_plan(make_job({}), "-", Environment(), paths.output)
    assert paths.incoming.exists()


def test_files_are_next_to_the_output() -> None:
    """All files of a batch are next to its output, and their names begin with its name."""
    paths = paths_for(Path("outputs/q.csv"))
    for path in (paths.journal, paths.lock, paths.store, paths.spool):
        assert path.parent == Path("outputs")
        assert path.name.startswith("q.csv.")


def test_limits_are_not_a_change(table: Path) -> None:
    """With another speed, timeout or path it is the same batch; with another setting of the model it is not."""
    before = plan(table, **LOCAL).manifest()
    assert plan(table, **LOCAL, concurrency=3, rpm=9, row_timeout=5, max_attempts=1).manifest() == before
    assert plan(table, **LOCAL, temperature=0.1).manifest() != before
