"""Two-stage retrieval: features order all candidates, matching re-orders the best of them.

Media are streamed twice, for their features and, grouped by medium, for matching, so memory does
not grow with patches of the gallery. A pair that both directions ask for is matched once, and a
medium's keys and values are computed once for all its texts. For frame-aware attention a video's
keys are kept unscaled and multiplied for some texts at a time (DESIGN.md 7.12). Scores equal those
of the plain loop over pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from aurora_vl.data.collate import MAX_TOKENS
from aurora_vl.data.datasets import MediaSet, caption_table
from aurora_vl.data.records import CaptionedMedia
from aurora_vl.data.transforms import ImageTransform, to_model_input
from aurora_vl.errors import UserError
from aurora_vl.evaluation.matching import match_texts
from aurora_vl.evaluation.recall import ranks, retrieval_metrics
from aurora_vl.tasks.retrieval import backbone_of
from aurora_vl.tasks.video import frame_key_scale

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
        progress: called with (media matched, media in all).

    Raises:
        UserError: no record has a caption, pictures stand beside videos, a file is damaged, or
            scores are not finite.
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
        stage = _TwoStage(model, tokenizer, texts, batch_size, frame_aware, workers)
        media = MediaSet(records, ImageTransform(stage.image_size, frames=frames))
        cosine = stage.cosines(media)
        m2t, t2m = stage.matched(media, cosine, rerank, score, progress)
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
        frame_aware: bool,
        workers: int,
    ) -> None:
        self.backbone = backbone_of(model)
        self.batch_size = batch_size
        self.frame_aware = frame_aware
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
        features = torch.empty(len(self.lengths), width, dtype=dtype, device=self.device)
        for rows in self.lengths.argsort().split(self.batch_size):
            features[rows] = self.backbone.encode_text(*self._texts(rows))[1].to(dtype)
        return features

    def _pixels(self, media: MediaSet, rows: Sequence[int] | None = None) -> Iterator[Tensor]:
        """Batches (B, 3, S, S) or (B, T, 3, S, S) of the given media."""
        subset: Dataset[Tensor] = media if rows is None else Subset(media, rows)
        video = any(record.kind == "video" for record in media.records)
        at_once = max(1, self.batch_size // (media.transform.frames if video else 1))
        for batch in DataLoader(subset, at_once, num_workers=self.workers):
            yield to_model_input(batch.to(self.device), dtype=self.dtype)

    def cosines(self, media: MediaSet) -> Tensor:
        """First-stage scores (M, T) on the host."""
        parts = []
        for pixels in self._pixels(media):
            features = self.backbone.encode_image(pixels)[1].to(self.text_features.dtype)
            parts.append((features @ self.text_features.T).cpu())
        return _finite(torch.cat(parts))

    def matched(
        self,
        media: MediaSet,
        cosine: Tensor,
        rerank: int,
        score: Score,
        progress: Callable[[int, int], None] | None,
    ) -> tuple[Tensor, Tensor]:
        """Final scores (M, T) and (T, M) in float64."""
        count, texts = cosine.shape
        for_media, for_texts = torch.zeros(2, count, texts, dtype=torch.bool).unbind()
        for_media.scatter_(1, cosine.topk(min(rerank, texts), 1).indices, True)
        for_texts.scatter_(0, cosine.topk(min(rerank, count), 0).indices, True)
        needed = for_media | for_texts
        cosine = cosine.double()
        pairs = torch.zeros_like(cosine)
        rows = [int(row) for row in needed.any(1).nonzero()[:, 0]]
        done = 0
        for pixels in self._pixels(media, rows) if rows else ():
            states, _ = self.backbone.encode_image(pixels)
            frames = pixels.shape[1] if self.frame_aware and pixels.ndim == 5 else 0
            for state in states:
                row = rows[done]
                columns = needed[row].nonzero()[:, 0]
                pairs[row, columns] = _finite(self._match(state[None], columns, frames))
                if score == "itm+itc":
                    pairs[row, columns] += cosine[row, columns]
                done += 1
                if progress is not None:
                    progress(done, len(rows))
        below = cosine + (pairs.min() - 2.0)  # a cosine is at most 1: below every matched pair
        m2t, t2m = (torch.where(chosen, pairs, below) for chosen in (for_media, for_texts))
        return m2t, t2m.T.contiguous()

    def _match(self, state: Tensor, columns: Tensor, frames: int) -> Tensor:
        """Matching logits of one medium (1, N, d) with the given texts, float64 on the host.

        With `frames` above 0 the keys of each of the video's frames are scaled for each text.
        """
        scale = None
        if frames:
            seen = self.backbone.frame_features(state, frames)[0].to(self.text_features.dtype)
            scale = frame_key_scale(self.text_features[columns] @ seen.T, state.shape[1])
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
