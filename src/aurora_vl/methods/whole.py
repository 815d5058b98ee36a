"""Methods that add nothing to the backbone: nothing is trained, the heads are, or everything is."""

from __future__ import annotations

from dataclasses import replace

from peft import LoraConfig, PeftConfig

from aurora_vl.methods.base import Method, Request

_NOWHERE = "dummy-target-modules"  # PEFT's word for an adapter of `modules_to_save` alone


def _linear(asked: Request) -> PeftConfig:
    """The task's heads; in question answering, which has none, the map before the vocabulary."""
    if not asked.heads:
        asked = replace(asked, heads=[asked.modules.before_vocabulary or _NOWHERE])
    return asked.config(LoraConfig, target_modules=_NOWHERE)


WHOLE = (
    Method("none", "Zero-shot", None),
    Method("linear", "Heads only", (1e-3, 1e-4), config=_linear, dropout=False),
    Method("full", "Full fine-tuning", (1e-3, 1e-5)),
)
