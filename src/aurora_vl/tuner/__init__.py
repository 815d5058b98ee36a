"""The method as a PEFT tuner, for any PyTorch model.

`config` says what is trained, `layer` and `gqt` hold the adapted maps and query gates, `functional`
their mathematics; `model` puts them on a model, owns the shared factors and keeps PEFT's promises.
"""

from __future__ import annotations

from aurora_vl.tuner.config import AuroraConfig
from aurora_vl.tuner.counting import AdapterParameterCount, count_adapter_parameters
from aurora_vl.tuner.gqt import AuroraQueryGate, QuerySlot
from aurora_vl.tuner.layer import AuroraLayer, AuroraLinear
from aurora_vl.tuner.model import AuroraModel
from aurora_vl.tuner.registry import register

__all__ = [
    "AdapterParameterCount",
    "AuroraConfig",
    "AuroraLayer",
    "AuroraLinear",
    "AuroraModel",
    "AuroraQueryGate",
    "QuerySlot",
    "count_adapter_parameters",
    "register",
]
