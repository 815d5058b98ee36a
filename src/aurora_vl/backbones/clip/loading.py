"""Two-tower models of transformers and their processors from folders, each fault in a sentence."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoTokenizer,
    CLIPModel,
    CLIPProcessor,
    MetaClip2Model,
    PreTrainedModel,
    ProcessorMixin,
    Siglip2Model,
    Siglip2Processor,
    SiglipModel,
    SiglipProcessor,
)

from aurora_vl.backbones.clip.logit_scale import LogitScale
from aurora_vl.backbones.folders import find_backbone
from aurora_vl.errors import UserError

_CLASSES: dict[str, tuple[type[PreTrainedModel], type[ProcessorMixin]]] = {
    "clip": (CLIPModel, CLIPProcessor),
    "metaclip_2": (MetaClip2Model, CLIPProcessor),
    "siglip": (SiglipModel, SiglipProcessor),
    "siglip2": (Siglip2Model, Siglip2Processor),
}
_PREPROCESSING = ("preprocessor_config.json", "processor_config.json")
_FAULTS = (OSError, ValueError, TypeError, KeyError, RuntimeError, ImportError)


def load_config(name: str, image_size: int | None) -> Any:
    """A backbone's configuration.

    Raises:
        UserError: the name leads nowhere, the file cannot be read, or the backbone sees pictures
            at another size.
    """
    folder = find_backbone(name)
    try:
        config = AutoConfig.from_pretrained(folder)
    except _FAULTS as error:
        raise UserError(f"{folder / 'config.json'} cannot be read: {_reason(error)}") from error
    own = side(config)
    if image_size not in (None, own):
        raise UserError(
            f"image_size is {image_size}, but {name} sees pictures of {own} pixels along a side "
            "and is not made for others; leave image_size out."
        )
    return config


def side(config: Any) -> int:
    """Pixels along a side; of patches at any aspect ratio, those of a square picture."""
    vision = config.vision_config
    if config.model_type == "siglip2":
        return int(vision.num_patches**0.5) * int(vision.patch_size)
    return int(vision.image_size)


def load_model(name: str, image_size: int | None, dtype: torch.dtype) -> PreTrainedModel:
    """A pre-trained model in evaluation mode on the CPU.

    Raises:
        UserError: as for `load_config`, or the weights are absent, cut or of another model.
    """
    config, folder = load_config(name, image_size), find_backbone(name)
    kind, _ = _CLASSES[config.model_type]
    try:
        model, found = kind.from_pretrained(
            folder, config=config, dtype=dtype, output_loading_info=True
        )
    except _FAULTS as error:
        raise UserError(
            f"the weights of {name} cannot be read as a {kind.__name__}: {_reason(error)}"
        ) from error
    if missing := sorted(found["missing_keys"]):
        raise UserError(
            f"the weights of {name} lack {missing[0]!r} and are no {kind.__name__}; give a model "
            "of both pictures and texts."
        )
    return with_logit_scale(model).eval()


def empty_model(config: Any) -> PreTrainedModel:
    """A model of a configuration, its parameters as the current device gives them."""
    kind, _ = _CLASSES[config.model_type]
    return with_logit_scale(kind(config))


def with_logit_scale(model: PreTrainedModel) -> PreTrainedModel:
    """The model, its logits' scale and bias shown as the module `temperature`, see `LogitScale`."""
    model.temperature = LogitScale(model)
    return model


def load_processor(name: str) -> Any:
    """The processor that stands beside a backbone; pictures are prepared by Pillow and numpy.

    Raises:
        UserError: the tokenizer or the preprocessing is absent or cannot be read.
    """
    folder = find_backbone(name)
    if not any((folder / file).is_file() for file in _PREPROCESSING):
        raise UserError(
            f"{folder} has no {_PREPROCESSING[0]}, which says how pictures are prepared; copy it "
            "from the model it was made of."
        )
    try:
        config = AutoConfig.from_pretrained(folder)
        image_processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except _FAULTS as error:
        raise UserError(
            f"the tokenizer and the preprocessing of {name} cannot be read: {_reason(error)}"
        ) from error
    _, kind = _CLASSES[config.model_type]
    return kind(image_processor=image_processor, tokenizer=tokenizer)


def save_merged(model: PreTrainedModel, name: str, folder: str | os.PathLike[str]) -> str:
    """Write a model whose adapter was merged, with its processor.

    Returns:
        the class of transformers that loads the folder.
    """
    temperature: Any = model.temperature
    with torch.no_grad():
        for kept, trained in zip(LogitScale(model)(), temperature(), strict=True):
            kept.copy_(trained)
    del model.temperature
    model.save_pretrained(Path(folder))
    load_processor(name).save_pretrained(Path(folder))
    return type(model).__name__


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
