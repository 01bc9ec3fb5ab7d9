"""Scores by embeddings, from a server of the OpenAI protocol."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from batchrun.errors import BatchrunError, GradingStopped, InputError
from batchrun.job.environment import Environment
from batchrun.scoring import Sample
from batchrun.scoring.evaluate import Bars, ScoringSpec, score_table
from batchrun.scoring.grading.embeddings import EmbeddingsScorer
from batchrun.scoring.grading.grading import Grading
from batchrun.scoring.score_columns import ScoreColumns
from batchrun.scoring.scorers.cosine import CosineScorer
from batchrun.scoring.scorers.registry import make_scorers


def vector(text: str) -> list[float]:
    """Return the counts of a, b and c, so that the cosine is known; the third is negative for texts with `-`."""
    return [float(text.count("a")), float(text.count("b")), -1.0 if "-" in text else float(text.count("c"))]


class Embeddings(BaseHTTPRequestHandler):
    requests: list[dict[str, Any]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.requests.append(body | {"authorization": self.headers["Authorization"], "path": self.path})
        entries = [
            {"object": "embedding", "index": n, "embedding": vector(text)} for n, text in enumerate(body["input"])
        ]
        reply: dict[str, Any] = {"object": "list", "model": body["model"], "data": entries[::-1]}
        if body["model"] == "short":
            reply["data"] = entries[1:]
        status = 400 if body["model"] == "gone" else 200
        if status == 400:
            reply = {"error": {"message": "no such model for secret-key", "type": "invalid_request_error"}}
        data = json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    requests: list[dict[str, Any]] = []
    handler = type("Handler", (Embeddings,), {"requests": requests})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{listening.server_address[1]}/v1", requests
        listening.shutdown()
        thread.join()


def test_the_cosine_of_answer_and_target(server: tuple[str, list[dict[str, Any]]]) -> None:
    """The nearest target counts, a negative cosine and an empty answer are 0, and each text is sent once."""
    url, requests = server
    rows = [("aa", "a"), ("ab", ["b", "c"]), ("a", "b"), ("-", "c"), ("<think>b</think>a", "a"), (" ", "a")]
    with EmbeddingsScorer(CosineScorer("m", url), Environment(api_key="secret-key")) as scorer:
        found = scorer.score_all([Sample(answer, target, {}) for answer, target in rows])
    assert [each.value for each in found] == pytest.approx([1, 0.5**0.5, 0, 0, 1, 0])
    assert [each.explanation for each in found[1:3]] == ["cosine 0.707 with 'b'", "cosine 0.000 with 'b'"]
    assert found[5].explanation == "the answer is empty"
    [request] = requests
    assert sorted(request["input"]) == ["-", "a", "aa", "ab", "b", "c"]
    assert (request["path"], request["authorization"]) == ("/v1/embeddings", "Bearer secret-key")


def test_many_texts_are_sent_in_parts_and_a_threshold_decides(server: tuple[str, list[dict[str, Any]]]) -> None:
    """A request has at most 100 texts; with a threshold the score is 0 or 1."""
    url, requests = server
    samples = [Sample("ab" + "c" * n, "a", {}) for n in range(150)]
    with EmbeddingsScorer(CosineScorer("m", url, 0.5), Environment()) as scorer:
        found = scorer.score_all(samples)
    assert [len(each["input"]) for each in requests] == [100, 51]
    assert [each.value for each in found[:3]] == [1, 1, 0]
    assert found[0].explanation == "cosine 0.707 with 'a'; threshold 0.5"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("gone", "the embeddings of gone failed: .*no such model"),
        ("short", "returned no embedding for some of 2 texts"),
    ],
)
def test_a_server_that_gives_no_embeddings_ends_the_scoring(
    server: tuple[str, list[dict[str, Any]]], model: str, message: str
) -> None:
    """Its refusal is one line without the key."""
    with (
        EmbeddingsScorer(CosineScorer(model, server[0]), Environment(api_key="secret-key")) as scorer,
        pytest.raises(GradingStopped, match=message) as caught,
    ):
        scorer.score(Sample("a", "b", {}))
    assert "secret-key" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_table_is_scored(server: tuple[str, list[dict[str, Any]]], tmp_path: Path) -> None:
    """`grade` gives the scorer its server; without one, or where nothing can be asked, one line says so."""
    path = tmp_path / "t.csv"
    path.write_text("truth,response\na,aa\nb,a\n,a\n", encoding="utf-8")

    def spec(scorer: str, environment: Environment | None) -> ScoringSpec:
        grading = None if environment is None else Grading(environment, run=lambda _: pytest.fail("no grader"))
        return ScoringSpec([scorer], ScoreColumns(target="truth"), grading=grading)

    found = score_table(str(path), spec("cosine:model=m", Environment(base_url=server[0])), Bars())
    assert (found.summaries[0].overall.estimate.mean, found.summaries[0].reasons) == (0.5, {"no target": 1})
    with pytest.raises(InputError, match="no API key"):
        score_table(str(path), spec("cosine:model=m", Environment()), Bars())
    with pytest.raises(BatchrunError, match="works in batchrun score, compare and run only"):
        score_table(str(path), spec("cosine:model=m", None), Bars())


def test_a_dry_run_counts_the_requests(server: tuple[str, list[dict[str, Any]]], tmp_path: Path) -> None:
    """Requests and texts are as many as a scoring sends; they are not priced, and a missing key is only named."""
    url, requests = server
    path = tmp_path / "t.csv"
    rows = [f"a{n},b{n}" for n in range(300)]
    path.write_text("\n".join(["truth,response", *rows, "a0,", ",b"]), encoding="utf-8")
    told: list[str] = []

    def spec(environment: Environment) -> ScoringSpec:
        grading = Grading(environment, run=lambda _: pytest.fail("no grader"), on_no_key=told.append)
        return ScoringSpec(["cosine:model=m"], ScoreColumns(target="truth"), grading=grading)

    costs = spec(Environment()).costs(str(path), lambda *_: pytest.fail("no grader"))
    assert requests == []
    assert [line.split(" (")[0] for line in told] == ["--scorer cosine: no API key"]
    score_table(str(path), spec(Environment(base_url=url)), Bars())
    [found] = costs.embeddings
    assert (found.requests, found.texts) == (len(requests), sum(len(each["input"]) for each in requests))
    assert list(costs.lines()) == [f"embeddings cosine for {path} · 7 requests with 600 texts to m · not priced"]
    assert costs.cost_usd is None


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("cosine", "expected an embedding model"),
        ("cosine:model=m,url=localhost:1", "expected the base URL of a server"),
        ("cosine:model=m,threshold=2", "expected a number from 0 to 1"),
    ],
)
def test_wrong_options(spec: str, message: str) -> None:
    """An option that cannot be used is refused in one line."""
    with pytest.raises(InputError, match=message):
        make_scorers([spec])
