"""Answer questions about pictures and videos: one frozen backbone, any number of adapters.

A medium is encoded once for all its questions. Answers are chosen from a list or written; the
score of an answer is the sum of its tokens' log-probabilities in both. Like a `Retriever`, an
`Answerer` may be used by many threads at once.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, overload

import torch
from torch import Tensor

from aurora_vl.backbones.base import Preprocessor, TextInputs
from aurora_vl.data.text import is_blank
from aurora_vl.errors import UserError
from aurora_vl.inference.adapters import AdapterChoice, Adapters
from aurora_vl.inference.encodings import BATCH_SIZE
from aurora_vl.inference.loading import TunedModel, load_named
from aurora_vl.inference.media import (
    Batch,
    MediaItem,
    Source,
    batches,
    is_one,
    listed,
    media_item,
)
from aurora_vl.inference.settings import AdapterSettings


class Answer(str):
    """An answer, which is a text, and how likely it is.

    Attributes:
        log_likelihood: sum of its tokens' log-probabilities, that of the end included.
    """

    __slots__ = ("log_likelihood",)
    log_likelihood: float

    def __new__(cls, text: str, log_likelihood: float) -> Answer:
        """Make one of a text."""
        answer = super().__new__(cls, text)
        answer.log_likelihood = log_likelihood
        return answer

    def __reduce__(self) -> tuple[type[Answer], tuple[str, float]]:
        return Answer, (str(self), self.log_likelihood)


@dataclass(frozen=True)
class Asked:
    """A medium with questions about it.

    Attributes:
        item: the medium.
        questions: about it.
        adapter: that answers; None for the usual one.
    """

    item: MediaItem
    questions: Sequence[str]
    adapter: str | None = None


@dataclass(frozen=True)
class _Plan:
    """How a group of questions is answered.

    Attributes:
        settings: inference, beams and the like.
        prepare: makes the model's inputs.
        candidates: the answers to choose from, and as ids on the device; None to write answers.
    """

    settings: AdapterSettings
    prepare: Preprocessor
    candidates: tuple[Sequence[str], TextInputs] | None


class Answerer:
    """A question answering model in use; `Answerer.load` makes one.

    Args:
        tuned: the model with its adapters.
        batch_size: pictures, frames of videos, or questions at once.
    """

    def __init__(self, tuned: TunedModel, batch_size: int = BATCH_SIZE) -> None:
        self.tuned = tuned
        self.batch_size = batch_size
        self._adapters = Adapters(tuned)
        self._model = tuned.family.answer_model(tuned.model, tuned.tokenizer)
        parameter = next(tuned.model.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype

    @classmethod
    def load(
        cls,
        backbone: str | os.PathLike[str] | None = None,
        adapter: str | os.PathLike[str] | None = None,
        *,
        adapters: Mapping[str, str | os.PathLike[str]] | None = None,
        image_size: int | None = None,
        device: str | torch.device | None = None,
        dtype: torch.dtype | str = torch.float32,
        batch_size: int = BATCH_SIZE,
    ) -> Answerer:
        """Load a backbone and its adapters; arguments and errors as for `Retriever.load`.

        Example:
            >>> answerer = Answerer.load("mini", adapter="runs/vqa/adapter")  # doctest: +SKIP
        """
        how: dict[str, Any] = {"image_size": image_size, "device": device, "dtype": dtype}
        return cls(load_named("vqa", backbone, adapter, adapters, **how), batch_size)

    @property
    def backbone(self) -> str:
        """The backbone's name."""
        return self.tuned.backbone

    @property
    def adapters(self) -> tuple[str, ...]:
        """The adapters' names, the usual one first."""
        return tuple(self.tuned.folders)

    def cut(self, question: str, adapter: str | None = None) -> bool:
        """Whether something of a question is cut off, being longer than what an adapter reads."""
        prepare = self.tuned.preprocessor(self._adapters.preparation([adapter]))
        return prepare.cut(question, "question")

    @overload
    def answer(
        self,
        media: Source | MediaItem,
        questions: str,
        *,
        answers: Sequence[str] | None = None,
        adapter: str | None = None,
    ) -> Answer: ...

    @overload
    def answer(
        self,
        media: Source | MediaItem | Sequence[Source | MediaItem],
        questions: str | Sequence[str],
        *,
        answers: Sequence[str] | None = None,
        adapter: AdapterChoice = None,
    ) -> Answer | list[Answer]: ...

    def answer(
        self,
        media: Source | MediaItem | Sequence[Source | MediaItem],
        questions: str | Sequence[str],
        *,
        answers: Sequence[str] | None = None,
        adapter: AdapterChoice = None,
    ) -> Answer | list[Answer]:
        """Answer one question or many.

        Args:
            media: pictures or videos. One for all questions, or one for each.
            questions: one for all media, or one for each.
            answers: to choose from; an empty list for an answer in the model's own words; None as
                the adapter was scored, which without an adapter is in its own words.
            adapter: its name, or one for every question; "base" for the frozen backbone; None for
                the usual one.

        Returns:
            an answer, or a list of them where several media or questions were given.

        Raises:
            UserError: a medium is absent or damaged, a question has no words, or media and
                questions are not as many.
        """
        items = [media_item(each) for each in listed(media)]
        told = [questions] if isinstance(questions, str) else list(questions)
        rows = max(len(items), len(told)) if items and told else 0
        if not {len(items), len(told)} <= {1, rows}:
            raise UserError(
                f"{len(items)} media and {len(told)} questions were given; give one of the two, or "
                "as many of both."
            )
        for question in told:
            require_words(question)
        items, told = items * (rows // len(items or [1])), told * (rows // len(told or [1]))
        names = self._adapters.resolved(adapter, rows)
        found = self._answer_grouped(items, told, names, answers)
        return found[0] if isinstance(questions, str) and is_one(media) else found

    def answer_stream(
        self,
        asked: Iterable[Asked],
        *,
        answers: Sequence[str] | None = None,
        workers: int = 0,
    ) -> Iterator[list[Answer]]:
        """Answer a stream of media with questions about each, also one without an end.

        Args:
            asked: media with their questions; their adapters must prepare and answer alike, and
                be one where the model does not mix them (`AnswerModel.mixes_adapters`).
            answers: as for `answer`.
            workers: processes that decode; 0 for threads.

        Yields:
            the answers about each medium, in order.
        """
        stream = iter(asked)
        first = next(stream, None)
        if first is None:
            return
        plan = self._plan(first.adapter, answers)
        waiting: deque[Asked] = deque()

        def items() -> Iterator[MediaItem]:
            for each in chain([first], stream):
                waiting.append(each)
                yield each.item

        for found in batches(items(), plan.prepare, self.batch_size, workers=workers):
            assert isinstance(found, Batch)  # errors are raised
            yield from self._about(found, [waiting.popleft() for _ in found.rows], plan)

    def answer_blindly(
        self, questions: Sequence[str], *, answers: Sequence[str] | None = None
    ) -> list[Answer]:
        """Answers to questions about an even picture of the average colour.

        What is right among them can be guessed from the question alone. Equal questions are asked
        once.
        """
        plan, name = self._plan(None, answers), self._adapters.named(None)
        different = list(dict.fromkeys(questions))
        found: dict[str, Answer] = {}
        with torch.inference_mode(), self._adapters.using([name]):
            blank = plan.prepare.finish(plan.prepare.blank(), self.device, self.dtype)
            media = self._model.encode_media(blank)
        for first in range(0, len(different), self.batch_size):
            part = different[first : first + self.batch_size]
            told = self._told(media, part, [0] * len(part), [name], plan)
            found.update(zip(part, told, strict=True))
        return [found[question] for question in questions]

    # Inner parts

    def _answer_grouped(
        self,
        items: Sequence[MediaItem],
        questions: Sequence[str],
        names: Sequence[str | None],
        answers: Sequence[str] | None,
    ) -> list[Answer]:
        """Answers in order; questions that are answered alike about one medium share its states."""
        groups: dict[object, dict[object, list[int]]] = {}
        mixed = self._model.mixes_adapters
        for row, (item, name) in enumerate(zip(items, names, strict=True)):
            group = (self._adapters.settings(name).in_use, None if mixed else name)
            groups.setdefault(group, {}).setdefault((_identity(item), name), []).append(row)
        found: dict[int, Answer] = {}
        for media in groups.values():
            asked = [
                Asked(items[rows[0]], [questions[row] for row in rows], names[rows[0]])
                for rows in media.values()
            ]
            told = self.answer_stream(asked, answers=answers)
            for rows, each in zip(media.values(), told, strict=True):
                found.update(zip(rows, each, strict=True))
        return [found[row] for row in range(len(items))]

    @torch.inference_mode()
    def _about(self, batch: Batch, asked: Sequence[Asked], plan: _Plan) -> list[list[Answer]]:
        """Answers about one batch of media."""
        names = [self._adapters.named(each.adapter) for each in asked]
        media = plan.prepare.finish(batch.media, self.device, self.dtype)
        with self._adapters.using(names):
            states = self._model.encode_media(media)
        owners = [owner for owner, each in enumerate(asked) for _ in each.questions]
        questions = [question for each in asked for question in each.questions]
        found: list[list[Answer]] = [[] for _ in asked]
        for first in range(0, len(owners), self.batch_size):
            part = slice(first, first + self.batch_size)
            told = self._told(states, questions[part], owners[part], names, plan)
            for owner, answer in zip(owners[part], told, strict=True):
                found[owner].append(answer)
        return found

    @torch.inference_mode()
    def _told(
        self,
        media: Any,
        questions: Sequence[str],
        owners: Sequence[int],
        names: Sequence[str | None],
        plan: _Plan,
    ) -> list[Answer]:
        """One answer for each question.

        Args:
            media: from `AnswerModel.encode_media`.
            questions: N of them.
            owners: the medium of each question, ascending.
            names: the adapter of each medium.
            plan: how.
        """
        settings = plan.settings
        inputs = self._on_device(plan.prepare.texts(questions, "question"))
        rows = [names[owner] for owner in owners]
        if len(set(rows)) > 1:  # each row has its own adapter, from the media's keys on
            media, owners = self._model.select(media, owners), range(len(owners))
        with self._adapters.using(rows if len(set(rows)) > 1 else rows[:1]):
            if plan.candidates is not None:
                texts, candidates = plan.candidates
                context = self._model.prepare(media, inputs, owners)
                ranked = self._model.rank(context, candidates, settings.top)
                best, scores = ranked.candidates[:, 0].tolist(), ranked.log_likelihoods[:, 0]
                words = [texts[candidate] for candidate in best]
            else:
                context = self._model.prepare(
                    media, inputs, owners, attend_padding=settings.attend_padding
                )
                ids, scores = self._model.generate(
                    context, settings.beams, settings.max_answer_tokens
                )
                told = self.tuned.tokenizer.batch_decode(ids, skip_special_tokens=True)
                words = [" ".join(text.split()) for text in told]
        return [Answer(*each) for each in zip(words, _finite(scores), strict=True)]

    def _plan(self, adapter: str | None, answers: Sequence[str] | None) -> _Plan:
        settings = self._adapters.settings(adapter)
        prepare = self.tuned.preprocessor(self._adapters.preparation([adapter]))
        listed_answers = settings.answers if settings.inference == "rank" else ()
        chosen = tuple(answers) if answers is not None else listed_answers
        if not chosen:
            return _Plan(settings, prepare, None)
        return _Plan(settings, prepare, (chosen, self._on_device(prepare.texts(chosen, "answer"))))

    def _on_device(self, texts: TextInputs) -> TextInputs:
        return TextInputs(
            input_ids=texts["input_ids"].to(self.device),
            attention_mask=texts["attention_mask"].to(self.device),
        )


def require_words(question: str) -> None:
    """Refuse a question that says nothing or is no text.

    Raises:
        UserError: it is blank or not UTF-8.
    """
    if is_blank(question):
        raise UserError(f"the question {question!r} has no words; ask something.")
    try:
        question.encode()
    except UnicodeEncodeError:  # from bytes of another encoding, or an escape of half a character
        raise UserError(f"the question {question!r} is not UTF-8 text; write it anew.") from None


def _identity(item: MediaItem) -> object:
    """What tells media apart without reading them."""
    source = item.source
    place = str(source) if isinstance(source, (str, os.PathLike)) else id(source)
    return place, item.kind, item.window


def _finite(scores: Tensor) -> list[float]:
    if not scores.isfinite().all():
        raise UserError("the scores are not finite; the adapter or its training diverged.")
    found: list[float] = scores.tolist()
    return found
