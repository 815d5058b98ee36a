"""CLIP and SigLIP as families: everything that the rest of the package asks of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, NoReturn, cast

import torch
from torch import nn
from transformers import PreTrainedModel

from aurora_vl.backbones.base import Part, PreparationSettings, Role, Task, base_model
from aurora_vl.backbones.clip import loading
from aurora_vl.backbones.clip.dual_encoder import ClipDualEncoder
from aurora_vl.backbones.clip.preparation import ClipPreprocessor, PatchPreprocessor
from aurora_vl.backbones.family import Family, ModuleNames
from aurora_vl.errors import UserError

_MODULES = ModuleNames(
    norms=("layer_norm1", "layer_norm2", "post_layernorm", "final_layer_norm"),
    second_of_mlp=r".*\.encoder\..*\.fc2",
    all_maps=r"(vision_model|text_model)\.encoder\..*\.([qkv]_proj|out_proj|fc1|fc2)",
    before_vocabulary=None,
)


class ClipFamily(Family):
    """CLIP and MetaCLIP 2, for retrieval; softmax loss."""

    name = "CLIP"
    model_types = frozenset({"clip", "metaclip_2"})
    heads: ClassVar[tuple[str, ...]] = (
        *("visual_projection", "text_projection"),
        *("temperature", "logit_scale", "logit_bias"),
    )
    temperature = ("logit_scale", "logit_bias")
    modules: ClassVar = _MODULES
    _always_trained: ClassVar[list[str]] = ["visual_projection"]
    _text_projection: ClassVar[str] = "text_projection"

    def load(self, name: str, task: Task, image_size: int | None, dtype: torch.dtype) -> nn.Module:
        """As in `Family`."""
        self._require_retrieval(task, name)
        return loading.load_model(name, image_size, dtype)

    def load_config(self, name: str, image_size: int | None) -> Any:
        """As in `Family`."""
        return loading.load_config(name, image_size)

    def empty_model(self, task: Task, config: Any) -> nn.Module:
        """As in `Family`."""
        self._require_retrieval(task, f"a model of type {config.model_type}")
        return loading.empty_model(config)

    def tokenizer(self, name: str) -> Any:
        """The backbone's processor, which has the tokenizer."""
        return loading.load_processor(name)

    def preprocessor(
        self, model: nn.Module, tokenizer: Any, settings: PreparationSettings
    ) -> ClipPreprocessor:
        """As in `Family`."""
        config = cast("PreTrainedModel", base_model(model)).config
        kind = PatchPreprocessor if config.model_type == "siglip2" else ClipPreprocessor
        return kind(tokenizer, config, settings)

    def cleaned(self, text: str, role: Role, max_words: int | None) -> str:
        """The text itself: the tokenizer does what the model was trained with."""
        return text

    def image_size(self, config: Any) -> int:
        """As in `Family`."""
        return loading.side(config)

    def width(self, config: Any) -> int:
        """The text model's hidden size."""
        return int(config.text_config.hidden_size)

    def trained_heads(self, task: Task, *, text_projection: bool, temperature: bool) -> list[str]:
        """The projections and the temperature."""
        self._require_retrieval(task, f"{self.name} models")
        optional = {self._text_projection: text_projection, "temperature": temperature}
        return [*self._always_trained, *(name for name, on in optional.items() if on)]

    def layers(self, model: nn.Module, part: Part) -> list[nn.Module]:
        """As in `Family`."""
        inner: Any = base_model(model)
        tower = inner.vision_model if part == "vision" else inner.text_model
        return list(tower.encoder.layers)

    def dual_encoder(self, model: nn.Module) -> ClipDualEncoder:
        """As in `Family`."""
        return ClipDualEncoder(model)

    def answer_model(self, model: nn.Module, tokenizer: Any) -> NoReturn:
        """Refused: there is nothing that writes."""
        raise UserError(_no_questions(type(base_model(model)).__name__))

    def save_merged(self, model: nn.Module, task: Task, name: str, folder: Path) -> str:
        """As in `Family`."""
        return loading.save_merged(cast("PreTrainedModel", model), name, folder)

    def _require_retrieval(self, task: Task, name: str) -> None:
        if task != "retrieval":
            raise UserError(_no_questions(name))


class SiglipFamily(ClipFamily):
    """SigLIP and SigLIP 2, at a fixed resolution or any aspect ratio, for retrieval; sigmoid loss.

    Features are the towers' own; the text tower ends in a linear head, the vision tower in none.
    """

    name = "SigLIP"
    model_types = frozenset({"siglip", "siglip2"})
    heads = ("text_model.head", "temperature", "logit_scale", "logit_bias")
    _always_trained: ClassVar[list[str]] = []
    _text_projection = "text_model.head"


def _no_questions(name: str) -> str:
    return (
        f"{name} compares pictures with texts and answers no questions; set task to retrieval or "
        "video-retrieval, or backbone to a model that answers."
    )


CLIP_FAMILIES: tuple[Family, ...] = (ClipFamily(), SiglipFamily())
