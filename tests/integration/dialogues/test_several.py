"""Several settings in one batch, epochs and duplicates: order, columns, and the runs of later additions."""

from __future__ import annotations

from collections import Counter

from batchrun.server.responders.base import Conversation, ResponderError
from tests.integration.dialogues.bench import MODES, READ, Bench, each_protocol

MODELS = ("--model", "a", "--model", "b")


def asked(bench: Bench) -> Counter[tuple[str, str]]:
    """Return (model, question) → number of completions."""
    return Counter((each.model, each.messages[-1].text) for each in bench.responder.asked)


def job(bench: Bench, text: str) -> None:
    """Run a job file over the same input."""
    bench.model = None
    bench.job(text)


@each_protocol
def test_models_and_epochs(bench: Bench, mode: str) -> None:
    """Every row appears once per model and epoch, grouped in input order, each with its own run."""
    bench.ask("one", "two")
    bench.model = None
    bench.resumed(*MODES[mode], *MODELS, "--epochs", "2")
    rows = bench.rows()
    assert [(row["question"], row["axis_model"], row["epoch"], row["model"], row["response"]) for row in rows] == [
        (question, model, epoch, model, question)
        for question in ("one", "two")
        for model in ("a", "b")
        for epoch in ("1", "2")
    ]
    assert list(rows[0])[:3] == ["question", "axis_model", "epoch"]
    assert len({row["run_id"] for row in rows}) == 8


@each_protocol
def test_killed_with_models_and_epochs(bench: Bench, mode: str) -> None:
    """A killed batch with models and epochs runs each combination of each row once."""
    bench.ask("one", "two")
    bench.model = None
    options = (*MODES[mode], *MODELS, "--epochs", "2", "--concurrency", "3")
    bench.responder.held = lambda _: len(bench.responder.asked) >= 4
    bench.killed(lambda: len(bench.responder.asked) >= 4, *options)
    bench.responder.held = lambda _: False
    bench.resumed(*options)
    assert asked(bench) == {(model, question): 2 for model in "ab" for question in ("one", "two")}
    assert {row["status"] for row in bench.rows()} == {"completed"}


def test_more_models_and_epochs_later(bench: Bench) -> None:
    """Only added models and epochs are run; removed ones only leave the table."""
    bench.ask("one", "two")
    bench.model = None
    chat = MODES["chat"]
    bench.resumed(*chat, *MODELS)
    assert len(bench.responder.asked) == 4
    bench.resumed(*chat, *MODELS, "--model", "c")
    assert asked(bench) == {(model, question): 1 for model in "abc" for question in ("one", "two")}
    bench.resumed(*chat, *MODELS, "--model", "c", "--epochs", "2")
    assert asked(bench) == {(model, question): 2 for model in "abc" for question in ("one", "two")}
    bench.resumed(*chat, *MODELS)
    assert [row["axis_model"] for row in bench.rows()] == ["a", "b", "a", "b"]
    assert len(bench.responder.asked) == 12


def test_a_matrix_of_prompts_and_parameters(bench: Bench) -> None:
    """The last axis changes fastest, and every combination is run with its own settings."""
    bench.ask("x")
    job(
        bench,
        'model = "m"\napi = "chat"\n[matrix]\nprompt = ["one {{ question }}", "two {{ question }}"]\n'
        "temperature = [0.0, 1.0]\n",
    )
    bench.resumed()
    rows = bench.rows()
    assert [(row["axis_prompt"], row["axis_temperature"], row["response"]) for row in rows] == [
        (f"{word} {{{{ question }}}}", heat, f"{word} x") for word in ("one", "two") for heat in ("0.0", "1.0")
    ]
    sent = Counter((each.messages[-1].text, each.parameters["temperature"]) for each in bench.responder.asked)
    assert sent == {(f"{word} x", heat): 1 for word in ("one", "two") for heat in (0.0, 1.0)}


@each_protocol
def test_turns_of_models(bench: Bench, mode: str) -> None:
    """Turns continue the thread of their own combination."""
    bench.ask("one")
    bench.model = None
    bench.resumed(*MODES[mode], *MODELS, "--prompt", "{{ question }}", "--prompt", "<said> {{ axis_model }}")
    assert [row["response_2"] for row in bench.rows()] == ["one / one a", "one / one b"]


@each_protocol
def test_duplicates_are_asked_once(bench: Bench, mode: str) -> None:
    """Equal rows get one answer, which one of them pays for; a kill in between changes nothing."""
    bench.ask("one", "two", "one", "one", "two")
    options = (*MODES[mode], "--dedupe")
    bench.responder.held = lambda conversation: conversation.messages[-1].text == "two"
    bench.killed(lambda: bench.journal("SELECT count(*) FROM outcomes") == [(1,)], *options)
    bench.responder.held = lambda _: False
    summary = bench.resumed(*options)
    rows = bench.rows()
    assert [row["response"] for row in rows] == ["one", "two", "one", "one", "two"]
    assert [row["prompt_tokens"] for row in rows] == [str(READ), str(READ), "0", "0", "0"]
    assert (len(bench.responder.asked), summary["asked_alike"]) == (2, 3)
    assert (summary["completed"], summary["prompt_tokens"]) == (5, 2 * READ)


def test_duplicates_have_the_turns_of_the_row_that_was_asked(bench: Bench) -> None:
    """The answers of all turns are in the duplicate's row too."""
    bench.ask("one", "one")
    bench.resumed(*MODES["chat"], "--dedupe", "--prompt", "{{ question }}", "--prompt", "more")
    first, second = bench.rows()
    assert [second[name] for name in ("response", "response_1", "response_2")] == ["more", "one", "more"]
    assert (first["prompt_tokens"], second["prompt_tokens"]) == (str(2 * READ), "0")
    assert len(bench.responder.asked) == 2


def test_a_duplicate_of_a_row_that_failed(bench: Bench) -> None:
    """A duplicate of a failed row fails too; after a retry both have the answer."""
    bench.ask("one", "one")
    refused = [True]

    def refuse(conversation: Conversation) -> bool:
        if refused:
            raise ResponderError("no", code="invalid_prompt", status_code=400)
        return False

    bench.responder.held = refuse
    bench.resumed(*MODES["assistants"], "--dedupe", exit_code=3)
    assert [row["status"] for row in bench.rows()] == ["failed", "failed"]
    assert len(bench.responder.asked) == 1
    refused.clear()
    bench.resumed(*MODES["assistants"], "--dedupe", "--retry-failed")
    assert [row["response"] for row in bench.rows()] == ["one", "one"]
    assert len(bench.responder.asked) == 2


def test_epochs_are_not_duplicates(bench: Bench) -> None:
    """Every epoch is run, but duplicates within an epoch are not."""
    bench.ask("one", "one")
    bench.resumed(*MODES["chat"], "--dedupe", "--epochs", "3")
    assert len(bench.responder.asked) == 3
    assert [(row["epoch"], row["response"]) for row in bench.rows()] == [(str(n), "one") for n in (1, 2, 3)] * 2
