"""Turns a trained adapter into what needs none of our code: a PEFT LoRA, or merged weights.

The folder is written whole or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft import PeftModel

from aurora_vl.backbones.base import Task
from aurora_vl.backbones.families import family_by_name, load
from aurora_vl.errors import UserError
from aurora_vl.inference.loading import attach_adapter
from aurora_vl.inference.settings import read_settings, write_settings
from aurora_vl.tuner.lora_export import LoraSummary, read_adapter, refuse_gates, write_lora
from aurora_vl.utils.atomic import whole_folder

_ASKING = ("vqa", "video-qa")


@dataclass(frozen=True, slots=True)
class MergedSummary:
    """What was written.

    Attributes:
        backbone: whose weights the adapter was merged into.
        their_class: the class of transformers that loads the folder.
        image_size: pixels along a side.
        parameters: of the model.
    """

    backbone: str
    their_class: str
    image_size: int
    parameters: int


def export_lora(
    adapter: Path, out: Path, *, backbone: str | None = None
) -> tuple[LoraSummary, Task]:
    """Write the standard PEFT LoRA adapter that is equal to an Aurora adapter.

    Args:
        adapter: the folder that train wrote; nothing else is read.
        out: a new or empty folder.
        backbone: what to record as the base model instead of the name in the adapter.

    Returns:
        What was written, and the model it is for, as `aurora_vl.load` names it.

    Raises:
        UserError: the adapter is none, or has query gates, or `out` holds something.
    """
    files = read_adapter(adapter)
    with whole_folder(out) as staging:
        return write_lora(files, staging, base=backbone), _task(files.config)


def export_merged(
    adapter: Path, out: Path, *, backbone: str | None = None, image_size: int | None = None
) -> MergedSummary:
    """Write the backbone with the adapter in its weights, its tokenizer and its preprocessing.

    transformers' own BLIP classes load the folder.

    Args:
        adapter: the folder that train wrote.
        out: a new or empty folder.
        backbone: as a recipe names it; what the adapter was trained on if left out.
        image_size: pixels along a side; if left out, that of the recipe beside the adapter, else
            the backbone's.

    Raises:
        UserError: the adapter is none, has query gates or does not fit the backbone, or `out`
            holds something.
    """
    files = read_adapter(adapter)
    refuse_gates(files)
    name = backbone or files.base
    if not name:
        raise UserError(
            f"the adapter {adapter} does not name the model it was trained on; add --backbone."
        )
    task = _task(files.config)
    with whole_folder(out) as staging:
        settings = read_settings(adapter)
        size = image_size or settings.image_size
        family = family_by_name(name)
        model = _merged(load(name, task=task, image_size=size), adapter, name)
        their_class = family.save_merged(model, task, name, staging)
        write_settings(staging, settings.model_copy(update={"image_size": size}))
        side = family.image_size(model.config)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return MergedSummary(name, their_class, side, parameters)


def _merged(backbone: Any, adapter: Path, name: str) -> Any:
    model = attach_adapter(backbone, adapter, name)
    assert isinstance(model, PeftModel)
    try:
        return model.merge_and_unload(safe_merge=True)
    except ValueError as error:  # not finite, or a kind of adapter that cannot be merged
        raise UserError(f"the adapter {adapter} cannot be merged: {error}") from None


def _task(config: Mapping[str, Any]) -> Task:
    """What the adapter is for, by the class it was trained on or the maps it adapts."""
    usage = config.get("usage") or {}
    if usage.get("task"):
        return "vqa" if usage["task"] in _ASKING else "retrieval"
    trained_on = (config.get("auto_mapping") or {}).get("base_model_class") or ""
    maps = config.get("target_blocks") or {}
    asks = "QuestionAnswering" in trained_on or any(m.startswith("text_decoder.") for m in maps)
    return "vqa" if asks else "retrieval"
