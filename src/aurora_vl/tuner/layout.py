"""How a linear map is cut into blocks that fit the shared factors, and whose factors those are.

The rule (docs/method.md): a feature size uses the largest listed width that divides it, else
itself. A map of (in, out) features is so cut into out_blocks by in_blocks blocks. All maps of a
group read the same U of their input width and the same V of their output width; the paper has one
group, the whole model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any


def block_width(size: int, listed_widths: Iterable[int]) -> int:
    """Return what a size is cut by: the largest listed width that divides it, or itself."""
    return max((width for width in listed_widths if size % width == 0), default=size)


@dataclass(frozen=True)
class BlockLayout:
    """The blocks of one linear map, as recorded in adapter_config.json.

    Attributes:
        in_width: width of an input slice; picks the factor U.
        out_width: width of an output slice; picks the factor V.
        in_blocks: number of input slices; in_features = in_width * in_blocks.
        out_blocks: number of output slices; out_features = out_width * out_blocks.
        interleaved: whether the mode columns are mixed as in the released MLP.
        group: whose factors the map reads; "" for the whole model's.
    """

    in_width: int
    out_width: int
    in_blocks: int
    out_blocks: int
    interleaved: bool = False
    group: str = ""

    @classmethod
    def of(
        cls,
        in_features: int,
        out_features: int,
        listed_widths: Iterable[int],
        *,
        interleave: bool = False,
    ) -> BlockLayout:
        """Cut a map of the given sizes; `interleave` takes effect only where one side is cut."""
        widths = tuple(listed_widths)
        in_width, out_width = block_width(in_features, widths), block_width(out_features, widths)
        in_blocks, out_blocks = in_features // in_width, out_features // out_width
        mixed = interleave and (in_blocks == 1) != (out_blocks == 1)
        return cls(in_width, out_width, in_blocks, out_blocks, mixed)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> BlockLayout:
        """Read what `to_record` wrote."""
        return cls(**record)

    def to_record(self) -> dict[str, int | bool | str]:
        """Return the plain dictionary that goes into adapter_config.json."""
        record = asdict(self)
        if not self.group:
            del record["group"]
        return record

    def within(self, group: str) -> BlockLayout:
        """Return the layout with the factors of a group."""
        return replace(self, group=group)

    @property
    def factors(self) -> tuple[str, str]:
        """Return the attribute names of the factors U and V that the map reads."""
        group = f"{self.group}_" if self.group else ""
        return f"aurora_U_{group}{self.in_width}", f"aurora_V_{group}{self.out_width}"

    @property
    def features(self) -> tuple[int, int]:
        """Return (in_features, out_features) of the map."""
        return self.in_width * self.in_blocks, self.out_width * self.out_blocks

    @property
    def blocks(self) -> int:
        """Return the number of blocks, each of which owns one mode row of r parameters."""
        return self.in_blocks * self.out_blocks
