"""How wide a backbone is, which decides usual ranks and rates, without looking at its weights."""

from __future__ import annotations

import json
from pathlib import Path

from aurora_vl.backbones.folders import MINI, find_backbone

_NARROW = 256


def is_narrow(backbone: str) -> bool:
    """Whether the hidden size of a backbone's text model is at most 256.

    Only folders are looked at: original checkpoints are all wider, and so is what the hub has to
    offer as a foundation; resolving a recipe needs no network.

    Args:
        backbone: as a recipe names it.

    Returns:
        False where it cannot be told; what is wrong there is said by whoever loads it.
    """
    if backbone != MINI and not Path(backbone).is_dir():
        return False
    try:
        text = (find_backbone(backbone) / "config.json").read_text(encoding="utf-8")
        config = json.loads(text)
        return int(config.get("text_config", config)["hidden_size"]) <= _NARROW
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False
