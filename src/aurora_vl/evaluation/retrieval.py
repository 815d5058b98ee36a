"""Scoring a split by a `Retriever`: features order all candidates, matching re-orders the best.

Media are decoded and encoded once; their states wait in a file for the second stage, so memory does
not grow with patches of the gallery. A pair that both directions ask for is matched once, and a
medium's keys and values are computed once for all its texts. Scores equal those of a loop over all
pairs. Several processes share media and texts and come to one result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aurora_vl.data.datasets import caption_table
from aurora_vl.data.records import CaptionedMedia
from aurora_vl.errors import UserError
from aurora_vl.evaluation.recall import ranks, retrieval_metrics
from aurora_vl.inference.encodings import TextSet
from aurora_vl.inference.media import item_of_record
from aurora_vl.inference.retriever import Retriever
from aurora_vl.inference.settings import Score
from aurora_vl.inference.state_store import StoredStates
from aurora_vl.utils.distributed import gather_own, own_rows, sum_over_processes

Progress = Callable[[int, int], None]


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
    retriever: Retriever,
    records: Sequence[CaptionedMedia],
    *,
    rerank: int,
    score: Score = "itm+itc",
    workers: int = 0,
    half_states: bool = False,
    progress: Progress | None = None,
) -> RetrievalResult:
    """Score a split of pictures, or of videos, in both directions.

    Args:
        retriever: the model in use; its usual adapter is scored.
        records: media with their captions; no medium and no caption is left out.
        rerank: candidates of each query that are matched; 0 for features alone, as for a backbone
            without a matching head.
        score: what orders matched candidates.
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
    told, owners = caption_table(records)
    if not told:
        raise UserError("the scored split has no captions; give it some to be found by.")
    rerank = rerank if retriever.has_matcher else 0
    stages = _TwoStages(retriever, retriever.tokenize(told), video="video" in kinds)
    with StoredStates(len(own_rows(len(records))), half=half_states) as store:
        cosine = stages.cosines(records, store if rerank else None, workers)
        m2t, t2m = stages.matched(cosine, store, rerank, score, progress)
    owned: list[list[int]] = [[] for _ in records]
    for text, owner in enumerate(owners):
        owned[int(owner)].append(text)
    media_ranks = ranks(m2t, owned)
    text_ranks = ranks(t2m, [[int(owner)] for owner in owners])
    metrics = retrieval_metrics(media_ranks, text_ranks, "v2t" if "video" in kinds else "i2t")
    return RetrievalResult(m2t, t2m, media_ranks, text_ranks, metrics)


class _TwoStages:
    """The two stages over one set of texts, whose features are computed at once."""

    def __init__(self, retriever: Retriever, texts: TextSet, *, video: bool) -> None:
        self.retriever = retriever
        self.texts = texts
        self.video = video
        own = torch.tensor(own_rows(len(texts)), dtype=torch.long)
        self.features = gather_own(retriever.text_features(texts, own), len(texts))  # (T, D)

    def cosines(
        self, records: Sequence[CaptionedMedia], store: StoredStates | None, workers: int
    ) -> Tensor:
        """First-stage scores (M, T) on the host; this process's media's states go to the store."""
        parts = [self.features.new_empty(0, len(self.texts))]
        items = (item_of_record(records[row]) for row in own_rows(len(records)))
        for encoding in self.retriever.media_encodings(
            items, states=store is not None, workers=workers
        ):
            parts.append(encoding.features.to(self.features.dtype) @ self.features.T)
            if store is not None and encoding.states is not None:
                store.append(encoding.states)
        return _finite(gather_own(torch.cat(parts), len(records)).cpu())

    def matched(
        self,
        cosine: Tensor,
        store: StoredStates,
        rerank: int,
        score: Score,
        progress: Progress | None,
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
        progress: Progress | None,
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
        device, dtype = self.retriever.device, self.retriever.dtype
        for done, (place, pairs) in enumerate(asked, start=1):
            states = store.read(place).to(device, dtype)
            scores[pairs] = self.retriever.match_states(
                states, self.texts, self.features, columns[pairs], video=self.video
            )
            if progress is not None:
                progress(done, len(asked))
        return _finite(sum_over_processes(scores.to(device)).cpu())


def _finite(scores: Tensor) -> Tensor:
    """The scores, if a ranking can be made of them."""
    if not scores.isfinite().all():
        raise UserError("the scores are not finite; the adapter or its training diverged.")
    return scores
