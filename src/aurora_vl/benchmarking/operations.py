"""Counting the operations of matrix products and convolutions, on shapes alone if need be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

GIGA = 1e9


def counting() -> FlopCounterMode:
    """A context in which operations are counted: two for a multiplication with its sum.

    torch's own counter does not know products that are added in place.
    """
    return FlopCounterMode(
        display=False, custom_mapping={torch.ops.aten.addmm_: _product_added_in_place}
    )


def _product_added_in_place(
    _result: Sequence[int], a: Sequence[int], b: Sequence[int], *_args: Any, **_kwargs: Any
) -> int:
    rows, inner = a
    return 2 * rows * inner * b[1]
