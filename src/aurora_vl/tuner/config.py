"""Configuration of an Aurora adapter: what is trained, with which core, where and from what start.

It knows no torch. `registry.register` makes PEFT read it back from adapter_config.json.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from peft import PeftConfig


class AuroraPeftType(str, Enum):  # noqa: UP042 (PEFT's own PeftType is a str Enum; StrEnum prints differently)
    """The one-member type under which PEFT finds this method; equal to the string "AURORA"."""

    AURORA = "AURORA"


_CHOICES = {
    "core": ("cp", "tucker"),
    "sharing": ("model", "modality", "layer"),
    "mlp_core": ("per_slice", "interleaved"),
    "dropout_at": ("rank", "released"),
    "init": ("ours", "released"),
    "gqt": ("released", "gated", "off"),
    "gqt_start": ("zero", "normal"),
    "bias": ("none", "all", "aurora_only"),
}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _are_widths(value: Any) -> bool:
    return isinstance(value, (list, tuple, set)) and all(
        isinstance(width, int) and not isinstance(width, bool) and width > 0 for width in value
    )


class TargetBlocks(dict[str, dict[str, Any]]):
    """Widths and blocks by map, and the settings that they follow from; only the blocks are saved.

    Attributes:
        settings: what `AuroraConfig` said when the blocks were made or read; None if nobody asked.
    """

    settings: tuple[Any, ...] | None = None


@dataclass
class AuroraConfig(PeftConfig):
    """Configuration of an Aurora adapter.

    The updates of all targeted linear maps are blocks of one small tensor: two factors U and V
    shared by the whole model (one U per input width, one V per output width), a core, and r
    parameters of each block's own (docs/method.md).

    Args:
        r: rank; 112,192 trainable parameters on BLIP-base at r=64 with the cp core, gates off.
        target_modules: names (suffixes), a regular expression or "all-linear". None: the maps the
            method names for the model's type (`targets.DEFAULT_TARGETS`). An empty list: no map;
            query gates are trained alone.
        exclude_modules: names or a regular expression of modules to leave out.
        modules_to_save: modules trained whole and saved with the adapter, such as heads.
        layers_to_transform: layer indices to adapt, query gates included; only with a list of
            `target_modules`.
        layers_pattern: name of the list of layers those indices refer to.
        bias: "none", "all" or "aurora_only".
        core: "cp", the paper's diagonal core, or "tucker", the released code's dense one.
        sharing: which maps have the factors U and V in common: all of the "model", as in the paper;
            those of a "modality" (`targets.sharing_group`): vision, text and fusion; or none:
            factors for every linear "layer", as in LoRA. The core is the model's in any case. For
            measuring what sharing is worth: the others train many times as many parameters.
        mlp_core: "per_slice", or "interleaved": the released code's mixing of the mode columns in
            maps that end with one of `mlp_modules`; tucker only.
        mlp_modules: names of the two maps of a feed-forward layer.
        scaling: factor of every update.
        rank_stabilised: divide the update by sqrt(r) besides. It is a sum of r products of random
            sign to begin with, so a learning rate found at one rank then suits others (the argument
            of rsLoRA, arXiv 2312.03732).
        dropout: probability on the rank activations in training.
        dropout_at: "rank", on x U^T; "released": there in text and other maps, behind the core with
            a mask per output slice in maps under a module named like "vision".
        listed_widths: widths that sizes are cut by. None: the model's hidden sizes by its config;
            without a config the sizes of the targeted square maps. `model.peft_config[name]` has
            them resolved.
        init_weights: False gives a start that changes the model, for tests.
        init: "ours" or the "released" code's distributions; both start as the frozen model.
        gqt: the query gate in layers that offer a slot: "released", "gated" or "off".
        gqt_start: "zero", or "normal": N(0, 0.0002^2) as released. "gated" starts at scale 1,
            shift 0 whatever is said here.
        usage: how the adapter is used (preprocessing, answers, what it was trained on), saved and
            published with it; not read here.
        target_blocks: for every targeted map its widths and blocks, filled in when an adapter is
            made. An adapter made from a copy or from a file is cut as recorded there, unless a
            setting that the blocks follow from has been changed since.

    Raises:
        ValueError: a value is outside its range or two values contradict each other.
    """

    r: int = field(default=32, metadata={"help": "Rank: size of the shared factors' inner side."})
    target_modules: list[str] | set[str] | str | None = field(
        default=None,
        metadata={"help": "Names, regular expression or 'all-linear'; None: by the model's type."},
    )
    exclude_modules: list[str] | set[str] | str | None = field(
        default=None, metadata={"help": "Names or regular expression of modules to leave out."}
    )
    modules_to_save: list[str] | None = field(
        default=None, metadata={"help": "Modules trained whole and saved beside the adapter."}
    )
    layers_to_transform: list[int] | int | None = field(
        default=None, metadata={"help": "Indices of the layers to adapt."}
    )
    layers_pattern: list[str] | str | None = field(
        default=None, metadata={"help": "Name of the module list `layers_to_transform` counts in."}
    )
    bias: str = field(default="none", metadata={"help": "'none', 'all' or 'aurora_only'."})
    core: str = field(
        default="cp", metadata={"help": "'cp' (the paper) or 'tucker' (the released code)."}
    )
    sharing: str = field(
        default="model",
        metadata={"help": "Who shares U and V: 'model' (the paper), 'modality' or 'layer'."},
    )
    mlp_core: str = field(
        default="per_slice",
        metadata={"help": "'per_slice', or 'interleaved' as released (tucker only)."},
    )
    mlp_modules: list[str] = field(
        default_factory=lambda: ["fc1", "fc2", "intermediate.dense", "output.dense"],
        metadata={"help": "Names of feed-forward maps, for mlp_core='interleaved'."},
    )
    scaling: float = field(default=1.0, metadata={"help": "Factor of every update."})
    rank_stabilised: bool = field(
        default=False, metadata={"help": "Divide every update by the square root of the rank."}
    )
    dropout: float = field(default=0.0, metadata={"help": "Dropout on the rank activations."})
    dropout_at: str = field(
        default="rank",
        metadata={"help": "'rank' (on x U^T) or 'released' (vision maps: behind the core)."},
    )
    listed_widths: list[int] | None = field(
        default=None, metadata={"help": "Widths sizes are cut by; None: the model's hidden sizes."}
    )
    init_weights: bool = field(
        default=True, metadata={"help": "True: starts as the frozen model. False: for tests."}
    )
    init: str = field(default="ours", metadata={"help": "Start distributions: 'ours', 'released'."})
    gqt: str = field(
        default="released",
        metadata={"help": "Query gates: 'released', 'gated' or 'off'; only where slots are."},
    )
    gqt_start: str = field(
        default="zero", metadata={"help": "'zero' (the frozen model) or 'normal' (as released)."}
    )
    usage: dict[str, Any] | None = field(
        default=None, metadata={"help": "How the adapter is used; saved with it, not read here."}
    )
    target_blocks: dict[str, dict[str, Any]] | None = field(
        default=None, metadata={"help": "Filled when injected: widths and blocks per target."}
    )

    @property
    def scale(self) -> float:
        """The factor of every update in use."""
        return self.scaling / math.sqrt(self.r) if self.rank_stabilised else self.scaling

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, sets of names sorted: an equal configuration gives an equal file."""
        return {
            name: sorted(value, key=str) if isinstance(value, set) else value
            for name, value in super().to_dict().items()
        }

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = AuroraPeftType.AURORA
        for name in ("target_modules", "exclude_modules"):
            value = getattr(self, name)
            if isinstance(value, (list, tuple)):
                setattr(self, name, set(value))
        self._check_names()
        self._check_choices()
        self._check_ranges()
        self._check_layers()
        blocks = self.target_blocks
        if isinstance(blocks, dict) and getattr(blocks, "settings", None) is None:
            self.record(blocks)  # read from a file: of the settings beside it

    def record(self, blocks: Mapping[str, dict[str, Any]]) -> None:
        """Set `target_blocks` to what follows from the settings as they are now."""
        self.target_blocks = TargetBlocks(blocks)
        self.target_blocks.settings = self._block_settings()

    def recorded_blocks(self) -> Mapping[str, dict[str, Any]]:
        """Return `target_blocks` if it is of the settings as they are now, else nothing."""
        blocks = self.target_blocks or {}
        settings = getattr(blocks, "settings", None)
        return blocks if settings in (None, self._block_settings()) else {}

    def _block_settings(self) -> tuple[Any, ...]:
        widths = self.listed_widths
        return (
            None if widths is None else tuple(widths),
            self.sharing,
            self.mlp_core,
            tuple(self.mlp_modules),
        )

    def _check_names(self) -> None:
        """A bare name becomes a list of one: read letter by letter it would match other modules."""
        for name in ("mlp_modules", "modules_to_save"):
            value = getattr(self, name)
            if name == "modules_to_save" and value is None:
                continue
            names = [value] if isinstance(value, str) else value
            if not isinstance(names, (list, tuple, set)) or not all(
                isinstance(one, str) for one in names
            ):
                raise ValueError(f"`{name}` must be a list of names, but is {value!r}.")
            setattr(self, name, list(names))

    def _check_choices(self) -> None:
        for name, allowed in _CHOICES.items():
            value = getattr(self, name)
            if value not in allowed:
                raise ValueError(f"`{name}` must be one of {', '.join(allowed)}, but is {value!r}.")
        if self.mlp_core == "interleaved" and self.core != "tucker":
            raise ValueError(
                "`mlp_core='interleaved'` mixes the columns of a dense core: it needs "
                f"`core='tucker'`, but `core` is {self.core!r}."
            )

    def _check_ranges(self) -> None:
        if isinstance(self.r, bool) or not isinstance(self.r, int) or self.r < 1:
            raise ValueError(f"`r` must be a positive whole number, but is {self.r!r}.")
        if not _is_number(self.dropout) or not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"`dropout` must be at least 0 and below 1, but is {self.dropout!r}.")
        if not _is_number(self.scaling) or not math.isfinite(self.scaling):
            raise ValueError(f"`scaling` must be a finite number, but is {self.scaling!r}.")
        if self.listed_widths is not None:
            if not _are_widths(self.listed_widths):
                raise ValueError(
                    "`listed_widths` must hold positive whole numbers, but is "
                    f"{self.listed_widths!r}."
                )
            self.listed_widths = sorted(set(self.listed_widths), reverse=True)

    def _check_layers(self) -> None:
        targets = self.target_modules
        if isinstance(targets, str) and self.layers_to_transform is not None:
            way_out = (
                "list the maps' names in place of 'all-linear'."
                if targets == "all-linear"
                else f"put the layers into the regular expression {targets!r}."
            )
            raise ValueError(
                f"`layers_to_transform` works with a list of `target_modules` only: {way_out}"
            )
        if self.layers_pattern and self.layers_to_transform is None:
            raise ValueError("`layers_pattern` is given without `layers_to_transform`.")
