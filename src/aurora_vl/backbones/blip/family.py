"""BLIP as a family: everything that the rest of the package asks of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import nn
from transformers import BlipConfig, BlipImageProcessorPil

from aurora_vl.backbones.base import Part, PreparationSettings, Role, Task, base_model
from aurora_vl.backbones.blip import loading
from aurora_vl.backbones.blip.answer_model import BlipAnswerModel
from aurora_vl.backbones.blip.dual_encoder import BlipDualEncoder
from aurora_vl.backbones.blip.modeling import (
    BlipForQuestionAnswering,
    BlipForRetrieval,
    BlipTextLayer,
    BlipVisionLayer,
)
from aurora_vl.backbones.blip.preparation import (
    IMAGE_MEAN,
    IMAGE_STD,
    BlipPreprocessor,
)
from aurora_vl.backbones.blip.text import cleaned
from aurora_vl.backbones.family import Family, ModuleNames

_CLASSES: dict[Task, type[loading.BlipModel]] = {
    "retrieval": BlipForRetrieval,
    "vqa": BlipForQuestionAnswering,
}
_LAYERS: dict[Part, type[nn.Module]] = {"vision": BlipVisionLayer, "text": BlipTextLayer}


class BlipFamily(Family):
    """BLIP, for retrieval and for questions."""

    name = "BLIP"
    model_types = frozenset({"blip"})
    heads = ("vision_proj", "text_proj", "itm_head", "temperature")
    temperature = ("temperature",)
    modules: ClassVar = ModuleNames(
        norms=("layer_norm1", "layer_norm2", "post_layernorm", "LayerNorm"),
        second_of_mlp=r".*\.fc2|.*\.layer\.\d+\.output\.dense",
        all_maps=(
            r"(vision_model|text_encoder|text_decoder\.bert)\..*\."
            r"(qkv|projection|fc1|fc2|query|key|value|dense)"
        ),
        before_vocabulary="transform",  # text_decoder.cls.predictions.transform
    )

    def load(self, name: str, task: Task, image_size: int | None, dtype: torch.dtype) -> nn.Module:
        """As in `Family`."""
        return loading.load(name, task=task, image_size=image_size, dtype=dtype)

    def load_config(self, name: str, image_size: int | None) -> BlipConfig:
        """As in `Family`; the published shapes are known by name and need no network."""
        return loading.load_config(name, image_size=image_size)

    def empty_model(self, task: Task, config: BlipConfig) -> nn.Module:
        """As in `Family`."""
        return _CLASSES[task](config)

    def tokenizer(self, name: str) -> Any:
        """As in `Family`."""
        return loading.load_tokenizer(name)

    def preprocessor(
        self, model: nn.Module, tokenizer: Any, settings: PreparationSettings
    ) -> BlipPreprocessor:
        """As in `Family`."""
        config = cast("loading.BlipModel", base_model(model)).config
        return BlipPreprocessor(tokenizer, config, settings)

    def cleaned(self, text: str, role: Role, max_words: int | None) -> str:
        """As in `Family`; answers are not cleaned further."""
        return cleaned(text, role, max_words)

    def image_size(self, config: BlipConfig) -> int:
        """As in `Family`."""
        size: int = config.vision_config.image_size
        return size

    def width(self, config: BlipConfig) -> int:
        """The text model's hidden size."""
        width: int = config.text_config.hidden_size
        return width

    def trained_heads(self, task: Task, *, text_projection: bool, temperature: bool) -> list[str]:
        """Projections and matching head; none for questions, whose head is the word embedding."""
        if task == "vqa":
            return []
        optional = {"text_proj": text_projection, "temperature": temperature}
        return ["vision_proj", "itm_head", *(name for name, on in optional.items() if on)]

    def layers(self, model: nn.Module, part: Part) -> list[nn.Module]:
        """As in `Family`; the answer decoder's are of the text part."""
        return [module for module in model.modules() if isinstance(module, _LAYERS[part])]

    def dual_encoder(self, model: nn.Module) -> BlipDualEncoder:
        """As in `Family`."""
        return BlipDualEncoder(model)

    def answer_model(self, model: nn.Module, tokenizer: Any) -> BlipAnswerModel:
        """As in `Family`."""
        return BlipAnswerModel(model)

    def save_merged(self, model: nn.Module, task: Task, name: str, folder: Path) -> str:
        """As in `Family`."""
        blip = cast("loading.BlipModel", model)
        blip.save_pretrained(folder)
        blip.config.architectures = [loading.THEIR_CLASSES[task]]  # after saving put ours there
        blip.config.save_pretrained(folder)
        self.tokenizer(name).save_pretrained(folder)
        side = self.image_size(blip.config)
        BlipImageProcessorPil(
            size={"height": side, "width": side},
            image_mean=list(IMAGE_MEAN),
            image_std=list(IMAGE_STD),
        ).save_pretrained(folder)
        return loading.THEIR_CLASSES[task]
