"""EmbeddingsScorer: the cosine of the embeddings of answer and target, from any OpenAI-compatible server."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from batchrun.errors import GradingStopped, InputError
from batchrun.job.environment import Environment
from batchrun.scoring.grading.grading_cost import EmbeddingsCost
from batchrun.scoring.scorers.base import NamedScorer, Sample, Score, Scorer
from batchrun.scoring.scorers.cosine import CosineScorer
from batchrun.scoring.scorers.targets import targets_of
from batchrun.scoring.table import ScoredTable
from batchrun.thoughts import without_reasoning

if TYPE_CHECKING:
    import openai

__all__ = ["EmbeddingsScorer", "check_embeddings", "embeddings_cost"]

_TEXTS_PER_REQUEST: Final = 100
_RETRIES: Final = 6
_TIMEOUT_S: Final = 120.0


def check_embeddings(
    scorer: CosineScorer, environment: Environment, on_no_key: Callable[[str], None] | None = None
) -> None:
    """Check that the service of a scorer can be reached.

    Args:
        on_no_key: receives the message if there is neither a key nor an address; None raises it.

    Raises:
        InputError: there is neither a key nor an address.
    """
    if scorer.url or environment.base_url or isinstance(environment.api_key, str):
        return
    problem = (
        "--scorer cosine: no API key (OPENAI_API_KEY), and no address of a server of embeddings; add one, as in "
        "cosine:model=NAME,url=http://127.0.0.1:11434/v1"
    )
    if on_no_key is None:
        raise InputError(problem)
    on_no_key(problem)


def embeddings_cost(table: ScoredTable, named: NamedScorer, model: str) -> EmbeddingsCost:
    """Return the requests that a scorer of embeddings would send about a table; nothing is sent."""
    counter = _RequestCounter()
    replace(table, scorers=[replace(named, scorer=counter)]).tally()
    return EmbeddingsCost(named.name, model, table.source.name, counter.requests, counter.texts)


class _RequestCounter(Scorer):
    """Takes the place of an `EmbeddingsScorer`, to get the same samples, and counts its requests.

    Mutable state: the counts so far.
    """

    def __init__(self) -> None:
        self.requests = self.texts = 0

    def score(self, sample: Sample) -> Score:
        return self.score_all([sample])[0]

    def score_all(self, samples: Sequence[Sample]) -> list[Score]:
        texts = len(_texts(*_read(samples)))
        self.texts += texts
        self.requests += math.ceil(texts / _TEXTS_PER_REQUEST)
        return [Score(None, "not scored yet")] * len(samples)


def _read(samples: Sequence[Sample]) -> tuple[list[str], list[Sequence[str]]]:
    """Return the answers, and the targets of each."""
    answers = [without_reasoning(sample.answer).strip() for sample in samples]
    return answers, [targets_of(sample.target) for sample in samples]


def _texts(answers: Sequence[str], targets: Sequence[Sequence[str]]) -> list[str]:
    """Return the texts to send: each once, without those of rows with an empty answer."""
    asked = [(answer, each) for answer, each in zip(answers, targets, strict=True) if answer]
    return list(dict.fromkeys(text for answer, each in asked for text in (answer, *each)))


@dataclass(frozen=True, slots=True)
class EmbeddingsScorer(Scorer):
    """The cosine of the embeddings of answer and target; a negative one is 0. Of several targets, the nearest counts.

    The texts of up to 256 rows are sent together, each different text once. An empty answer scores 0 and is not sent.

    Mutable state: the client, which is opened for the first request.

    Attributes:
        wanted: the model, its server and the threshold.
        environment: the key, and the address if `wanted` has none.
    """

    wanted: CosineScorer
    environment: Environment = field(repr=False)
    _clients: list[openai.OpenAI] = field(default_factory=list, init=False, repr=False, compare=False)

    def score(self, sample: Sample) -> Score:
        return self.score_all([sample])[0]

    def score_all(self, samples: Sequence[Sample]) -> list[Score]:
        answers, targets = _read(samples)
        texts = _texts(answers, targets)
        vectors = dict(zip(texts, self._vectors(texts), strict=True))
        return [self._score(answer, each, vectors) for answer, each in zip(answers, targets, strict=True)]

    def __exit__(self, *_: object) -> None:
        while self._clients:
            self._clients.pop().close()

    def _score(self, answer: str, targets: Sequence[str], vectors: dict[str, list[float]]) -> Score:
        if not answer:
            return Score(0.0, "the answer is empty")
        value, target = max((_cosine(vectors[answer], vectors[each]), each) for each in targets)
        explanation, threshold = f"cosine {value:.3f} with {target!r}", self.wanted.threshold
        if threshold is None:
            return Score(min(1.0, max(0.0, value)), explanation, answer)
        return Score(float(value >= threshold), f"{explanation}; threshold {threshold:g}", answer)

    def _vectors(self, texts: Sequence[str]) -> Iterator[list[float]]:
        """Yield the embeddings of texts, in order.

        Raises:
            GradingStopped: the service refuses the request, or does not answer it.
        """
        from openai import OpenAIError

        for start in range(0, len(texts), _TEXTS_PER_REQUEST):
            some = list(texts[start : start + _TEXTS_PER_REQUEST])
            try:
                # Some servers do not know base64, which is the SDK's default.
                reply = self._client().embeddings.create(model=self.wanted.model, input=some, encoding_format="float")
            except OpenAIError as exc:
                raise self._stopped(str(exc)) from exc
            found = sorted(reply.data or (), key=lambda each: each.index)
            if [each.index for each in found] != list(range(len(some))) or not all(map(_is_vector, found)):
                raise self._stopped(f"the server returned no embedding for some of {len(some)} texts")
            yield from (each.embedding for each in found)

    def _client(self) -> openai.OpenAI:
        import openai

        if not self._clients:
            key = self.environment.api_key
            self._clients.append(
                openai.OpenAI(
                    api_key=key if isinstance(key, str) else "none",
                    base_url=self.wanted.url or self.environment.base_url,
                    max_retries=_RETRIES,
                    timeout=_TIMEOUT_S,
                )
            )
        return self._clients[0]

    def _stopped(self, reason: str) -> GradingStopped:
        from batchrun.services.redaction import scrubbed

        key = self.environment.api_key
        reason = " ".join(scrubbed(reason, (key,) if isinstance(key, str) else ()).split())
        return GradingStopped(f"--scorer cosine: the embeddings of {self.wanted.model} failed: {reason}", exit_code=5)


def _is_vector(entry: Any) -> bool:
    return isinstance(entry.embedding, list) and any(entry.embedding)


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the cosine of two vectors that are not zero."""
    return _dot(one, other) / math.sqrt(_dot(one, one) * _dot(other, other))


def _dot(one: Sequence[float], other: Sequence[float]) -> float:
    return math.fsum(a * b for a, b in zip(one, other, strict=True))
