"""Retrieval as a kind of task: captions find media and media find captions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn
from torch.utils.data import Dataset

from aurora_vl.backbones.base import Preprocessor
from aurora_vl.backbones.families import family_by_name
from aurora_vl.data.collate import RetrievalCollator
from aurora_vl.data.datasets import RetrievalTrainSet, shared_captions
from aurora_vl.data.readers import read_retrieval
from aurora_vl.data.records import CaptionedMedia, Splits
from aurora_vl.evaluation.retrieval import RetrievalResult, evaluate_retrieval
from aurora_vl.inference.loading import TunedModel
from aurora_vl.inference.retriever import Retriever
from aurora_vl.inference.settings import AdapterSettings
from aurora_vl.objectives.retrieval import RetrievalTask
from aurora_vl.recipes.recipe import Recipe
from aurora_vl.training.tasks.base import Progress, TaskKind, common_settings

_TOP = 10  # answers of each query in predictions.json


@dataclass(frozen=True)
class RetrievalOutcome:
    """Scores of a gallery and the records they are about."""

    result: RetrievalResult
    records: Sequence[CaptionedMedia]
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def metrics(self) -> dict[str, float]:
        """Recalls and ranks."""
        return self.result.metrics

    def files(self) -> dict[str, Any]:
        """The ten best answers of every query in both directions, with ranks of the right ones."""
        return {"predictions.json": _predictions(self.result, self.records)}


class RetrievalKind(TaskKind[CaptionedMedia]):
    """Retrieval among pictures or videos."""

    model = "retrieval"
    primary = "r_mean"
    measure = "Recall"
    texts = "captions"
    curves: ClassVar = {
        "loss": "Sum",
        "loss_itc": "Contrastive",
        "loss_itm": "Matching",
        "eval_r_mean": "Mean recall",
        "eval_i2t_r1": "Image → text, R@1",
        "eval_t2i_r1": "Text → image, R@1",
        "eval_v2t_r1": "Video → text, R@1",
        "eval_t2v_r1": "Text → video, R@1",
    }
    video_keys = frozenset({"objective.frame_aware", "evaluation.frame_aware_evaluation"})
    keys = video_keys | {
        "objective.queue",
        "objective.momentum",
        "objective.alpha",
        "objective.ice",
        "objective.live_factors",
        "objective.float32_targets",
        "objective.count_empty_slots",
        "objective.warm_momentum",
        "objective.train_text_proj",
        "objective.train_temperature",
        "evaluation.score",
        "evaluation.half_states",
    }

    def read(
        self, recipe: Recipe, layout: str, annotations: Path, media: Path
    ) -> Splits[CaptionedMedia]:
        """Captions of pictures or videos."""
        return read_retrieval(layout, annotations, media, seed=recipe.training.seed)

    def warnings(self, recipe: Recipe, splits: Splits[CaptionedMedia]) -> list[str]:
        """Whether captions of different media read the same."""
        clean = partial(
            family_by_name(recipe.backbone).cleaned, role="caption", max_words=recipe.max_words
        )
        shared, total = shared_captions(splits.test, clean)
        if not shared:
            return []
        return [
            f"{shared:,} of the {total:,} scored captions have the text of another medium's "
            "caption, and only their own medium counts as right"
        ]

    def settings(self, recipe: Recipe, splits: Splits[CaptionedMedia]) -> AdapterSettings:
        """As in `TaskKind`."""
        return AdapterSettings(
            **common_settings(recipe),
            score=recipe.evaluation.score,
            frame_aware=recipe.switches.frame_aware_evaluation,
        )

    def train_set(
        self, recipe: Recipe, records: Sequence[CaptionedMedia], preprocessor: Preprocessor
    ) -> Dataset[Any]:
        """Items of a medium with one or more of its captions."""
        return RetrievalTrainSet(
            records,
            preprocessor,
            seed=recipe.training.seed,
            captions_per_item=recipe.data.captions_per_item,
            on_error=recipe.data.on_error,
        )

    def collator(self, preprocessor: Preprocessor) -> Callable[[Any], dict[str, Any]]:
        """Captions become ids."""
        return RetrievalCollator(preprocessor)

    def module(self, recipe: Recipe, tuned: TunedModel, items: int, epoch_steps: int) -> nn.Module:
        """The contrastive loss and, where there is a matcher, the matching loss."""
        objective = recipe.objective
        settings = recipe.switches.retrieval(
            # Each pair's features at most once.
            queue=min(objective.queue or 0, items * recipe.data.captions_per_item),
            momentum=objective.momentum,
            alpha=objective.alpha,
            ramp_steps=epoch_steps,
        )
        return RetrievalTask(tuned.family.dual_encoder(tuned.model), settings)

    def _score(
        self,
        recipe: Recipe,
        tuned: TunedModel,
        splits: Splits[CaptionedMedia],
        records: Sequence[CaptionedMedia],
        *,
        final: bool,
        progress: Progress | None,
    ) -> RetrievalOutcome:
        """Both directions, in as many stages as the backbone has."""
        settings = recipe.evaluation
        result = evaluate_retrieval(
            Retriever(tuned, settings.batch_size),
            records,
            rerank=settings.rerank,
            score=settings.score,
            workers=recipe.data.workers,
            half_states=settings.half_states,
            progress=progress,
        )
        return RetrievalOutcome(result, records)


def _predictions(result: RetrievalResult, records: Sequence[CaptionedMedia]) -> dict[str, Any]:
    captions = [(text, record.media_id) for record in records for text in record.captions]
    names = [record.media_id for record in records]
    asked = [record for record in records if record.captions]
    by_media = [
        {"media": record.media_id, "rank": int(place), "texts": [captions[i][0] for i in best]}
        for record, place, best in zip(
            asked,
            result.media_ranks,
            _best(result.media_to_text[[bool(r.captions) for r in records]]),
            strict=True,
        )
    ]
    by_text = [
        {"text": text, "of": name, "rank": int(place), "media": [names[i] for i in best]}
        for (text, name), place, best in zip(
            captions, result.text_ranks, _best(result.text_to_media), strict=True
        )
    ]
    return {"media_to_text": by_media, "text_to_media": by_text}


def _best(scores: torch.Tensor) -> list[list[int]]:
    best: list[list[int]] = scores.topk(min(_TOP, scores.shape[1]), 1).indices.tolist()
    return best
