"""A family of backbones: what loads a model, prepares for it and puts it behind the seam."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import nn

from aurora_vl.backbones.base import (
    AnswerModel,
    DualEncoder,
    Part,
    PreparationSettings,
    Preprocessor,
    Role,
    Task,
)


class ModuleNames(NamedTuple):
    """Where other methods than ours act in a family's models; names or regular expressions.

    Attributes:
        norms: names of the layer norms.
        second_of_mlp: the second map of each feed-forward block.
        all_maps: every linear map of the encoders and the decoder.
        before_vocabulary: the map before the vocabulary; None without one.
    """

    norms: Sequence[str]
    second_of_mlp: str
    all_maps: str
    before_vocabulary: str | None


class Family(ABC):
    """A family of backbones.

    Attributes:
        name: for errors.
        model_types: values of `model_type` in config.json that are its.
        heads: every name that a trained head may have, the temperature's among them.
        temperature: the modules or parameters that turn cosines into logits.
        modules: for the methods beside ours.
    """

    name: ClassVar[str]
    model_types: ClassVar[frozenset[str]]
    heads: ClassVar[tuple[str, ...]]
    temperature: ClassVar[tuple[str, ...]]
    modules: ClassVar[ModuleNames]

    @abstractmethod
    def load(self, name: str, task: Task, image_size: int | None, dtype: torch.dtype) -> nn.Module:
        """The pre-trained model for a task, in evaluation mode on the CPU."""

    @abstractmethod
    def load_config(self, name: str, image_size: int | None) -> Any:
        """A backbone's configuration; its weights are not looked at."""

    @abstractmethod
    def empty_model(self, task: Task, config: Any) -> nn.Module:
        """A task's model of a configuration, its parameters as the current device gives them."""

    @abstractmethod
    def tokenizer(self, name: str) -> Any:
        """The tokenizer that stands beside a backbone, or the processor that has it."""

    @abstractmethod
    def preprocessor(
        self, model: nn.Module, tokenizer: Any, settings: PreparationSettings
    ) -> Preprocessor:
        """What prepares media and texts for a model."""

    @abstractmethod
    def cleaned(self, text: str, role: Role, max_words: int | None) -> str:
        """A text as the family reads it, before it is tokenised."""

    @abstractmethod
    def image_size(self, config: Any) -> int:
        """Pixels along a side."""

    @abstractmethod
    def width(self, config: Any) -> int:
        """The size of a backbone, which decides default ranks and learning rates."""

    @abstractmethod
    def trained_heads(self, task: Task, *, text_projection: bool, temperature: bool) -> list[str]:
        """Modules that are trained whole beside an adapter.

        Args:
            task: the model's.
            text_projection: whether the text projection is one of them.
            temperature: whether the temperature is.
        """

    @abstractmethod
    def layers(self, model: nn.Module, part: Part) -> list[nn.Module]:
        """The transformer layers of a part, for gradient checkpointing."""

    @abstractmethod
    def dual_encoder(self, model: nn.Module) -> DualEncoder:
        """A retrieval model behind the seam."""

    @abstractmethod
    def answer_model(self, model: nn.Module, tokenizer: Any) -> AnswerModel:
        """A question answering model behind the seam.

        Args:
            model: the backbone, or a PEFT model around it.
            tokenizer: from `tokenizer`, which knows where answers end.
        """

    @abstractmethod
    def save_merged(self, model: nn.Module, task: Task, name: str, folder: Path) -> str:
        """Write a model whose adapter was merged, with tokenizer and preprocessing.

        Returns:
            the class of transformers that loads the folder.
        """
