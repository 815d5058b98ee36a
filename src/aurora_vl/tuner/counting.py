"""The closed formula for how many parameters an Aurora adapter trains."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aurora_vl.tuner.layout import BlockLayout

GATE_VECTORS = {"off": 0, "gated": 2, "released": 4}


@dataclass(frozen=True)
class AdapterParameterCount:
    """Trainable parameters of an adapter by part; `total` is their sum.

    Attributes:
        factors: r * (sum of the input widths in use + sum of the output widths in use), for each
            group of maps that share their factors.
        core: r (cp) or r ** 3 (tucker).
        modes: r * number of blocks.
        gates: vectors per gate * width, summed over the gates.
    """

    factors: int
    core: int
    modes: int
    gates: int

    @property
    def total(self) -> int:
        """Return all parameters of the adapter, heads not included."""
        return self.factors + self.core + self.modes + self.gates


def count_adapter_parameters(
    maps: Iterable[tuple[int, int]],
    *,
    r: int,
    core: str = "cp",
    listed_widths: Iterable[int] = (),
    gate_widths: Iterable[int] = (),
    gqt: str = "released",
    groups: Sequence[str] = (),
) -> AdapterParameterCount:
    """Count what an adapter over the given maps would train.

    Args:
        maps: (in_features, out_features) of every targeted linear map.
        r: rank.
        core: "cp" or "tucker".
        listed_widths: widths that sizes are cut by (`AuroraConfig.listed_widths`).
        gate_widths: width of every query slot of the model.
        gqt: "released" (four vectors a gate), "gated" (two) or "off".
        groups: of each map (`targets.sharing_group`); left out, all maps are one group.
    """
    widths = tuple(listed_widths)
    layouts = [BlockLayout.of(*sizes, widths) for sizes in maps]
    named = groups or [""] * len(layouts)
    read = {(group, at.in_width) for group, at in zip(named, layouts, strict=True)}
    written = {(group, at.out_width) for group, at in zip(named, layouts, strict=True)}
    return AdapterParameterCount(
        factors=r * sum(width for _, width in (*read, *written)),
        core=0 if not layouts else r if core == "cp" else r**3,
        modes=r * sum(layout.blocks for layout in layouts),
        gates=GATE_VECTORS[gqt] * sum(gate_widths),
    )
