"""Start values of an adapter's parameters.

V starts at zero, so the adapted model is the frozen one, exactly. `init="released"` draws the other
parts as the released code does: U uniform as nn.Linear's default, core and modes Xavier uniform.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from aurora_vl.tuner.config import AuroraConfig

GATE_START_STD = 2e-4
# A changed start (init_weights=False) is large enough to be seen in every output.
_CHANGED_STD = 0.1


def factor_in(config: AuroraConfig, width: int) -> Tensor:
    """Return U (r, width), variance 1/width (ours) or 1/(3 width) (released)."""
    u = torch.empty(config.r, width)
    if config.init == "released":
        return u.uniform_(-1 / math.sqrt(width), 1 / math.sqrt(width))
    return u.normal_(std=1 / math.sqrt(width))


def factor_out(config: AuroraConfig, width: int) -> Tensor:
    """Return V (width, r): zero, or small and random without `init_weights`."""
    v = torch.zeros(width, config.r)
    return v if config.init_weights else v.normal_(std=_CHANGED_STD)


def core(config: AuroraConfig) -> Tensor:
    """Return the core: ones (r,) for cp, (r, r, r) with variance 1/r^2 for tucker."""
    r = config.r
    if config.core == "cp":
        diagonal = torch.ones(r)
        return diagonal if config.init_weights else diagonal + _CHANGED_STD * torch.randn(r)
    dense = torch.empty(r, r, r)
    if config.init == "released":
        return dense.uniform_(-math.sqrt(3) / r, math.sqrt(3) / r)
    return dense.normal_(std=1 / r)


def modes(config: AuroraConfig, out_blocks: int, in_blocks: int, released_columns: int) -> Tensor:
    """Return a map's mode rows (o, i, r), standard normal for cp, variance 1/r for tucker.

    Args:
        config: the adapter's configuration.
        out_blocks: o.
        in_blocks: i.
        released_columns: columns of the array the released code keeps these rows in.
    """
    rows = torch.empty(out_blocks, in_blocks, config.r)
    if config.init == "released":
        bound = math.sqrt(6 / (config.r + released_columns))
        return rows.uniform_(-bound, bound)
    return rows.normal_(std=1.0 if config.core == "cp" else 1 / math.sqrt(config.r))


def gate_vector(config: AuroraConfig, name: str, width: int) -> Tensor:
    """Return one vector of a query gate.

    Args:
        config: the adapter's configuration.
        name: attribute name; ends with "scale" or "shift".
        width: the slot's width.
    """
    if not config.init_weights:
        return torch.randn(width) + (1.0 if name.endswith("scale") else 0.0)
    if config.gqt == "gated":
        return torch.ones(width) if name.endswith("scale") else torch.zeros(width)
    if config.gqt_start == "normal":
        return torch.empty(width).normal_(std=GATE_START_STD)
    return torch.zeros(width)
