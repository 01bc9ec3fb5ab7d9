"""docs/guides/recipes.md: every job file runs and gives the output that the page shows.

`UPDATE_DOCS=1` (with `-n 0`) writes files, tables and printed lines into the page; the text between them is written by hand.
"""

from __future__ import annotations

import csv
import os
import re
import shutil
import tomllib
from datetime import datetime
from pathlib import Path

import pytest

from batchrun.engine.dialogue import CORRECTION
from batchrun.structured import SchemaMismatch, Structure
from tests.support.command import batchrun
from tests.support.page_reader import PageReader, rows_of
from tests.support.sandbox import SANDBOX

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "guides" / "recipes.md"
SECTION = re.compile(r"^## ", re.M)


def sections() -> list[str]:
    """Return the recipes, each from its heading on."""
    return SECTION.split(PAGE.read_text(encoding="utf-8"))[1:]


def title(section: str) -> str:
    return section.partition("\n")[0]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with a copy of inputs/, in which the commands run."""
    shutil.copytree(ROOT / "inputs", tmp_path / "inputs")
    return tmp_path


def repository_file(name: str, _shown: str) -> str:
    """Return the block that the page should have for a file of inputs/."""
    language = {".toml": "toml", ".py": "python", ".json": "json"}[Path(name).suffix]
    return f"```{language}\n{(ROOT / 'inputs' / name).read_text(encoding='utf-8')}```\n"


def protocols() -> list[tuple[str, str, str]]:
    """Return (job, api, cell of the page's table) for the protocols that the jobs do not use by default."""
    lines = re.findall(r"^\| \[.*\|$", PAGE.read_text(encoding="utf-8"), re.M)
    found = []
    for line in lines:
        names, _, _, *cells = (part.strip() for part in line.strip("|").split("|"))
        jobs = [name for link in re.findall(r"\[(.*?)\]", names) for name in link.split(", ")]
        found += [
            (job, api, support) for job in jobs for api, support in zip(("responses", "chat"), cells, strict=True)
        ]
    return found


@pytest.mark.parametrize("section", sections(), ids=title)
def test_the_page_shows_what_happens(section: str, checkout: Path) -> None:
    """Each job file runs with its command, prints the lines on the page and writes the table on the page."""
    if "code.toml -->" in section and SANDBOX is None:
        pytest.skip("this machine has no sandbox to run code in")
    found = PageReader(checkout, repository_file).read(section)
    if os.environ.get("UPDATE_DOCS"):
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(page.replace(section, found), encoding="utf-8")
    else:
        assert found == section


def test_every_job_is_a_recipe() -> None:
    """Each job file of inputs/ is on the page, and in its table of protocols if it can be run."""
    jobs = {path.stem for path in (ROOT / "inputs").glob("*.toml") if not path.stem.endswith(".script")}
    assert {Path(name).stem for name in re.findall(r"<!-- file: (\S+) -->", PAGE.read_text("utf-8"))} >= jobs
    assert {job for job, _, _ in protocols()} == jobs - {"base", "judge"}


@pytest.mark.parametrize(("job", "api", "support"), protocols())
def test_a_recipe_speaks_the_protocols_that_the_page_names(
    job: str, api: str, support: str, checkout: Path, tutor_url: str
) -> None:
    """Every row completes over another protocol, or one line refuses it before anything is sent."""
    options = ["--api", api, "-o", "outputs/other.csv"]
    if "script" not in tomllib.loads((checkout / "inputs" / f"{job}.toml").read_text(encoding="utf-8")):
        options += ["--base-url", tutor_url, "--model", "tutor"]
    if job == "threads-more":
        assert batchrun(checkout, "run", "inputs/threads.toml", *options[:2], *options[4:]).returncode == 0
    done = batchrun(checkout, "run", f"inputs/{job}.toml", *options)
    if support == "yes":
        rows = rows_of(checkout / "outputs" / "other.csv")
        # Reached as a service, the tutor refuses as any service does.
        refused = [row for row in rows if row[kind(job, "error_type")] == "refusal"]
        assert all(row[kind(job, "status")] == ("incomplete" if row in refused else "completed") for row in rows)
        assert len(refused) < len(rows)
        assert done.returncode == (3 if refused else 0), done.stderr
    else:
        assert done.returncode == 2
        assert (done.stderr.count("\n"), api in done.stderr) == (1, True)
        assert not (checkout / "outputs" / "other.csv").exists()


def kind(job: str, column: str) -> str:
    return f"more_{column}" if job == "threads-more" else column


def test_a_nightly_job_runs_only_new_and_changed_rows(checkout: Path) -> None:
    """After the table is sorted, shortened, extended and edited, only the new and the changed row are run."""
    assert batchrun(checkout, "run", "inputs/nightly.toml").returncode == 0
    path = checkout / "inputs" / "questions.csv"
    rows = list(reversed(rows_of(path)))[1:]
    rows[0]["question"] = "What is 3 * 3?"
    rows.append({**rows[0], "id": "new", "question": "What is 4 * 4?"})
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    done = batchrun(checkout, "run", "inputs/nightly.toml", "--json")
    assert done.facts()["finished_before"] == len(rows) - 2
    answers = rows_of(checkout / "outputs" / "nightly.csv")
    assert [(answers[place]["id"], answers[place]["response"]) for place in (0, -1)] == [
        (rows[0]["id"], "3 * 3 = 9."),
        ("new", "4 * 4 = 16."),
    ]


def test_every_day_has_its_own_output(checkout: Path) -> None:
    """`{date}` stands for today, in this machine's time zone."""
    before = datetime.now().date()
    assert batchrun(checkout, "run", "inputs/daily.toml").returncode == 0
    written = [path.parent.name for path in checkout.glob("outputs/*/daily.csv")]
    assert written in ([f"{before}"], [f"{datetime.now().date()}"])


def test_added_combinations_alone_are_run(checkout: Path) -> None:
    """docs/guides/dialogues.md: more epochs and further values on an axis run only new combinations, which have their own keys."""
    path = checkout / "inputs" / "matrix.toml"
    known = 0
    for epochs, models, rows in (("1", '["large"]', 12), ("2", '["large"]', 24), ("2", '["small", "large"]', 48)):
        path.write_text(re.sub(r"model = .*", f"model = {models}", path.read_text("utf-8")), encoding="utf-8")
        done = batchrun(checkout, "run", "inputs/matrix.toml", "--epochs", epochs, "--json")
        summary = done.facts()
        assert (summary["completed"], summary["finished_before"]) == (rows, known), done.stderr
        known = rows
    shown = batchrun(checkout, "show", "outputs/matrix.csv", "gsm8k-0015|model=small|epoch=2")
    assert "100 - 20 - 25 = 55" in shown.stdout, shown.stderr


def test_the_text_of_a_correction() -> None:
    """docs/guides/structured.md shows the correction that a model receives."""
    page = (ROOT / "docs" / "guides" / "structured.md").read_text(encoding="utf-8")
    items = {"type": "array", "items": {"type": "object", "properties": {"price": {"type": "number"}}}}
    schema = {"type": "object", "properties": {"total": {"type": "number"}, "items": items}, "required": ["total"]}
    with pytest.raises(SchemaMismatch) as caught:
        Structure.of_schema(schema).read('{"items": [{"price": "ten"}]}')
    assert f"```text\n{CORRECTION.format(problem=caught.value)}\n```" in page


def test_a_rehearsal_names_the_script_as_its_model(checkout: Path) -> None:
    """If a script answers, the column `model` has `script` and not the tutor or a model."""
    assert batchrun(checkout, "run", "inputs/schema.toml").returncode == 0
    assert {row["model"] for row in rows_of(checkout / "outputs" / "schema.csv")} == {"script"}


def test_an_option_below_the_turns_is_refused_with_its_place(checkout: Path) -> None:
    """TOML reads a key below [[turns]] as a part of the turn: the message gives its right place."""
    path = checkout / "inputs" / "turns.toml"
    path.write_text(path.read_text(encoding="utf-8") + 'model = "m"\n', encoding="utf-8")
    done = batchrun(checkout, "run", "inputs/turns.toml")
    assert done.returncode == 2
    assert "turn 3 has the unknown key 'model'" in done.stderr
    assert "options come before the first [[turns]]" in done.stderr


def test_every_input_is_small_and_has_a_stated_origin() -> None:
    """inputs/README.md names each file; no table has 30 rows or more."""
    folder = ROOT / "inputs"
    readme = (folder / "README.md").read_text(encoding="utf-8")
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    named = {str(path) for path in files if "__pycache__" not in path.parts and path.name != "README.md"}
    assert {name for name in named if f"`{name}`" not in readme} == set()
    assert all(len(rows_of(path)) < 30 for path in folder.rglob("*.csv"))
