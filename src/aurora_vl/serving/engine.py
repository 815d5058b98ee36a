"""The models of a server and what they compute for rows of many requests at once.

The methods that take rows are called by the batching thread alone.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from aurora_vl.errors import UserError
from aurora_vl.gallery.gallery import Gallery
from aurora_vl.gallery.items import Filter
from aurora_vl.gallery.searching import Hit, Query
from aurora_vl.inference.adapters import BASE
from aurora_vl.inference.answerer import Answer, Answerer
from aurora_vl.inference.loading import require_tuned, trained_over
from aurora_vl.inference.media import MediaItem
from aurora_vl.inference.retriever import Retriever
from aurora_vl.inference.settings import read_settings
from aurora_vl.serving.errors import ApiError

log = logging.getLogger(__name__)
Ability = Literal["retrieval", "questions"]
Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TextRow:
    """A text to embed."""

    text: str
    adapter: str | None


@dataclass(frozen=True, slots=True)
class MediaRow:
    """A picture or video to embed."""

    item: MediaItem
    adapter: str | None


@dataclass(frozen=True, slots=True)
class QuestionRow:
    """A question about a medium; `answers` to choose from, None for the adapter's own way."""

    item: MediaItem
    question: str
    adapter: str | None
    answers: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class MatchRow:
    """A text and media that it is matched with."""

    text: str
    items: Sequence[MediaItem]
    adapter: str | None


@dataclass(frozen=True, slots=True)
class SearchRow:
    """A search of the gallery."""

    query: Query
    adapter: str | None
    top: int
    rerank: int
    fold: bool
    where: Filter


class Engine:
    """One backbone's models with their adapters, and a gallery.

    Args:
        retriever: embeds and matches; None where the backbone cannot.
        answerer: answers questions; None where the backbone cannot.
        gallery: that is searched; None for none.
    """

    def __init__(
        self, retriever: Retriever | None, answerer: Answerer | None, gallery: Gallery | None
    ) -> None:
        self.retriever, self.answerer, self.gallery = retriever, answerer, gallery

    @property
    def backbone(self) -> str:
        """What clients call the frozen backbone: a hub id, or a folder's last name."""
        model = self.retriever or self.answerer
        assert model is not None
        name = model.backbone
        return Path(name).name if Path(name).exists() else name

    @property
    def models(self) -> dict[str, list[Ability]]:
        """What can be asked of the backbone and of every adapter, by name, the backbone first."""
        found: dict[str, list[Ability]] = {self.backbone: []}
        if self.retriever is not None:
            for name in (self.backbone, *self.retriever.adapters):
                found.setdefault(name, []).append("retrieval")
        if self.answerer is not None:
            for name in (self.backbone, *self.answerer.adapters):
                found.setdefault(name, []).append("questions")
        return found

    def adapter(self, model: str | None, ability: Ability) -> str | None:
        """The adapter that a request's `model` means; None for the usual one.

        Raises:
            ApiError: there is no such model, or it cannot do what is asked.
        """
        if model is None:
            if (self.retriever if ability == "retrieval" else self.answerer) is None:
                raise ApiError(400, f"{self.backbone} is not for {ability}.", param="model")
            return None
        name = self.backbone if model == BASE else model
        if name not in self.models:
            known = ", ".join(self.models)
            raise ApiError(
                404,
                f"there is no model {model[:100]!r}; known: {known}.",
                code="model_not_found",
                param="model",
            )
        if ability not in self.models[name]:
            able = ", ".join(other for other, can in self.models.items() if ability in can)
            raise ApiError(
                400,
                f"{name} is not for {ability}; these are: {able or 'none'}.",
                param="model",
            )
        return BASE if name == self.backbone else name

    def usual(self, ability: Ability) -> str:
        """The model that is used where a request names none."""
        model = self.retriever if ability == "retrieval" else self.answerer
        return next(iter(model.adapters if model else ()), self.backbone)

    def searchable(self, model: str) -> bool:
        """Whether the gallery was indexed with a model."""
        if self.gallery is None or self.retriever is None:
            return False
        if "retrieval" not in self.models.get(model, []):
            return False
        mark = self.retriever.fingerprint(self.adapter(model, "retrieval"))
        return any(mark == collection.fingerprint for collection in self.gallery.collections)

    # The work of the batching thread

    def embed_texts(self, rows: Sequence[TextRow]) -> list[tuple[Vector, int]]:
        """Features (D,) of each text and how many tokens it has."""
        assert self.retriever is not None
        texts, names = [row.text for row in rows], [row.adapter for row in rows]
        lengths = self.retriever.tokenize(texts, adapter=names).lengths.tolist()
        return list(zip(self.retriever.encode_texts(texts, adapter=names), lengths, strict=True))

    def embed_media(self, rows: Sequence[MediaRow]) -> list[Vector]:
        """Features (D,) of each medium; pictures and videos are encoded apart."""
        assert self.retriever is not None
        found: dict[int, Vector] = {}
        for kind, encode in (
            ("image", self.retriever.encode_images),
            ("video", self.retriever.encode_videos),
        ):
            own = [place for place, row in enumerate(rows) if row.item.kind == kind]
            vectors = encode(
                [rows[place].item.source for place in own],
                adapter=[rows[place].adapter for place in own],
                progress=False,
            )
            found.update(zip(own, vectors, strict=True))
        return [found[place] for place in range(len(rows))]

    def match(self, rows: Sequence[MatchRow]) -> list[list[float]]:
        """The matching head's score of each text with each of its media."""
        assert self.retriever is not None
        return [
            self.retriever.match([row.text], row.items, adapter=row.adapter)[0].tolist()
            for row in rows
        ]

    def answer(self, rows: Sequence[QuestionRow]) -> list[Answer]:
        """An answer to each question."""
        assert self.answerer is not None
        found: dict[int, Answer] = {}
        for answers in dict.fromkeys(row.answers for row in rows):
            own = [place for place, row in enumerate(rows) if row.answers == answers]
            told = self.answerer.answer(
                [rows[place].item for place in own],
                [rows[place].question for place in own],
                answers=answers,
                adapter=[rows[place].adapter for place in own],
            )
            assert isinstance(told, list)
            found.update(zip(own, told, strict=True))
        return [found[place] for place in range(len(rows))]

    def search(self, rows: Sequence[SearchRow]) -> list[list[Hit]]:
        """The hits of each search."""
        assert self.gallery is not None
        assert self.retriever is not None
        return [
            self.gallery.search(
                row.query,
                self.retriever,
                adapter=row.adapter,
                top=row.top,
                rerank=row.rerank,
                fold=row.fold,
                where=row.where,
            )
            for row in rows
        ]


def load_engine(
    backbone: str | None, adapters: Mapping[str, Path], gallery: Gallery | None = None
) -> Engine:
    """Load the models that a backbone has.

    Args:
        backbone: as for `aurora_vl.load`; None for the first adapter's, else the bundled one.
        adapters: folders that train wrote, by name, for retrieval and for questions.
        gallery: that is searched.

    Raises:
        UserError: a folder is absent or does not fit, a name is taken, or the backbone can neither
            retrieve nor answer.
    """
    asking: dict[str, Path] = {}
    finding: dict[str, Path] = {}
    for name, folder in adapters.items():
        require_tuned(folder)
        task = read_settings(folder).task or ""
        (asking if task.endswith("qa") else finding)[name] = folder
    backbone = backbone or trained_over(next(iter(adapters.values()), None))
    retriever = answerer = None
    try:
        retriever = Retriever.load(backbone, adapters=finding)
    except UserError as error:
        if finding:
            raise
        refusal = error
    try:
        answerer = Answerer.load(backbone, adapters=asking)
    except UserError as error:
        if asking or retriever is None:
            raise
        refusal = error
    if retriever is None or answerer is None:
        log.info("%s", refusal)
    engine = Engine(retriever, answerer, gallery)
    taken = next((name for name in adapters if name in (BASE, engine.backbone)), None)
    if taken is not None:
        raise UserError(f"the adapter name {taken!r} is the backbone's; give another NAME=DIR")
    return engine
