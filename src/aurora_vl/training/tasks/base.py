"""What a task decides about a run: its records, its batches, its loss, its score.

`run.py` knows no task by name: it asks the recipe's `TaskKind`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol

from torch import nn
from torch.utils.data import Dataset

from aurora_vl.backbones.base import Preprocessor, Task
from aurora_vl.data.records import MediaKind, R, Splits
from aurora_vl.inference.loading import TunedModel
from aurora_vl.inference.settings import AdapterSettings, TrainedOn, place_digest
from aurora_vl.recipes.recipe import Recipe

Progress = Callable[[int, int], None]
"""Called with what is done and what there is in all."""


class Outcome(Protocol):
    """What scoring some records found."""

    @property
    def metrics(self) -> dict[str, float]:
        """For `metrics` of metrics.json; in percent, ranks aside."""
        ...

    @property
    def details(self) -> dict[str, Any]:
        """Further top-level entries of metrics.json; plain values."""
        ...

    def files(self) -> dict[str, Any]:
        """The predictions: file names and their JSON contents."""
        ...


class TrainSet(Protocol):
    """A training set: of known length, told its epoch."""

    def __len__(self) -> int: ...

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that the next items are drawn for."""
        ...


class TaskKind(ABC, Generic[R]):
    """A task.

    Attributes:
        model: the backbone's model for it, as `aurora_vl.load` names it.
        primary: the metric that chooses the best checkpoint and that a demo shows large; more is
            better.
        measure: the word for what validation measures, "Recall" or "Accuracy".
        texts: the word for what is written about media.
        curves: what a demo draws of the log: keys of a part of the loss, or of a validation metric
            (beginning with `eval_`), to their names.
        media: what it is about; other media are refused.
        world: the layout that the generated world is written in for it, a `data.kind`.
        keys: of the recipe's sections objective and evaluation, what tasks of its kind alone read.
        video_keys: those of them that mean nothing for pictures.
    """

    model: ClassVar[Task]
    primary: ClassVar[str]
    measure: ClassVar[str]
    texts: ClassVar[str]
    curves: ClassVar[dict[str, str]]
    keys: ClassVar[frozenset[str]]
    video_keys: ClassVar[frozenset[str]]

    def __init__(self, *, media: MediaKind, world: str) -> None:
        self.media = media
        self.world = world

    @property
    def own_keys(self) -> frozenset[str]:
        """Keys of the recipe that this task reads and not all others do."""
        return self.keys if self.media == "video" else self.keys - self.video_keys

    @abstractmethod
    def read(self, recipe: Recipe, layout: str, annotations: Path, media: Path) -> Splits[R]:
        """Read a data set in a layout, whether its media are there or not."""

    def warnings(self, recipe: Recipe, splits: Splits[R]) -> list[str]:
        """Sentences about what is odd in a data set for this recipe; none by default."""
        return []

    def can_score(self, records: Sequence[R]) -> bool:
        """Whether the right answers are known, as the server of a benchmark may keep them."""
        return True

    @abstractmethod
    def settings(self, recipe: Recipe, splits: Splits[R]) -> AdapterSettings:
        """How a model trained by the recipe is used; what the adapter's folder keeps."""

    @abstractmethod
    def train_set(
        self, recipe: Recipe, records: Sequence[R], preprocessor: Preprocessor
    ) -> Dataset[Any]:
        """The training items, a `TrainSet`."""

    @abstractmethod
    def collator(self, preprocessor: Preprocessor) -> Callable[[Any], dict[str, Any]]:
        """What makes a batch of items."""

    @abstractmethod
    def module(self, recipe: Recipe, tuned: TunedModel, items: int, epoch_steps: int) -> nn.Module:
        """The model with its loss: forward takes a batch and gives `loss` and its parts.

        Args:
            recipe: resolved.
            tuned: the model, with what is trained set to require gradients.
            items: of the training set.
            epoch_steps: optimisation steps of an epoch.
        """

    def score(
        self,
        recipe: Recipe,
        tuned: TunedModel,
        splits: Splits[R],
        records: Sequence[R],
        *,
        final: bool,
        progress: Progress | None = None,
    ) -> Outcome:
        """Score records as the model will be used, see `inference`.

        Args:
            recipe: resolved.
            tuned: the model, left in the mode it was in.
            splits: the whole data set, for what the task takes from training data.
            records: what to score, one of the splits.
            final: whether this is the run's result; if not, only the metrics are asked for.
            progress: told what is done.
        """
        was_training = tuned.model.training
        tuned.model.eval()
        try:
            return self._score(recipe, tuned, splits, records, final=final, progress=progress)
        finally:
            tuned.model.train(was_training)

    @abstractmethod
    def _score(
        self,
        recipe: Recipe,
        tuned: TunedModel,
        splits: Splits[R],
        records: Sequence[R],
        *,
        final: bool,
        progress: Progress | None,
    ) -> Outcome:
        """Score records with a model in evaluation mode."""


def common_settings(recipe: Recipe) -> dict[str, Any]:
    """The settings that every task has, as arguments of `AdapterSettings`."""
    data = recipe.data
    return {
        "task": recipe.task,
        "backbone": recipe.backbone,
        "image_size": recipe.image_size,
        "frames": data.frames,
        "max_words": recipe.max_words,
        "max_tokens": data.max_tokens,
        "trained_on": TrainedOn(
            kind=data.kind,
            annotations=place_digest(data.annotations),
            questions=data.train_on,
            seed=recipe.training.seed,
        ),
    }
