"""The method as a PEFT tuner: configuration, algebra, layers, query gates, registration."""

from __future__ import annotations

from aurora_vl.tuner.config import AuroraConfig
from aurora_vl.tuner.counting import AdapterNumbers, count_numbers
from aurora_vl.tuner.gqt import AuroraQueryGate, QuerySlot
from aurora_vl.tuner.layer import AuroraLayer, AuroraLinear
from aurora_vl.tuner.model import AuroraModel
from aurora_vl.tuner.registry import register

__all__ = [
    "AdapterNumbers",
    "AuroraConfig",
    "AuroraLayer",
    "AuroraLinear",
    "AuroraModel",
    "AuroraQueryGate",
    "QuerySlot",
    "count_numbers",
    "register",
]
