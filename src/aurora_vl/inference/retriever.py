"""Encode pictures, videos and texts, and match them: one frozen backbone, any number of adapters.

A `Retriever` may be used by many threads at once. The model is put into evaluation mode when it is
loaded and never switched afterwards; which adapter a call uses is told to that call alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aurora_vl.backbones.base import MediaEncoding, Preprocessor, TextInputs
from aurora_vl.data.records import MediaKind
from aurora_vl.errors import UserError
from aurora_vl.inference.adapters import AdapterChoice, Adapters
from aurora_vl.inference.encodings import BATCH_SIZE, Encoded, TextSet, host_features
from aurora_vl.inference.fingerprints import fingerprint
from aurora_vl.inference.loading import TunedModel, load_named
from aurora_vl.inference.media import (
    Batch,
    MediaItem,
    OnError,
    Source,
    batches,
    listed,
    media_item,
)
from aurora_vl.inference.settings import Score
from aurora_vl.utils.progress import progress_bar


class Retriever:
    """A retrieval model in use; `Retriever.load` makes one.

    Args:
        tuned: the model with its adapters.
        batch_size: pictures, frames of videos, or texts encoded at once.
    """

    def __init__(self, tuned: TunedModel, batch_size: int = BATCH_SIZE) -> None:
        self.tuned = tuned
        self.batch_size = batch_size
        self._adapters = Adapters(tuned)
        self._encoder = tuned.family.dual_encoder(tuned.model)
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
    ) -> Retriever:
        """Load a backbone and its adapters.

        Args:
            backbone: as for `aurora_vl.load`; None for the one the adapter was trained over, and
                without an adapter the bundled mini foundation.
            adapter: a folder that train wrote: an adapter, or a fully tuned or merged model.
            adapters: several by name; the first is used where a call names none.
            image_size: pixels along a side; None for the adapter's, else the backbone's.
            device: None for a GPU if there is one.
            dtype: of the parameters, such as "bfloat16".
            batch_size: pictures, frames of videos, or texts encoded at once.

        Raises:
            UserError: a folder is absent or does not fit, or the backbone cannot retrieve.

        Example:
            >>> retriever = Retriever.load("mini", adapter="runs/mine/adapter")  # doctest: +SKIP
        """
        how: dict[str, Any] = {"image_size": image_size, "device": device, "dtype": dtype}
        return cls(load_named("retrieval", backbone, adapter, adapters, **how), batch_size)

    @property
    def backbone(self) -> str:
        """The backbone's name."""
        return self.tuned.backbone

    @property
    def adapters(self) -> tuple[str, ...]:
        """The adapters' names, the usual one first."""
        return tuple(self.tuned.folders)

    @property
    def has_matcher(self) -> bool:
        """Whether there is a second stage that reads texts together with media."""
        return self._encoder.matcher is not None

    @property
    def width(self) -> int:
        """D, of the features."""
        return self._encoder.width

    def fingerprint(self, adapter: str | None = None) -> str:
        """A digest of the backbone's and the adapter's weights and of the preparation."""
        return fingerprint(self.tuned, self._adapters.named(adapter))

    def encode_images(
        self,
        media: Source | Sequence[Source],
        *,
        adapter: AdapterChoice = None,
        batch_size: int | None = None,
        workers: int = 0,
        progress: bool = True,
    ) -> NDArray[np.float32]:
        """Features of pictures.

        Args:
            media: paths, bytes of files or PIL pictures; one or many.
            adapter: its name, or one for every picture; "base" for the frozen backbone; None for
                the usual one.
            batch_size: pictures encoded at once; None for the retriever's.
            workers: processes that decode; 0 for threads.
            progress: show a bar where there is a terminal.

        Returns:
            (N, D) in the order given, float32, of unit length.

        Raises:
            UserError: a picture is absent or damaged, or there is no such adapter.
        """
        return self._encode(media, "image", adapter, batch_size, workers, progress)

    def encode_videos(
        self,
        media: Source | Sequence[Source],
        *,
        adapter: AdapterChoice = None,
        batch_size: int | None = None,
        workers: int = 0,
        progress: bool = True,
    ) -> NDArray[np.float32]:
        """Features of videos; arguments, result and errors as for `encode_images`."""
        return self._encode(media, "video", adapter, batch_size, workers, progress)

    def encode_texts(
        self,
        texts: str | Sequence[str],
        *,
        adapter: AdapterChoice = None,
        batch_size: int | None = None,
    ) -> NDArray[np.float32]:
        """Features of texts (N, D), in the order given, float32, of unit length."""
        told = [texts] if isinstance(texts, str) else list(texts)
        if not told:
            return np.empty((0, self.width), np.float32)
        found = self.text_features(
            self.tokenize(told, adapter=adapter), adapter=adapter, batch_size=batch_size
        )
        return host_features(found)

    def encode_stream(
        self,
        items: Iterable[MediaItem | Source],
        *,
        adapters: Sequence[str | None] = (None,),
        frames: int | None = None,
        batch_size: int | None = None,
        workers: int = 0,
        on_error: OnError = "raise",
    ) -> Iterator[Encoded]:
        """Encode a stream of pictures and videos, also one without an end.

        Each medium is decoded once for all adapters, which must prepare media alike.

        Args:
            items: media; a path's ending tells pictures from videos.
            adapters: which features are wanted.
            frames: taken of a video; None for as many as the adapters were trained with.
            batch_size: pictures, or frames of videos, encoded at once; None for the retriever's.
            workers: processes that decode; 0 for threads.
            on_error: raise what a damaged medium raises, or yield it.

        Yields:
            one result an item, in order.
        """
        prepare = self.tuned.preprocessor(self._adapters.preparation(adapters, frames))
        stream, size = map(media_item, items), batch_size or self.batch_size
        failed: list[Encoded] = []  # since the batch before
        for found in batches(stream, prepare, size, workers=workers, on_error=on_error):
            if not isinstance(found, Batch):
                failed.append(Encoded(found[0], {}, found[1]))
                continue
            vectors = {name: host_features(self._features(found, name)) for name in adapters}
            done = [
                Encoded(index, {name: vectors[name][row] for name in adapters})
                for row, index in enumerate(found.rows)
            ]
            yield from sorted([*failed, *done], key=lambda each: each.index)
            failed = []
        yield from failed

    def match(
        self,
        texts: str | Sequence[str],
        media: Source | MediaItem | Sequence[Source | MediaItem],
        *,
        adapter: str | None = None,
        score: Score | None = None,
    ) -> NDArray[np.float64]:
        """Scores of texts read together with media, the second stage of retrieval.

        Args:
            texts: N texts; one or many.
            media: M pictures or videos; one or many.
            adapter: as for `encode_images`, one for all.
            score: "itm", the matching logit alone, or "itm+itc", plus the cosine; None for what the
                adapter was scored by.

        Returns:
            (N, M), higher is better.

        Raises:
            UserError: the backbone has no matching head, or a medium is absent or damaged.
        """
        told = [texts] if isinstance(texts, str) else list(texts)
        items = [media_item(each) for each in listed(media)]
        scores = np.empty((len(told), len(items)))
        if not scores.size:
            return scores
        text_set = self.tokenize(told, adapter=adapter)
        features = self.text_features(text_set, adapter=adapter)
        rows = torch.arange(len(told))
        wanted = score or self._adapters.settings(adapter).score
        place = 0
        for encoding in self.media_encodings(items, adapter=adapter, states=True):
            assert encoding.states is not None
            cosines = (encoding.features.to(features.dtype) @ features.T).cpu().double()
            for state, cosine in zip(encoding.states, cosines, strict=True):
                found = self.match_states(
                    state[None],
                    text_set,
                    features,
                    rows,
                    video=items[place].kind == "video",
                    adapter=adapter,
                )
                if wanted == "itm+itc":
                    found = found + cosine
                scores[:, place] = found.numpy()
                place += 1
        return scores

    # What evaluation and galleries are made of

    @torch.inference_mode()
    def tokenize(self, texts: Sequence[str], *, adapter: AdapterChoice = None) -> TextSet:
        """Texts as the model takes them; `adapter` says how they are cut."""
        names = dict.fromkeys(self._adapters.resolved(adapter, len(texts)))
        inputs = self._preprocessor(names).texts(texts, "caption")
        lengths = inputs["attention_mask"].sum(1)
        on_device = TextInputs(
            input_ids=inputs["input_ids"].to(self.device),
            attention_mask=inputs["attention_mask"].to(self.device),
        )
        return TextSet(on_device, lengths)

    @torch.inference_mode()
    def text_features(
        self,
        texts: TextSet,
        rows: Tensor | None = None,
        *,
        adapter: AdapterChoice = None,
        batch_size: int | None = None,
    ) -> Tensor:
        """Features (R, D) of some texts, in float32 or the model's wider type, on its device.

        Texts of like length are encoded together.

        Args:
            texts: from `tokenize`.
            rows: (R,) which, on the host; None for all.
            adapter: one for all, or one for each row.
            batch_size: encoded at once; None for the retriever's.
        """
        own = torch.arange(len(texts)) if rows is None else rows
        names = self._adapters.resolved(adapter, len(own))
        dtype = torch.promote_types(self.dtype, torch.float32)
        features = torch.empty(len(own), self.width, dtype=dtype, device=self.device)
        if not len(own):
            return features
        shortest_first = texts.lengths[own].argsort()
        for places in shortest_first.split(batch_size or self.batch_size):
            together = own[places]
            batch = texts.select(together, int(texts.lengths[together].max()))
            with self._adapters.using([names[place] for place in places.tolist()]):
                features[places] = self._encoder.encode_texts(batch).features.to(dtype)
        return features

    def media_encodings(
        self,
        items: Iterable[MediaItem],
        *,
        adapter: str | None = None,
        states: bool = False,
        workers: int = 0,
    ) -> Iterator[MediaEncoding]:
        """Encodings of a stream of media, batch by batch, on the model's device.

        Args:
            items: pictures or videos.
            adapter: one for all.
            states: whether a matcher's states are wanted.
            workers: processes that decode; 0 for threads.
        """
        prepare = self._preprocessor([adapter])
        for found in batches(items, prepare, self.batch_size, workers=workers):
            assert isinstance(found, Batch)  # errors are raised
            yield self._batch(found, adapter, features_only=not states)

    @torch.inference_mode()
    def match_states(
        self,
        states: Tensor,
        texts: TextSet,
        features: Tensor,
        rows: Tensor,
        *,
        video: bool,
        adapter: str | None = None,
    ) -> Tensor:
        """Matching logits of one medium with some texts, (R,) in float64 on the host.

        Args:
            states: (1, n, d) of the medium.
            texts: from `tokenize`.
            features: (N, D) of all of them.
            rows: (R,) which, on the host.
            video: whether the medium is a video, whose frames weigh by their likeness to the text.
            adapter: one for all.

        Raises:
            UserError: the backbone has no matching head.
        """
        matcher, settings = self._encoder.matcher, self._adapters.settings(adapter)
        if matcher is None:
            raise UserError(
                f"{self.backbone} has no matching head, so features are all there is to rank by; "
                "leave re-ranking out."
            )
        with self._adapters.using(self._adapters.resolved(adapter, 1)):
            similarity = None
            if video and settings.frame_aware:
                frames = settings.preparation().frames
                seen = self._encoder.frame_features(states, frames)[0]  # (T, D)
                similarity = features[rows] @ seen.T.to(features.dtype)
            return matcher.match(states, texts.select(rows), texts.lengths[rows], similarity)

    # Inner parts

    def _preprocessor(self, adapters: Iterable[str | None]) -> Preprocessor:
        return self.tuned.preprocessor(self._adapters.preparation(adapters))

    def _encode(
        self,
        media: Source | Sequence[Source],
        kind: MediaKind,
        adapter: AdapterChoice,
        batch_size: int | None,
        workers: int,
        progress: bool,
    ) -> NDArray[np.float32]:
        items = [media_item(each, kind) for each in listed(media)]
        names = self._adapters.resolved(adapter, len(items))
        prepare = self._preprocessor(dict.fromkeys(names))
        features = np.empty((len(items), self.width), np.float32)
        with progress_bar("encoding", shown=progress) as advance:
            for found in batches(items, prepare, batch_size or self.batch_size, workers=workers):
                assert isinstance(found, Batch)  # errors are raised
                rows = list(found.rows)
                features[rows] = host_features(self._features(found, [names[row] for row in rows]))
                advance(rows[-1] + 1, len(items))
        return features

    def _features(self, batch: Batch, adapter: AdapterChoice) -> Tensor:
        return self._batch(batch, adapter, features_only=True).features

    @torch.inference_mode()
    def _batch(self, batch: Batch, adapter: AdapterChoice, *, features_only: bool) -> MediaEncoding:
        names = self._adapters.resolved(adapter, len(batch.rows))
        prepare = self._preprocessor(dict.fromkeys(names))
        media = prepare.finish(batch.media, self.device, self.dtype)
        with self._adapters.using(names):
            return self._encoder.encode_media(media, features_only=features_only)
