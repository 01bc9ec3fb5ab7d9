"""docs/deploy as it is: its files are read by the tools that they are for, as far as these are here, and their commands run."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from batchrun.cli import EXIT_CODES
from batchrun.job.options import Job
from tests.support.command import batchrun
from tests.support.documented import refused
from tests.support.markdown import code_blocks
from tests.support.rows import read_csv, write_csv

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "docs" / "deploy"
GUIDE = ROOT / "docs" / "guides" / "nightly.md"
BIN = Path(sys.executable).parent
CALL = re.compile(r"(?<![\w.-])(?:exec )?(?:\S+/bin/)?batchrun (?=[a-z])([^\n]*)")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of the guide's nightly job, without its monitor."""
    write_csv(tmp_path / "questions.csv", [{"id": key, "question": f"What is {key} + 1?"} for key in "123"])
    job = [line for line in code_blocks(GUIDE, "toml")[0].splitlines() if not line.startswith("ping =")]
    (tmp_path / "job.toml").write_text("\n".join(job), encoding="utf-8")
    (tmp_path / "nightly.env").write_text("OPENAI_API_KEY=any\n", encoding="utf-8")
    (tmp_path / ".venv").symlink_to(BIN.parent)
    return tmp_path


def documents(name: str) -> list[dict[Any, Any]]:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    return list(yaml.safe_load_all((DEPLOY / name).read_text(encoding="utf-8")))


def run_step(step: dict[str, Any], folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a step of a workflow as GitHub does; it sees its own variables only, an unset secret as an empty text."""
    environment = {name: variables.get(name, "") for name in step.get("env", {})}
    environment |= {name: value for name, value in variables.items() if name == "OPENAI_BASE_URL"}
    environment |= {"PATH": f"{BIN}:/usr/bin:/bin", "GITHUB_STEP_SUMMARY": str(folder / "summary.md")}
    command = ["/bin/sh", "-e", "-c", step["run"]]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def steps_of(name: str, job: str) -> dict[str, dict[str, Any]]:
    """Return the steps of a workflow's job that have a name."""
    (workflow,) = documents(name)
    return {step["name"]: step for step in workflow["jobs"][job]["steps"] if "name" in step}


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile: keyword and the rest."""
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(keyword, " ".join(rest.split())) for keyword, _, rest in (line.partition(" ") for line in lines)]


def test_every_file_is_on_the_page() -> None:
    """The page's table links to each file of the folder, and to nothing else."""
    page = (DEPLOY / "index.md").read_text(encoding="utf-8")
    table = "\n".join(line for line in page.splitlines() if line.startswith("| "))
    assert set(re.findall(r"\]\(([^)]*)\)", table)) == {path.name for path in DEPLOY.iterdir()} - {"index.md"}


def test_every_command_is_valid() -> None:
    """Each call of batchrun in the folder names a command and options that exist."""
    calls = [
        (path.name, call)
        for path in DEPLOY.iterdir()
        for call in CALL.findall(path.read_text(encoding="utf-8").replace("\\\n", " "))
        if path.name not in ("Dockerfile", "rayjob.yaml") and (path.suffix != ".md" or call.startswith("run "))
    ]
    assert {name for name, _ in calls} == {
        "crontab", "evaluation.yml", "index.md", "nightly.service", "nightly.yml"
    }  # fmt: skip
    found = {call: refused(shlex.split(call.split(">>")[0].rstrip("`"))) for _, call in calls}
    assert {call: reason for call, reason in found.items() if reason} == {}


def test_the_command_of_the_ray_job_is_valid() -> None:
    """Its entrypoint is one call of batchrun, with as many workers as the cluster has CPUs for them."""
    spec = documents("rayjob.yaml")[0]["spec"]
    program, *arguments = shlex.split(spec["entrypoint"])
    assert program == "batchrun"
    assert refused(arguments) == ""
    (group,) = spec["rayClusterSpec"]["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    cpus = group["replicas"] * int(container["resources"]["requests"]["cpu"])
    assert cpus == int(arguments[arguments.index("--workers") + 1])


def test_an_invalid_command_is_found() -> None:
    """The check refuses commands and options that do not exist, and options without a value."""
    assert refused(["start", "job.toml"]) == "no command start"
    assert "--resume" in refused(["run", "job.toml", "--resume"])
    assert "--grace" in refused(["run", "job.toml", "--grace"])


def test_the_crontab_is_the_line_of_the_guide() -> None:
    """The guide's line, which its own test runs, is the file."""
    assert (DEPLOY / "crontab").read_text(encoding="utf-8") == code_blocks(GUIDE, "crontab")[0]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_takes_the_units(folder: Path, tmp_path_factory: pytest.TempPathFactory, service_url: str) -> None:
    """`systemd-analyze verify` accepts the service and the timer, and the service's command runs."""
    units = tmp_path_factory.mktemp("units")
    for name in ("nightly.service", "nightly.timer"):
        text = (DEPLOY / name).read_text(encoding="utf-8").replace("/srv/nightly", str(folder))
        (units / name).write_text(text, encoding="utf-8")
    verify = ["systemd-analyze", "verify", "--man=no", str(units / "nightly.service"), str(units / "nightly.timer")]
    done = subprocess.run(verify, capture_output=True, text=True, check=False)
    complaints = [line for line in done.stderr.splitlines() if "nightly." in line]
    assert (done.returncode, complaints) == (0, [])
    (command,) = re.findall(r"^ExecStart=(.*)$", (units / "nightly.service").read_text(encoding="utf-8"), re.M)
    environment = {
        "PATH": "/usr/bin:/bin",
        "OPENAI_API_KEY": "any",
        "OPENAI_BASE_URL": service_url,
        "BATCHRUN_MODEL": "m",
    }
    assert (
        subprocess.run(command.split(), cwd=folder, env=environment, capture_output=True, check=False).returncode == 0
    )


def test_the_nightly_workflow_runs(folder: Path, service_url: str) -> None:
    """The workflow has a schedule and keeps the journal between runs; its step runs with the variables that it names."""
    (workflow,) = documents("nightly.yml")
    # YAML 1.1 reads the key `on` as true; GitHub does not.
    assert workflow[True]["schedule"][0]["cron"] == "15 2 * * *"
    steps = workflow["jobs"]["ask"]["steps"]
    kept = [step["with"]["path"] for step in steps if step.get("uses", "").startswith("actions/cache/")]
    assert kept == ["outputs", "outputs"]
    variables = {"OPENAI_API_KEY": "any", "BATCHRUN_MODEL": "m", "OPENAI_BASE_URL": service_url}
    done = run_step(steps_of("nightly.yml", "ask")["ask"], folder, **variables)
    assert done.returncode == 0, done.stderr
    assert [row["status"] for row in read_csv(folder / "outputs" / "answers.csv")] == ["completed"] * 3


@pytest.mark.parametrize(("targets", "key", "exit_code"), [("2 3 4", "any", 0), ("2 3 5", "any", 7), ("2 3 4", "", 2)])
def test_a_pull_request_is_evaluated(tmp_path: Path, tutor_url: str, targets: str, key: str, exit_code: int) -> None:
    """A score below the bar fails the check with 7, a pull request without secrets with 2; report and bars are kept."""
    folder = tmp_path / "evaluation"
    folder.mkdir()
    shutil.copy(DEPLOY / "evaluation.toml", folder / "job.toml")
    rows = [
        {"id": str(number), "topic": "sums", "question": f"What is {number} + 1?", "answer": target}
        for number, target in enumerate(targets.split(), 1)
    ]
    write_csv(folder / "questions.csv", rows)
    steps = steps_of("evaluation.yml", "evaluate")
    variables = {"OPENAI_API_KEY": key} | ({"OPENAI_BASE_URL": tutor_url} if key else {})
    done = run_step(steps["evaluate"], tmp_path, **variables)
    assert done.returncode == exit_code, done.stderr
    assert run_step(steps["summary"], tmp_path).returncode == 0
    assert (tmp_path / "summary.md").exists() == bool(key)
    if exit_code == 7:
        assert run_step(steps["report"], tmp_path).returncode == 0
        kept = documents("evaluation.yml")[0]["jobs"]["evaluate"]["steps"][-1]["with"]["path"].split()
        assert all((tmp_path / name).stat().st_size for name in kept)


def test_kubernetes_runs_the_job(folder: Path, service_url: str) -> None:
    """The container's arguments run a job on the volume, as a user without rights, and no two nights overlap."""
    claim, cronjob = documents("cronjob.yaml")
    job = cronjob["spec"]["jobTemplate"]["spec"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    assert (claim["kind"], cronjob["kind"], cronjob["spec"]["concurrencyPolicy"]) == (
        "PersistentVolumeClaim", "CronJob", "Forbid"
    )  # fmt: skip
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    user = dict(instructions())["USER"]
    assert user == f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}"
    assert pod["terminationGracePeriodSeconds"] > Job().grace
    (folder / "inputs").mkdir()
    (folder / "questions.csv").rename(folder / "inputs" / "questions.csv")
    text = (folder / "job.toml").read_text(encoding="utf-8").replace('"outputs/', '"../outputs/')
    (folder / "inputs" / "job.toml").write_text(text, encoding="utf-8")
    variables = {"OPENAI_API_KEY": "any", "OPENAI_BASE_URL": service_url, "BATCHRUN_MODEL": "m"}
    assert batchrun(folder, *container["args"], **variables).returncode == 0
    assert (folder / "outputs" / "answers.csv").exists()


def test_kubernetes_retries_what_a_second_pod_can_mend() -> None:
    """Every exit code of batchrun fails the job, but success, a locked output and an interruption."""
    job = documents("cronjob.yaml")[1]["spec"]["jobTemplate"]["spec"]
    rule = job["podFailurePolicy"]["rules"][0]
    assert (rule["action"], rule["onExitCodes"]["containerName"]) == ("FailJob", "batchrun")
    assert job["template"]["spec"]["restartPolicy"] == "Never", "a podFailurePolicy needs it"
    codes = {int(code) for each in EXIT_CODES for code in each.code.split(", ")}
    assert set(rule["onExitCodes"]["values"]) == codes - {0, 6, 129, 130, 143}


def test_the_image_has_what_the_wheel_is_built_from() -> None:
    """The Dockerfile copies the package and all that pyproject.toml names for a build, and nothing that is not there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    copied = [rest.split()[:-1] for keyword, rest in instructions() if keyword == "COPY" and "--from" not in rest]
    sources = {source for sources in copied for source in sources}
    assert all((ROOT / source).exists() for source in sources)
    needed = {"pyproject.toml", "batchrun", project["readme"], *project["license-files"]}
    assert {Path(name).parts[0] for name in needed} == sources


def test_the_image_runs_as_a_user_without_rights() -> None:
    """The last stage starts batchrun as a numbered user, with volumes for inputs and outputs below its folder."""
    last = instructions()[max(i for i, (keyword, _) in enumerate(instructions()) if keyword == "FROM") :]
    stage = dict(last)
    uid, _, gid = stage["USER"].partition(":")
    assert int(uid) > 0
    assert int(gid) > 0
    assert json.loads(stage["ENTRYPOINT"]) == ["batchrun"]
    assert json.loads(stage["VOLUME"]) == [f"{stage['WORKDIR']}/inputs", f"{stage['WORKDIR']}/outputs"]
