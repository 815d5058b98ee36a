"""The adapted linear map, and what it shares with the query gate.

Shared factors belong to the tuner; a layer holds views of them that are no modules, so they are
saved, counted and moved once.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer, check_adapters_to_merge
from peft.utils import quantization_extra_repr, resolve_quantization_backend
from torch import Tensor, nn

import aurora_vl.tuner.functional as functional
import aurora_vl.tuner.initialization as initialization
from aurora_vl.tuner.config import AuroraConfig
from aurora_vl.tuner.layout import BlockLayout
from aurora_vl.tuner.parameters import AdapterParameters, SharedParameters
from aurora_vl.tuner.rows import BASE_ROWS, RowLayer, Rows, rows_of
from aurora_vl.tuner.targets import is_mlp, is_vision

_HALVES = (torch.float16, torch.bfloat16)


def _precast(x: Tensor) -> Tensor:
    """Cast once what autocast would cast for the frozen map and again for its update."""
    if functional.autocasting(x) and x.dtype != torch.float64:
        return x.to(torch.get_autocast_dtype(x.device.type))
    return x


def _transformed() -> bool:
    """Tell whether this is no plain run, so that nothing may be written in place.

    A compiler plans its memory itself; a tracer and torch.func's transforms, for which there is no
    public question, do not follow.
    """
    return (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or torch._C._are_functorch_transforms_active()
    )


class AuroraLayer(RowLayer, BaseTunerLayer):
    """What adapted maps and query gates have in common.

    Attributes:
        base_layer: the module that was replaced.
        adapter_layer_names: attributes that are dictionaries of parameters by adapter, the shared
            ones included.
        own_names: those of them that belong to this layer alone.
    """

    other_param_names: tuple[str, ...] = ()
    own_names: tuple[str, ...] = ()

    # What PEFT's base class brings, for type checkers.
    base_layer: nn.Module
    adapter_layer_names: tuple[str, ...]
    merged_adapters: list[str]
    merged: bool
    disable_adapters: bool
    active_adapters: list[str]
    get_base_layer: Callable[[], Any]
    get_base_weight: Callable[[], Tensor]
    set_base_weight: Callable[[Tensor], None]
    _get_base_layer_device_and_dtype: Callable[[nn.Module], tuple[Any, Any]]
    _cast_input_dtype: Callable[[Tensor, torch.dtype], Tensor]

    def _start_unmerged(self, base_layer: nn.Module) -> None:
        self.base_layer = base_layer
        self._disable_adapters = False
        self.merged_adapters = []

    def has_adapter(self, adapter_name: str) -> bool:
        """Tell whether the adapter has parameters of its own here."""
        return any(adapter_name in getattr(self, name) for name in self.own_names)

    def _get_available_adapters(self) -> set[str]:
        return {adapter for name in self.own_names for adapter in getattr(self, name)}

    def _named_rows(self) -> Rows | None:
        """Return the adapters of the rows, if they were named.

        Raises:
            ValueError: the frozen weight holds merged updates.
        """
        rows = rows_of(self)
        if rows is not None and self.merged:
            raise ValueError(
                "Cannot pass `adapter_names` while adapters are merged; call `unmerge_adapter`."
            )
        return rows

    def _rows_by_adapter(self, rows: Rows, n_rows: int) -> dict[str, list[int]]:
        """Return the row indices of every adapter named that has parameters here."""
        found: dict[str, list[int]] = {}
        for row, name in enumerate(rows.repeated(n_rows)):
            if name != BASE_ROWS and self.has_adapter(name):
                found.setdefault(name, []).append(row)
        return found

    def _move_adapter_to_device_of_base_layer(
        self, adapter_name: str, device: torch.device | None = None
    ) -> None:
        """Move the adapter to the base layer's device; shared parameters only off the CPU."""
        target = device or self._get_base_layer_device_and_dtype(self.get_base_layer())[0]
        if target is None:
            return
        for name in self.adapter_layer_names:
            container = getattr(self, name)
            if adapter_name not in container:
                continue
            parameter = container[adapter_name]
            misplaced = parameter.device != target and parameter.device.type != "meta"
            if misplaced and (name in self.own_names or parameter.device.type == "cpu"):
                moved = nn.Parameter(parameter.to(target), parameter.requires_grad)
                container[adapter_name] = moved


@dataclass(frozen=True)
class MapSettings:
    """What one adapter does with one linear map.

    Attributes:
        layout: widths and blocks.
        dropout: probability on the rank activations.
        dropout_after_core: where it acts (`functional.add_delta`).
        scaling: factor of the update.
    """

    layout: BlockLayout
    dropout: float
    dropout_after_core: bool
    scaling: float


class AuroraLinear(nn.Module, AuroraLayer):
    """A frozen linear map plus the updates of the active adapters.

    Args:
        base_layer: the nn.Linear (quantized or not) to adapt.
        **kwargs: what `peft.utils.get_quantization_kwargs` returns.
    """

    own_names = ("aurora_P",)
    other_param_names = ("aurora_settings",)
    aurora_core: SharedParameters  # as are the factors that the layout names

    def __init__(self, base_layer: nn.Module, **kwargs: Any) -> None:
        super().__init__()
        self._start_unmerged(base_layer)
        linear = self.get_base_layer()
        self.quantization_backend = resolve_quantization_backend(linear, **kwargs)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.aurora_P = AdapterParameters()
        self.aurora_settings: dict[str, MapSettings] = {}
        self.adapter_layer_names = ("aurora_P",)

    def update_layer(
        self,
        adapter_name: str,
        config: AuroraConfig,
        key: str,
        layout: BlockLayout,
        shared: dict[str, AdapterParameters],
        device: torch.device,
    ) -> None:
        """Give the layer one more adapter.

        Args:
            adapter_name: its name.
            config: its configuration.
            key: the layer's name in the model.
            layout: the blocks of this map.
            shared: containers of the shared parameters by attribute name: `aurora_core` and the
                layout's factors, each holding this adapter's entry.
            device: of the layer's own rows.
        """
        for name, container in shared.items():
            setattr(self, name, SharedParameters(container, self.aurora_P))
        self.adapter_layer_names = tuple(dict.fromkeys((*self.adapter_layer_names, *shared)))
        released = config.dropout_at == "released"
        self.aurora_settings[adapter_name] = MapSettings(
            layout, config.dropout, released and is_vision(key), config.scale
        )
        # The released code keeps fc1 and fc2's rows in one array, q, k, v and proj's in another.
        columns = 8 if is_mlp(key, config.mlp_modules) else 4 if is_vision(key) else 1
        rows = initialization.modes(config, layout.out_blocks, layout.in_blocks, columns)
        dtype = shared["aurora_core"][adapter_name].dtype
        self.aurora_P[adapter_name] = nn.Parameter(rows.to(device, dtype))

    def factors(self, adapter_name: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return (U, V, core, P) of the adapter, on the device and in the dtype of P."""
        modes = self.aurora_P(adapter_name)
        u, v, core = (
            getattr(self, name)(adapter_name).to(modes)
            for name in (*self.aurora_settings[adapter_name].layout.factors, "aurora_core")
        )
        return u, v, core, modes

    def get_delta_weight(self, adapter_name: str) -> Tensor:
        """Return the adapter's change of the weight, (out_features, in_features)."""
        settings = self.aurora_settings[adapter_name]
        u, v, core, modes = self.factors(adapter_name)
        dtype = modes.dtype
        if dtype in _HALVES and modes.device.type == "cpu":  # slow and coarse there
            u, v, core, modes = u.float(), v.float(), core.float(), modes.float()
        delta = functional.delta_weight(u, v, core, modes, interleaved=settings.layout.interleaved)
        return (delta * settings.scaling).to(dtype)

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Add the updates of the given (default: the active) adapters to the frozen weight.

        Raises:
            ValueError: with `safe_merge`, if the sum is not finite; this layer is then unchanged,
                while layers before it in the model may be merged already (`unmerge` undoes that).
        """
        names = [
            name for name in check_adapters_to_merge(self, adapter_names) if self.has_adapter(name)
        ]
        if not names:
            return
        merged = self._weight_changed_by(names, 1.0)
        if safe_merge and not torch.isfinite(merged).all():
            broken = [n for n in names if not torch.isfinite(self.get_delta_weight(n)).all()]
            raise ValueError(
                "NaNs detected in the merged weights. The adapter "
                f"{', '.join(broken or names)} seems to be broken"
            )
        self.set_base_weight(merged)
        self.merged_adapters.extend(names)

    def unmerge(self) -> None:
        """Take the updates of all merged adapters out of the weight again."""
        if not self.merged:
            warnings.warn("Already unmerged. Nothing to do.", stacklevel=2)
            return
        self.set_base_weight(self._weight_changed_by(self.merged_adapters, -1.0))
        self.merged_adapters.clear()

    def _weight_changed_by(self, names: list[str], sign: float) -> Tensor:
        """Return the weight plus or minus the updates, rounded once, at the end."""
        weight = self.get_base_weight()
        update = sum(self.get_delta_weight(name).to(weight.device) for name in names)
        return (weight + sign * update).to(weight.dtype)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return the map's output with the updates of the active adapters, or of the rows' own.

        Args:
            x: input (..., in_features).
            *args: passed on to the frozen layer.
            **kwargs: likewise.
        """
        if self.disable_adapters and self.merged:
            self.unmerge()
        x = _precast(x)
        rows = None if self.disable_adapters else self._named_rows()
        if self.disable_adapters or self.merged:
            return self.base_layer(x, *args, **kwargs)
        active = self.active_adapters
        if rows is not None:
            if rows.only is None:
                result = self.base_layer(x, *args, **kwargs).clone()
                for name, at in self._rows_by_adapter(rows, len(x)).items():
                    result[at] = self._add_delta(result[at], x[at], name)
                return result
            active = [rows.only]
        in_place = self._owns_output()
        # As a matrix, an output is no view of another tensor and can be written into.
        matrix = x.reshape(-1, self.in_features) if in_place else x
        result = self.base_layer(matrix, *args, **kwargs)
        for name in active:
            if name in self.aurora_P:
                result = self._add_delta(result, matrix, name, in_place)
        return result.view(*x.shape[:-1], self.out_features)

    def _owns_output(self) -> bool:
        """Tell whether nobody but this layer sees the frozen map's output.

        The update is then added in its memory: no faster (0.97 of the time), but a training step
        of BLIP-base peaks at 2,317 MB instead of 2,436 (docs/performance.md).
        """
        base = self.base_layer
        hooked = base._forward_hooks or base._backward_hooks or base._backward_pre_hooks
        return type(base) is nn.Linear and not hooked and not _transformed()

    def _add_delta(
        self, result: Tensor, x: Tensor, adapter_name: str, in_place: bool = False
    ) -> Tensor:
        settings = self.aurora_settings[adapter_name]
        u, v, core, modes = self.factors(adapter_name)
        if not functional.autocasting(x):
            x = self._cast_input_dtype(x, modes.dtype)
        return functional.add_delta(
            result,
            x,
            u,
            v,
            core,
            modes,
            interleaved=settings.layout.interleaved,
            scaling=settings.scaling,
            dropout=settings.dropout if self.training else 0.0,
            dropout_after_core=settings.dropout_after_core,
            in_place=in_place,
        )

    def supports_lora_conversion(self, adapter_name: str = "default") -> bool:
        """Tell PEFT that the update can be written as a LoRA: it can, exactly."""
        return True

    def __repr__(self) -> str:
        return "aurora." + super().__repr__()

    def extra_repr(self) -> str:
        """Return what PEFT prints of a quantized layer."""
        return quantization_extra_repr(self)
