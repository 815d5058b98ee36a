"""Whether bfloat16 pays on this processor; without instructions for it, it is many times slower."""

from __future__ import annotations

import logging
import time

import torch

log = logging.getLogger(__name__)
_SIDE = 256  # of a product that takes a millisecond in float32, and tens of them at worst
_REPEATS = 5
_CLEARLY = 1.5  # times as slow; less may be another process's doing


def warn_if_bfloat16_is_slow() -> None:
    """Say so where a product of matrices takes longer in bfloat16 than in float32."""
    times = product_seconds(torch.bfloat16) / product_seconds(torch.float32)
    if times > _CLEARLY:
        log.warning(
            "training.precision is bfloat16, in which this processor takes %.1f times as long for "
            "a product of matrices as in float32; leave it at float32 here.",
            times,
        )


def product_seconds(dtype: torch.dtype) -> float:
    """The shortest time of a few products on the processor."""
    matrix = torch.ones(_SIDE, _SIDE, dtype=dtype)
    taken = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        matrix @ matrix
        taken.append(time.perf_counter() - start)
    return min(taken)
