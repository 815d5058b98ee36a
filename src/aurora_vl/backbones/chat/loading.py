"""Chat models and their processors from folders in transformers' layout; no torchvision needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoTokenizer,
    ProcessorMixin,
)
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

from aurora_vl.backbones.folders import find_backbone, model_type_of
from aurora_vl.errors import UserError


def load_config(name: str) -> Any:
    """A backbone's configuration.

    Raises:
        UserError: it cannot be read.
    """
    folder = find_backbone(name)
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{folder / 'config.json'} is no configuration of a chat model ({_line(error)})"
        ) from None


def load_model(name: str, dtype: torch.dtype) -> nn.Module:
    """A backbone with its weights, in evaluation mode on the CPU.

    Raises:
        UserError: weights are absent, damaged or lack something.
    """
    folder = find_backbone(name)
    try:
        model, found = AutoModelForImageTextToText.from_pretrained(
            folder, dtype=dtype, local_files_only=True, output_loading_info=True
        )
    except Exception as error:  # what damaged files come to; transformers raises no narrower kind
        raise UserError(
            f"the weights in {folder} cannot be loaded ({_line(error)}); copy the model's whole "
            "folder again"
        ) from None
    if found["missing_keys"]:
        raise UserError(
            f"the weights in {folder} lack {sorted(found['missing_keys'])[0]}; copy the model's "
            "whole folder again"
        )
    whole: nn.Module = model
    return whole.eval()


def load_processor(name: str) -> Any:
    """The processor that stands beside a backbone, without its video processor.

    Raises:
        UserError: a part of it is absent.
    """
    folder = find_backbone(name)
    kind = PROCESSOR_MAPPING_NAMES[model_type_of(folder)]
    way_out = "put the model's own processor files beside its weights"
    try:
        made: Any = _processor(folder, getattr(transformers, kind))
    except ImportError as error:
        raise UserError(f"{kind} cannot be used: {_line(error)}") from None
    except Exception as error:  # as above
        raise UserError(
            f"{folder} holds no processor that can be read ({_line(error)}); {way_out}"
        ) from None
    if made.chat_template is None:
        made.chat_template = made.tokenizer.chat_template
    if made.chat_template is None:
        raise UserError(
            f"{folder} has no chat template; put chat_template.jinja beside its weights"
        )
    return made


def _processor(folder: Path, kind: type[ProcessorMixin]) -> ProcessorMixin:
    settings, _ = kind.get_processor_dict(str(folder), local_files_only=True)
    parts = {
        "image_processor": AutoImageProcessor.from_pretrained(
            folder, backend="pil", local_files_only=True
        ),
        "tokenizer": AutoTokenizer.from_pretrained(folder, local_files_only=True),
    }
    left_out = {*parts, "video_processor", "processor_class", "auto_map"}
    rest = {key: value for key, value in settings.items() if key not in left_out}
    return _for_pictures(kind, folder)(**parts, **rest, video_processor=None)


def _for_pictures(kind: type[ProcessorMixin], folder: Path) -> type[ProcessorMixin]:
    """A class of processor without its video processor, which would need torchvision.

    Frames of videos go in as pictures. In another process it is loaded again.
    """
    parts = [part for part in kind.get_attributes() if part != "video_processor"]
    return type(
        kind.__name__,
        (kind,),
        {
            "get_attributes": classmethod(lambda cls: parts),
            "__reduce__": lambda self: (load_processor, (str(folder),)),
        },
    )


def _line(error: BaseException) -> str:
    """An error in one line."""
    return " ".join(str(error).split())[:300]
