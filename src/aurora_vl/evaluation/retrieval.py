"""Two-stage retrieval: features order all candidates, matching re-orders the best of them.

Media are decoded and encoded once; their states wait in a file for the second stage, so memory does
not grow with patches of the gallery. A pair that both directions ask for is matched once, and a
medium's keys and values are computed once for all its texts. For frame-aware attention a video's
keys are kept unscaled and multiplied for some texts at a time. Scores equal those of the plain loop
over pairs. Several processes share media and texts and come to one result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from aurora_vl.backbones.blip.frame_attention import frame_key_scale
from aurora_vl.backbones.blip.matching import match_texts
from aurora_vl.data.collate import MAX_TOKENS
from aurora_vl.data.datasets import MediaSet, caption_table
from aurora_vl.data.records import CaptionedMedia
from aurora_vl.data.transforms import ImageTransform, to_model_input
from aurora_vl.errors import UserError
from aurora_vl.evaluation.recall import ranks, retrieval_metrics
from aurora_vl.inference.state_store import StoredStates
from aurora_vl.objectives.retrieval import backbone_of
from aurora_vl.utils.distributed import gather_own, own_rows, sum_over_processes

Score = Literal["itm", "itm+itc"]


@dataclass(frozen=True, slots=True)
class RetrievalResult:
    """Scores and metrics of one evaluation.

    Attributes:
        media_to_text: (M, T) final scores of texts for each medium; below those of the second
            stage stand the others in the order of the first.
        text_to_media: (T, M) the same for media.
        media_ranks, text_ranks: rank of the best right answer of each query, from 1.
        metrics: as `retrieval_metrics` names them.
    """

    media_to_text: Tensor
    text_to_media: Tensor
    media_ranks: np.ndarray
    text_ranks: np.ndarray
    metrics: dict[str, float]


@torch.inference_mode()
def evaluate_retrieval(
    model: nn.Module,
    tokenizer: Any,
    records: Sequence[CaptionedMedia],
    *,
    rerank: int,
    score: Score = "itm+itc",
    batch_size: int = 64,
    max_words: int = 30,
    frames: int = 8,
    frame_aware: bool = True,
    workers: int = 0,
    half_states: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> RetrievalResult:
    """Score a split of pictures, or of videos, in both directions.

    Args:
        model: a retrieval backbone, or a PEFT model around one; left in the mode it was in.
        tokenizer: the backbone's.
        records: media with their captions; no medium and no caption is left out.
        rerank: candidates of each query that are matched; 0 for features alone.
        score: what orders matched candidates.
        batch_size: pictures (frames of videos) and texts encoded at once.
        max_words: captions are cut to so many words.
        frames: taken of a video.
        frame_aware: whether the keys of a video's frames are scaled by their likeness to the text.
        workers: processes that decode media.
        half_states: keep the media's states in float16 between the stages: half the room on disk,
            and scores that may order near-ties otherwise.
        progress: called with (media matched, media in all), of this process's.

    Raises:
        UserError: no record has a caption, pictures stand beside videos, a file is damaged, there
            is no room for the states, or scores are not finite.
    """
    kinds = {record.kind for record in records}
    if len(kinds) > 1:
        raise UserError("the scored split mixes pictures and videos; score them one by one.")
    was_training = model.training
    model.eval()
    try:
        texts, owners = caption_table(records, max_words)
        if not texts:
            raise UserError("the scored split has no captions; give it some to be found by.")
        aware = frames if frame_aware and "video" in kinds else 0
        stage = _TwoStage(model, tokenizer, texts, batch_size, aware, workers)
        media = MediaSet(records, ImageTransform(stage.image_size, frames=frames))
        with StoredStates(len(own_rows(len(records))), half=half_states) as store:
            cosine = stage.cosines(media, store if rerank else None)
            m2t, t2m = stage.matched(cosine, store, rerank, score, progress)
    finally:
        model.train(was_training)
    owned: list[list[int]] = [[] for _ in records]
    for text, owner in enumerate(owners):
        owned[int(owner)].append(text)
    media_ranks = ranks(m2t, owned)
    text_ranks = ranks(t2m, [[int(owner)] for owner in owners])
    metrics = retrieval_metrics(media_ranks, text_ranks, "v2t" if "video" in kinds else "i2t")
    return RetrievalResult(m2t, t2m, media_ranks, text_ranks, metrics)


class _TwoStage:
    """The two stages over one set of texts."""

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        texts: Sequence[str],
        batch_size: int,
        aware_frames: int,
        workers: int,
    ) -> None:
        self.backbone = backbone_of(model)
        self.batch_size = batch_size
        self.aware_frames = aware_frames  # of a video whose keys are scaled; 0 for none
        self.workers = workers
        self.device = next(model.parameters()).device
        self.dtype = next(model.parameters()).dtype
        self.image_size: int = self.backbone.config.vision_config.image_size
        encoded = tokenizer(
            list(texts), truncation=True, max_length=MAX_TOKENS, padding=True, return_tensors="pt"
        )
        self.ids: Tensor = encoded["input_ids"].to(self.device)  # (T, L)
        self.mask: Tensor = encoded["attention_mask"].to(self.device)
        self.lengths: Tensor = encoded["attention_mask"].sum(1)  # on the host, as all row numbers
        self.text_features = self._text_features()  # (T, D)

    def _texts(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Ids and mask of some texts, cut to the longest of them."""
        longest = int(self.lengths[rows].max())
        return self.ids[rows, :longest], self.mask[rows, :longest]

    def _text_features(self) -> Tensor:
        """In float32 or the model's wider type."""
        dtype = torch.promote_types(self.dtype, torch.float32)
        width = self.backbone.config.image_text_hidden_size
        own = torch.tensor(own_rows(len(self.lengths)), dtype=torch.long)
        features = torch.empty(len(own), width, dtype=dtype, device=self.device)
        shortest_first = self.lengths[own].argsort()
        for places in shortest_first.split(self.batch_size) if len(own) else ():
            texts = self._texts(own[places])
            features[places] = self.backbone.encode_text(*texts)[1].to(dtype)
        return gather_own(features, len(self.lengths))

    def _pixels(self, media: MediaSet) -> Iterator[Tensor]:
        """Batches (B, 3, S, S) or (B, T, 3, S, S) of this process's media."""
        subset: Dataset[Tensor] = Subset(media, own_rows(len(media)))
        video = any(record.kind == "video" for record in media.records)
        at_once = max(1, self.batch_size // (media.transform.frames if video else 1))
        for batch in DataLoader(subset, at_once, num_workers=self.workers):
            yield to_model_input(batch.to(self.device), dtype=self.dtype)

    def cosines(self, media: MediaSet, store: StoredStates | None) -> Tensor:
        """First-stage scores (M, T) on the host; this process's media's states go to the store."""
        parts = [self.text_features.new_empty(0, len(self.lengths))]
        for pixels in self._pixels(media):
            states, features = self.backbone.encode_image(pixels, features_only=store is None)
            parts.append(features.to(self.text_features.dtype) @ self.text_features.T)
            if store is not None:
                store.append(states)
        return _finite(gather_own(torch.cat(parts), len(media)).cpu())

    def matched(
        self,
        cosine: Tensor,
        store: StoredStates,
        rerank: int,
        score: Score,
        progress: Callable[[int, int], None] | None,
    ) -> tuple[Tensor, Tensor]:
        """Final scores (M, T) and (T, M) in float64."""
        count, texts = cosine.shape
        for_media, for_texts = torch.zeros(2, count, texts, dtype=torch.bool).unbind()
        for_media.scatter_(1, cosine.topk(min(rerank, texts), 1).indices, True)
        for_texts.scatter_(0, cosine.topk(min(rerank, count), 0).indices, True)
        rows, columns = (for_media | for_texts).nonzero(as_tuple=True)  # (P,) pairs by medium
        scores = self._pair_scores(rows, columns, count, store, progress)
        if score == "itm+itc":
            scores = scores + cosine[rows, columns].double()
        # A cosine is at most 1: those that were not matched come below every pair that was.
        below = float(scores.min()) - 2.0 if len(scores) else 0.0
        m2t, t2m = cosine.double() + below, cosine.T.double() + below
        asked, asking = for_media[rows, columns], for_texts[rows, columns]
        m2t[rows[asked], columns[asked]] = scores[asked]
        t2m[columns[asking], rows[asking]] = scores[asking]
        return m2t, t2m.contiguous()

    def _pair_scores(
        self,
        rows: Tensor,
        columns: Tensor,
        media: int,
        store: StoredStates,
        progress: Callable[[int, int], None] | None,
    ) -> Tensor:
        """Matching logits (P,) of the pairs, which stand medium by medium, each process's own."""
        scores = torch.zeros(len(rows), dtype=torch.float64)
        ends = torch.bincount(rows, minlength=media).cumsum(0).tolist()
        asked = [
            (place, slice(ends[row - 1] if row else 0, ends[row]))
            for place, row in enumerate(own_rows(media))
        ]
        asked = [(place, pairs) for place, pairs in asked if pairs.start < pairs.stop]
        store.finish()
        for done, (place, pairs) in enumerate(asked, start=1):
            state = store.read(place).to(self.device, self.dtype)
            scores[pairs] = self._match(state, columns[pairs])
            if progress is not None:
                progress(done, len(asked))
        return _finite(sum_over_processes(scores.to(self.device)).cpu())

    def _match(self, state: Tensor, columns: Tensor) -> Tensor:
        """Matching logits of one medium (1, N, d) with the given texts, float64 on the host."""
        scale = None
        if self.aware_frames:
            seen = self.backbone.frame_features(state, self.aware_frames)[0]  # (T, D)
            similarity = self.text_features[columns] @ seen.T.to(self.text_features.dtype)
            scale = frame_key_scale(similarity, state.shape[1])
        return match_texts(
            self.backbone,
            self.backbone.cross_keys(state),
            self.ids[columns],
            self.mask[columns],
            self.lengths[columns],
            scale,
        )


def _finite(scores: Tensor) -> Tensor:
    """The scores, if a ranking can be made of them."""
    if not scores.isfinite().all():
        raise UserError("the scores are not finite; the adapter or its training diverged.")
    return scores
