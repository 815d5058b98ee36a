"""Counting what a model trains, by part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING
from peft.tuners.ln_tuning.layer import LNTuningLayer
from torch import nn

from aurora_vl.backbones.blip.modeling import HEADS

ADAPTER_PREFIXES = tuple(sorted(set(PEFT_TYPE_TO_PREFIX_MAPPING.values())))
"""What the names of adapters' own parameters begin with."""
_TEMPERATURE = "temperature"


@dataclass(frozen=True, slots=True)
class ParameterCount:
    """Numbers of a model in use.

    Attributes:
        factors: the adapter's own numbers; of Aurora its shared factors, cores and modes.
        gates: query gates.
        heads: projections, matching head and temperature, where they are trained.
        backbone: trained numbers of the backbone itself (method full).
        total: all numbers of the model in use, adapter included.
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
    """Count what is trained, by part, and all numbers of the model in use.

    The frozen originals that PEFT keeps beside trained heads and norms are not in use and not
    counted.
    """
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
            counts[part_of(name)] += parameter.numel()
    return ParameterCount(**counts, total=total)


def part_of(name: str, saved_whole: Sequence[str] = ()) -> str:
    """The part of `ParameterCount` that a trained parameter belongs to, by its name.

    Args:
        name: in the model, or in an adapter's file.
        saved_whole: the adapter's `modules_to_save`, which names in its file do not tell.
    """
    parts = name.split(".")
    if any(part.startswith("aurora_gate") for part in parts):
        return "gates"
    if any(part.startswith(ADAPTER_PREFIXES) for part in parts):
        return "factors"
    heads = ("modules_to_save", *HEADS, _TEMPERATURE, *saved_whole)
    return "heads" if any(f".{head}." in f".{name}." for head in heads) else "backbone"
