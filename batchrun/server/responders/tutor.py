"""The responder `tutor`: it solves written-out problems without a language model, and refuses all others."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any

from batchrun.server.responders.algebra import NotUnderstood, Solution, TooLarge, asks_to_explain, solve_question
from batchrun.server.responders.base import Conversation, Finish, Message, Part, ResponderError, TextDelta, ToolCall
from batchrun.server.responders.pieces import cut_to_tokens, in_words

__all__ = ["TutorResponder"]

_WHAT_IT_IS = "batchrun's offline tutor, not a language model"
_CANNOT = (
    f"I can't answer that: I am {_WHAT_IT_IS}, and only do arithmetic, percentages and equations in one "
    "unknown that are written out."  # without numbers, which scorers would read
)
_NOTHING_SOLVED = (
    "There is nothing to explain yet, as this conversation holds no problem that I solved; "
    f"I am {_WHAT_IT_IS}, and only do arithmetic, percentages and equations in one unknown."
)
_MAX_STEPS = 12


class TutorResponder:
    """Answers arithmetic, percentages and equations exactly, and anything else with a refusal of one sentence.

    It calls a tool only if the caller requires a call (`required`, or a function by name) and the function has no
    required parameters, since the tutor could not fill them in.
    """

    name = "tutor"
    models: tuple[str, ...] = ()
    own_model = "tutor"

    async def respond(self, conversation: Conversation) -> AsyncIterator[Part]:
        """Yield the answer word by word, then a Finish; see `Responder.respond`.

        Raises:
            ResponderError: `invalid_prompt`: `response_format` requires a form that the tutor cannot produce.
        """
        call = _demanded_call(conversation)
        if call is not None:
            yield call
            yield Finish("tool_calls")
            return
        text, refusal = _answer(conversation.messages)
        if not refusal:
            text = _formatted(text, conversation.response_format)
        shortened = cut_to_tokens(text, conversation.max_completion_tokens)
        for piece in in_words(shortened):
            yield TextDelta(piece, refusal)
        yield Finish("length" if shortened != text else "stop")

    async def aclose(self) -> None:
        """Do nothing: the responder holds no resources."""


def _answer(messages: tuple[Message, ...]) -> tuple[str, bool]:
    """Return the answer's text, and whether it is a refusal."""
    questions = [m.text for m in messages if m.role == "user"]
    if not questions:
        return _CANNOT, True
    last = questions[-1]
    if asks_to_explain(last):
        for earlier in reversed(questions[:-1]):
            solution = _solved(earlier)
            if isinstance(solution, Solution):
                return _explained(solution), False
        return _NOTHING_SOLVED, True
    solution = _solved(last)
    if isinstance(solution, Solution):
        return solution.answer, False
    if solution is None:
        return _CANNOT, True
    return f"I can't solve that, because {solution}; I am {_WHAT_IT_IS}.", True


def _solved(text: str) -> Solution | str | None:
    """Return the solution, the reason why there is none, or None if the text does not contain a problem."""
    try:
        return solve_question(text)
    except (NotUnderstood, TooLarge) as exc:
        return str(exc)


def _explained(solution: Solution) -> str:
    steps = list(solution.steps[:_MAX_STEPS])
    if len(solution.steps) > _MAX_STEPS:
        steps.append(f"and so on, {len(solution.steps) - _MAX_STEPS} more of the kind")
    numbered = "; ".join(f"{n}. {step}" for n, step in enumerate(steps, 1))
    text = f"For {solution.problem}: {numbered}. The result is {solution.result}"
    return f"{text}; to check it, {solution.check}." if solution.check else f"{text}."


def _demanded_call(conversation: Conversation) -> ToolCall | None:
    choice = conversation.tool_choice
    if conversation.messages and conversation.messages[-1].role == "tool":
        return None  # the output has arrived: another call would repeat forever
    if isinstance(choice, Mapping):
        required_name = choice.get("function", {}).get("name")
    elif choice == "required":
        required_name = None
    else:
        return None
    for tool in conversation.tools:
        function = tool.get("function", {})
        parameters = function.get("parameters") or {}
        if (required_name is None or function.get("name") == required_name) and not parameters.get("required"):
            return ToolCall(f"call_{uuid.uuid4().hex[:24]}", str(function["name"]), "{}")
    return None


def _formatted(answer: str, response_format: Mapping[str, Any] | None) -> str:
    kind = (response_format or {}).get("type", "text")
    if response_format is None or kind == "text":
        return answer
    if kind == "json_schema" and not _allows_answer(response_format.get("json_schema", {}).get("schema", {})):
        raise ResponderError(
            'The tutor can only answer as {"answer": "..."}, which the given JSON schema does not allow.',
            code="invalid_prompt",
            status_code=400,
        )
    return json.dumps({"answer": answer}, ensure_ascii=False)


def _allows_answer(schema: Mapping[str, Any]) -> bool:
    """Return whether {"answer": text} certainly matches the schema. Any keyword beyond the plain ones means no."""
    plain = {"$schema", "type", "properties", "required", "additionalProperties", "title", "description"}
    if not plain.issuperset(schema) or schema.get("type", "object") != "object":
        return False
    properties = schema.get("properties", {})
    answer = properties.get("answer")
    if not set(schema.get("required", ())) <= {"answer"}:
        return False
    if answer is None:
        return schema.get("additionalProperties", True) in (True, {})
    return {"type", "title", "description"}.issuperset(answer) and answer.get("type", "string") == "string"
