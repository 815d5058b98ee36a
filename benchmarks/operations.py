"""Counting the operations of matrix products and convolutions, on shapes alone if need be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

GIGA = 1e9


def counting() -> FlopCounterMode:
    """A context in which operations are counted: two for a multiplication with its sum.

    torch's own counter does not know products that are added in place, nor a CPU's attention. It
    works under `torch.no_grad`, but not in inference mode, where it cannot follow parameters.
    """
    aten = torch.ops.aten
    return FlopCounterMode(
        display=False,
        custom_mapping={
            aten.addmm_: _product_added_in_place,
            aten._scaled_dot_product_flash_attention_for_cpu: _attention,
        },
    )


def _attention(query: Sequence[int], key: Sequence[int], *_args: Any, **_kwargs: Any) -> int:
    """Scores and weighted values of (B, H, L, e) over (B, H, N, e)."""
    rows, heads, length, width = query
    return 4 * rows * heads * length * key[2] * width


def _product_added_in_place(
    _result: Sequence[int], a: Sequence[int], b: Sequence[int], *_args: Any, **_kwargs: Any
) -> int:
    rows, inner = a
    return 2 * rows * inner * b[1]
