"""Configuration of an Aurora adapter: what is trained, with which core, where and from what start.

It knows no torch. `registry.register` makes PEFT read it back from adapter_config.json.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal, get_args, get_origin, get_type_hints

from peft import PeftConfig


class AuroraPeftType(str, Enum):  # noqa: UP042 (PEFT's own PeftType is a str Enum; StrEnum prints differently)
    """The one-member type under which PEFT finds this method; equal to the string "AURORA"."""

    AURORA = "AURORA"


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
class AuroraSwitches:
    """What presets and ablations choose among; the defaults are the default preset's.

    The help of a switch is what docs/recipes.md says about its key; docs/fidelity.md tells its
    effect.

    Attributes:
        core: "cp" is the paper's diagonal core, "tucker" the released code's dense one.
        mlp_core: "interleaved" is the released code's mixing of the mode columns in maps that end
            with one of `mlp_modules`.
        gqt: acts in layers that offer a slot for a gate.
        gqt_start: "zero" is exactly the frozen model, "normal" N(0, 0.0002^2) as released. A
            "gated" one starts at scale 1, shift 0 in any case.
        init: "ours" or the "released" code's distributions; both start as the frozen model.
        dropout_at: "rank" is on x U^T; "released" there in text and other maps, and behind the core
            with a mask per output slice in maps under a module named like "vision".
        sharing: all maps of the "model" share U and V, as in the paper; or those of a "modality"
            (`targets.sharing_group`): vision, text and fusion; or none, as in LoRA: factors for
            every linear "layer". The core is the model's in any case. This is for measuring what
            sharing is worth: the others train many times as many parameters.
        scaling: any finite number.
        rank_stabilised: an update is a sum of r products of random sign to begin with, so a
            learning rate found at one rank then suits others (the argument of rsLoRA, arXiv
            2312.03732).
    """

    core: Literal["cp", "tucker"] = field(
        default="cp",
        metadata={"help": "`cp` or `tucker`: how the modes of a map become its update"},
    )
    mlp_core: Literal["per_slice", "interleaved"] = field(
        default="per_slice",
        metadata={"help": "`per_slice` or `interleaved` (`tucker` only)"},
    )
    gqt: Literal["released", "gated", "off"] = field(
        default="released", metadata={"help": "query gates: `released`, `gated` or `off`"}
    )
    gqt_start: Literal["zero", "normal"] = field(
        default="zero", metadata={"help": "`zero` or `normal`"}
    )
    init: Literal["ours", "released"] = field(
        default="ours", metadata={"help": "`ours` or `released`"}
    )
    dropout_at: Literal["rank", "released"] = field(
        default="rank", metadata={"help": "`rank` or `released`"}
    )
    sharing: Literal["model", "modality", "layer"] = field(
        default="model",
        metadata={"help": "which maps share the factors: `model`, `modality` or `layer`"},
    )
    scaling: float = field(default=1.0, metadata={"help": "a factor of every update"})
    rank_stabilised: bool = field(
        default=False,
        metadata={"help": "whether updates are divided by the square root of the rank"},
    )


@dataclass
class AuroraConfig(AuroraSwitches, PeftConfig):
    """Configuration of an Aurora adapter; further arguments are those of `AuroraSwitches`.

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
        mlp_modules: names of the two maps of a feed-forward layer.
        dropout: probability on the rank activations in training.
        listed_widths: widths that sizes are cut by. None: the model's hidden sizes by its config;
            without a config the sizes of the targeted square maps. `model.peft_config[name]` has
            them resolved.
        init_weights: False gives a start that changes the model, for tests.
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
    bias: Literal["none", "all", "aurora_only"] = field(
        default="none", metadata={"help": "'none', 'all' or 'aurora_only'."}
    )
    mlp_modules: list[str] = field(
        default_factory=lambda: ["fc1", "fc2", "intermediate.dense", "output.dense"],
        metadata={"help": "Names of feed-forward maps, for mlp_core='interleaved'."},
    )
    dropout: float = field(default=0.0, metadata={"help": "Dropout on the rank activations."})
    listed_widths: list[int] | None = field(
        default=None, metadata={"help": "Widths sizes are cut by; None: the model's hidden sizes."}
    )
    init_weights: bool = field(
        default=True, metadata={"help": "True: starts as the frozen model. False: for tests."}
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
        for name, kind in get_type_hints(type(self)).items():
            value, allowed = getattr(self, name), get_args(kind)
            if get_origin(kind) is Literal and value not in allowed:
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
