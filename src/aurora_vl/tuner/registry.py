"""Registers the method with PEFT from outside: three entries in PEFT's own tables.

PEFT's `register_peft_method` refuses names that its PeftType does not know; a one-member str Enum
of our own hashes and compares like its string, so the entries are found.
"""

from __future__ import annotations

from typing import Any

from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING, PeftConfig
from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING
from peft.tuners.tuners_utils import BaseTuner

from aurora_vl.tuner.config import AuroraConfig, AuroraPeftType
from aurora_vl.tuner.model import AuroraModel


def register() -> None:
    """Make PEFT know "AURORA"; calling it again changes nothing.

    Raises:
        RuntimeError: another package holds the name.
    """
    register_kind(AuroraPeftType.AURORA, AuroraConfig, AuroraModel)


def register_kind(kind: Any, config: type[PeftConfig], tuner: type[BaseTuner]) -> None:
    """Make PEFT know a kind of adapter under a name of its own.

    Args:
        kind: the member of a one-member str Enum.
        config: the class of its configurations.
        tuner: the class that puts it on a model.

    Raises:
        RuntimeError: another package holds the name.
    """
    entries: list[tuple[dict[Any, Any], Any]] = [
        (PEFT_TYPE_TO_CONFIG_MAPPING, config),
        (PEFT_TYPE_TO_TUNER_MAPPING, tuner),
        (PEFT_TYPE_TO_PREFIX_MAPPING, tuner.prefix),
    ]
    for table, ours in entries:
        held = table.get(kind, ours)
        if held is not ours:
            raise RuntimeError(
                f"PEFT's name {kind.value!r} is already taken by {held!r}: "
                "import only one of the two."
            )
    for table, ours in entries:
        table[kind] = ours
