"""Counting what a model trains, by part."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from peft import PeftModel
from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING
from peft.tuners.ln_tuning.layer import LNTuningLayer
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors import safe_open
from torch import nn

from aurora_vl.backbones.families import family_of_model

ADAPTER_PREFIXES = tuple(sorted(set(PEFT_TYPE_TO_PREFIX_MAPPING.values())))
"""What the names of adapters' own parameters begin with."""


@dataclass(frozen=True, slots=True)
class ParameterCount:
    """Parameters of a model in use.

    Attributes:
        factors: the adapter's own; of Aurora its shared factors, cores and modes.
        gates: query gates.
        heads: projections, matching head and temperature, where they are trained.
        backbone: trained ones of the backbone itself (method full).
        total: all of the model in use, adapter included.
    """

    factors: int
    gates: int
    heads: int
    backbone: int
    total: int

    @property
    def trainable(self) -> int:
        """Everything that is trained."""
        return self.factors + self.gates + self.heads + self.backbone


def count_parameters(model: nn.Module) -> ParameterCount:
    """Count what is trained, by part, and all parameters of the model in use.

    The frozen originals that PEFT keeps beside trained heads and norms are not in use and not
    counted.
    """
    heads = family_of_model(model).heads
    counts = dict.fromkeys(("factors", "gates", "heads", "backbone"), 0)
    total = 0
    replaced = tuple(
        f"{name}.base_layer." for name, m in model.named_modules() if isinstance(m, LNTuningLayer)
    )
    for name, parameter in model.named_parameters():
        if ".original_module." in name or name.startswith(replaced):
            continue
        total += parameter.numel()
        if parameter.requires_grad:
            counts[part_of(name, heads)] += parameter.numel()
    return ParameterCount(**counts, total=total)


def count_saved(folder: Path | None, model: nn.Module) -> ParameterCount:
    """Count what a folder's weights hold by part, and all parameters of the model in use.

    Args:
        folder: an adapter's, or a whole model's; None for the backbone alone.
        model: the model they were loaded into.
    """
    counts = dict.fromkeys(("factors", "gates", "heads", "backbone"), 0)
    whole = model.peft_config["default"].modules_to_save if isinstance(model, PeftModel) else None
    names = (*family_of_model(model).heads, *(whole or ()))
    for file in _weights(folder) if folder else ():
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (no mapping)
                counts[part_of(name, names)] += math.prod(tensors.get_slice(name).get_shape())
    return ParameterCount(**counts, total=count_parameters(model).total)


def _weights(folder: Path) -> list[Path]:
    """The weights of an adapter, or of a whole model, which may be in parts."""
    for names in (SAFETENSORS_WEIGHTS_NAME, "model.safetensors", "model-*-of-*.safetensors"):
        found = sorted(folder.glob(names))
        if found:
            return found
    return []


def part_of(name: str, heads: Sequence[str]) -> str:
    """The part of `ParameterCount` that a trained parameter belongs to, by its name.

    Args:
        name: in the model, or in an adapter's file.
        heads: names of the family's heads and of the adapter's `modules_to_save`, which names in
            its file do not tell.
    """
    parts = name.split(".")
    if any(part.startswith("aurora_gate") for part in parts):
        return "gates"
    if any(part.startswith(ADAPTER_PREFIXES) for part in parts):
        return "factors"
    trained_whole = ("modules_to_save", *heads)
    return "heads" if any(f".{head}." in f".{name}." for head in trained_whole) else "backbone"
