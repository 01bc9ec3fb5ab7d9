"""Thoughts that a server leaves in the text of the answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.thoughts import split_thought, without_reasoning


@pytest.mark.parametrize(
    ("text", "answer", "thought"),
    [
        ("<think>\nLet me see.\n</think>\n\nIt is 4.", "It is 4.", "Let me see."),
        ("\n <think>Hm.</think>4", "4", "Hm."),
        ("<thinking>Hm.</thinking> 4", "4", "Hm."),
        ("<thought>Hm.</thought>4", "4", "Hm."),
        ("<think></think>\n\n4", "4", ""),
        ("<think>a</think>\n<think>b</think>\n4", "4", "a\n\nb"),
        ('<think>{"a": 9}? No.</think>{"a": 1}', '{"a": 1}', '{"a": 9}? No.'),
        ("<think>a</think>\n\n    indented\nmore", "    indented\nmore", "a"),
        ("<think>a</think>b</think>\nc", "b</think>\nc", "a"),
        # Cut off before the answer.
        ("<think>", "", ""),
        ("<think>Let me", "", "Let me"),
        ("<think>a</thinking>b", "", "a</thinking>b"),
        # The chat template wrote the beginning into the prompt.
        ("Let me see.\n</think>\n\nIt is 4.", "It is 4.", "Let me see."),
        ("</think>\n4", "4", ""),
        ("Let me see.\n</think>", "", "Let me see."),
        # Texts about such tags.
        ("Models write <think>a</think> before b.", None, ""),
        ("The end is </think>, as in\nx </think>\n.", None, ""),
        ("For example:\n<think>\na\n</think>\nb", None, ""),
        ("<table><th>a</th></table>", None, ""),
        ("<thinks>a</thinks>", None, ""),
        ("", None, ""),
    ],
)
def test_thoughts_are_cut_off(text: str, answer: str | None, thought: str) -> None:
    """A thought at the beginning is separated, even one without an end or a beginning; other texts stay as they are."""
    assert split_thought(text) == (text if answer is None else answer, thought)


@pytest.mark.parametrize(
    ("text", "searched"),
    [
        ("First B.</think>\n\nThe answer is C.", "\n\nThe answer is C."),
        ("<reasoning>B?</reasoning><answer>C</answer>", "<answer>C</answer>"),
        ("The end is </think>, as in\nx </think>\n.", "\n."),
        ("The answer is C.", "The answer is C."),
    ],
)
def test_scorers_search_less_than_the_answer(text: str, searched: str) -> None:
    """An end of a thought in the middle of a line stays in the answer, and scorers read nothing before it."""
    assert split_thought(text) == (text, "")
    assert without_reasoning(text) == searched


@given(st.lists(st.sampled_from(["<think>", "</think>", "<thinking>", "\n", " ", "a", "</thought>"])).map("".join))
def test_an_answer_is_the_end_of_the_text(text: str) -> None:
    """What remains is the end of the text; a text that begins with a thought has none at the beginning any more."""
    answer, thought = split_thought(text)
    assert text.endswith(answer)
    assert thought in text or "<think" in text
    if text.startswith("<think"):
        assert not answer.lstrip().startswith(("<think>", "<thinking>"))


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think></think>" * 500_000, ""),
        ("\n" * 2_000_000 + "</think>\n", ""),
        (" " * 2_000_000 + "<th", " " * 2_000_000 + "<th"),
    ],
    ids=["many thoughts", "blank lines", "spaces"],
)
def test_long_texts_are_read_once(text: str, answer: str) -> None:
    """Megabytes take less than a second; a time that grew with the square of the length would end in the timeout."""
    assert split_thought(text) == (answer, "")
