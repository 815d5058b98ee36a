"""The tuner: finds the maps to adapt, owns the shared factors, and keeps PEFT's promises for them.

PEFT knows nothing of parameters that belong to the tuner itself, so adding, freezing, casting,
deleting and rolling back an adapter are completed here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from peft.utils import get_quantization_kwargs
from torch import Tensor, nn

import aurora_vl.tuner.combine as combine
import aurora_vl.tuner.initialization as initialization
from aurora_vl.tuner.config import AuroraConfig
from aurora_vl.tuner.gqt import AuroraQueryGate, QuerySlot
from aurora_vl.tuner.layer import AuroraLayer, AuroraLinear
from aurora_vl.tuner.layout import BlockLayout
from aurora_vl.tuner.matching import TargetMatching, unwrapped
from aurora_vl.tuner.parameters import AdapterParameters, check_adapter_name
from aurora_vl.tuner.resolving import ConfigUse, release
from aurora_vl.tuner.rows import adapter_rows, check_rows
from aurora_vl.tuner.targets import is_mlp, sharing_group

_LOW_PRECISION = ("float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")


def _discard(container: Any, adapter_name: str) -> None:
    if adapter_name in container:  # ParameterDict.pop knows no default
        del container[adapter_name]


class AuroraModel(TargetMatching):
    """A model with Aurora adapters, made by `get_peft_model(model, AuroraConfig(...))`.

    Shared parameters are containers of the tuner, keyed by adapter: `aurora_core`,
    `aurora_U_<width>` (r, width) and `aurora_V_<width>` (width, r), with the group's name before
    the width where `sharing` has groups. In an adapter's file they are `base_model.aurora_core` and
    so on; a map's own rows are
    `base_model.model.<map>.aurora_P` (out_blocks, in_blocks, r), a gate's vectors
    `base_model.model.<slot>.aurora_gate_*` (dim,).
    """

    uses_shared_state = True
    prefix = "aurora_"
    tuner_layer_cls = AuroraLayer

    @property
    def peft_config(self) -> dict[str, AuroraConfig]:
        """The configurations by adapter: the objects that were given, with what was resolved.

        Raises:
            AttributeError: before PEFT has set them, which it asks by this.
        """
        if "_configs" not in self.__dict__:
            raise AttributeError("peft_config")
        configs: dict[str, AuroraConfig] = self.__dict__["_configs"]
        configs.update((n, use.config) for n, use in self._uses.items() if n in configs)
        return configs

    @peft_config.setter
    def peft_config(self, configs: dict[str, AuroraConfig]) -> None:
        self.__dict__["_configs"] = configs
        self.__dict__.setdefault("_uses", {})

    # Adding an adapter

    def inject_adapter(
        self,
        model: nn.Module,
        adapter_name: str,
        autocast_adapter_dtype: bool = True,
        low_cpu_mem_usage: bool = False,
        state_dict: dict[str, Tensor] | None = None,
    ) -> None:
        """Add an adapter; if that fails, leave the model and other adapters as they were.

        Args:
            model: the model to adapt.
            adapter_name: name of the adapter; its config is in `peft_config`.
            autocast_adapter_dtype: see PEFT.
            low_cpu_mem_usage: create the parameters on the meta device.
            state_dict: find the targets by the keys of these weights instead of the config.

        Raises:
            ValueError: the name cannot be an adapter's, or the configuration does not fit.
        """
        check_adapter_name(adapter_name)
        given = self.peft_config[adapter_name]
        release(given)
        shared = [
            (p, p.requires_grad) for c in self.shared_parameters().values() for p in c.values()
        ]
        inner = [(p, p.requires_grad) for p in model.parameters()]
        self._recorded = {
            key: BlockLayout.from_record(record) for key, record in given.recorded_blocks().items()
        }
        self._blocks: dict[str, dict[str, Any]] = {}
        self._by_name = state_dict is None
        try:
            super().inject_adapter(
                model,
                adapter_name,
                autocast_adapter_dtype=autocast_adapter_dtype,
                low_cpu_mem_usage=low_cpu_mem_usage,
                state_dict=state_dict,
            )
        except Exception:
            self._roll_back(model, adapter_name)
            for parameter, flag in inner:
                parameter.requires_grad = flag
            raise
        finally:
            # An adapter added for inference would freeze the others' shared parameters.
            for parameter, flag in shared:
                parameter.requires_grad = flag
        self._own_config.record(self._blocks)
        self._uses[adapter_name] = ConfigUse(given, self._own_config)

    def _create_and_replace(
        self,
        peft_config: AuroraConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        inner = unwrapped(target)
        layer: nn.Module
        if isinstance(inner, QuerySlot):
            layer = gate = target if isinstance(target, AuroraQueryGate) else AuroraQueryGate(inner)
            gate.update_layer(adapter_name, peft_config, *self._place_near(parent))
        elif isinstance(inner, nn.Linear):
            layer = self._adapted_linear(peft_config, adapter_name, target, current_key)
        else:
            raise ValueError(
                f"Target module {current_key!r} is a {type(inner).__name__}; Aurora adapts "
                "nn.Linear only. Name it in `exclude_modules` or choose other `target_modules`."
            )
        if layer is not target:
            self._replace_module(parent, target_name, layer, target)

    def _adapted_linear(
        self, config: AuroraConfig, adapter_name: str, target: nn.Module, key: str
    ) -> AuroraLinear:
        if config.listed_widths is None:
            config.listed_widths = self._resolve_widths(config)
        if isinstance(target, AuroraLinear):
            layer = target
        else:
            layer = AuroraLinear(target, **get_quantization_kwargs(self))
        sizes = (layer.in_features, layer.out_features)
        mixes = config.mlp_core == "interleaved" and is_mlp(key, config.mlp_modules)
        layout = self._recorded.get(key)
        if layout is None or layout.features != sizes:
            layout = BlockLayout.of(*sizes, config.listed_widths, interleave=mixes)
            layout = layout.within(sharing_group(key, config.sharing))
        device, dtype = self._place_near(layer.get_base_layer())
        shared = {
            name: self._share(name, adapter_name, config, device, dtype)
            for name in ("aurora_core", *layout.factors)
        }
        layer.update_layer(adapter_name, config, key, layout, shared, device)
        self._blocks[key] = layout.to_record()
        return layer

    def _share(
        self,
        name: str,
        adapter_name: str,
        config: AuroraConfig,
        device: torch.device,
        dtype: torch.dtype,
    ) -> AdapterParameters:
        """Return the container of that name with an entry for the adapter, made if need be."""
        if name not in self._modules:
            setattr(self, name, AdapterParameters())
        container = getattr(self, name)
        if adapter_name not in container:
            head, _, width = name.rpartition("_")
            if width == "core":
                value = initialization.core(config)
            else:
                draw = (
                    initialization.factor_in
                    if head.startswith("aurora_U")
                    else initialization.factor_out
                )
                value = draw(config, int(width))
            container[adapter_name] = nn.Parameter(value.to(device, dtype))
        return container

    @staticmethod
    def _place_near(module: nn.Module) -> tuple[torch.device, torch.dtype]:
        """Return where a module's first parameter is computed with, and its floating dtype.

        What accelerate keeps on disk or on the CPU is on the meta device between calls.
        """
        for part in module.modules():
            for parameter in part.parameters(recurse=False):
                hook: Any = getattr(part, "_hf_hook", None)
                offloaded = parameter.is_meta and getattr(hook, "offload", False)
                device = torch.device(hook.execution_device) if offloaded else parameter.device
                dtype = parameter.dtype if parameter.dtype.is_floating_point else torch.float32
                return device, dtype
        return torch.device("cpu"), torch.float32

    def _replace_module(
        self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module
    ) -> None:
        """Put a layer in a module's place, or back; every parameter is where it belongs already."""
        setattr(parent, child_name, new_module)

    # Keeping the shared parameters in step

    def shared_parameters(self) -> dict[str, AdapterParameters]:
        """Return the containers of what all layers share, by name, keyed by adapter."""
        return {name: m for name, m in self._modules.items() if name.startswith(self.prefix)}

    def _layers(self) -> list[AuroraLayer]:
        return [module for module in self.model.modules() if isinstance(module, AuroraLayer)]

    def _roll_back(self, model: nn.Module, adapter_name: str) -> None:
        for key, layer in list(model.named_modules()):
            if isinstance(layer, AuroraLayer):
                for name in layer.own_names + layer.other_param_names:
                    _discard(getattr(layer, name), adapter_name)
                if not layer._get_available_adapters():
                    parent = model.get_submodule(key.rpartition(".")[0])
                    setattr(parent, key.rpartition(".")[2], layer.base_layer)
        for name, container in self.shared_parameters().items():
            _discard(container, adapter_name)
            if not len(container):
                delattr(self, name)

    def _cast_adapter_dtype(self, adapter_name: str, autocast_adapter_dtype: bool = True) -> None:
        """Train in float32 where the model is kept in less, the shared factors included."""
        low = {getattr(torch, name) for name in _LOW_PRECISION if hasattr(torch, name)}
        own = (getattr(layer, name) for layer in self._layers() for name in layer.own_names)
        for container in (*own, *self.shared_parameters().values()):
            if autocast_adapter_dtype and adapter_name in container:
                parameter = container[adapter_name]
                if parameter.dtype in low:
                    container[adapter_name] = nn.Parameter(
                        parameter.float(), requires_grad=parameter.requires_grad
                    )

    def delete_adapter(self, adapter_name: str) -> None:
        """Delete an adapter; if it was the only active one, the first of the others takes over.

        Raises:
            ValueError: there is no such adapter, or it is merged.
        """
        was_active = adapter_name in self.active_adapters
        rest = [name for name in self.active_adapters if name != adapter_name]
        rest = rest or sorted(set(self.peft_config) - {adapter_name})[:1]
        super().delete_adapter(adapter_name)
        for container in self.shared_parameters().values():
            _discard(container, adapter_name)
        if was_active and rest:
            # Layers that had only the deleted adapter do not know the others.
            self.set_adapter(rest)

    def _unload_and_optionally_merge(
        self,
        merge: bool = True,
        progressbar: bool = False,
        safe_merge: bool = False,
        adapter_names: list[str] | None = None,
    ) -> nn.Module:
        if merge:
            gates = [layer for layer in self._layers() if isinstance(layer, AuroraQueryGate)]
            names = {name for gate in gates for name in gate.merged_adapters}
            names.update(adapter_names or self.active_adapters)
            held = sorted(n for n in names if any(gate.has_adapter(n) for gate in gates))
            if held:
                raise ValueError(
                    f"Adapter {', '.join(held)} has query gates, which are no linear maps and "
                    "cannot be merged into weights. Use `merge_adapter()`, which folds the linear "
                    "maps and keeps the gates, or train with `AuroraConfig(gqt='off')`."
                )
        return super()._unload_and_optionally_merge(
            merge=merge, progressbar=progressbar, safe_merge=safe_merge, adapter_names=adapter_names
        )

    def add_weighted_adapter(
        self, adapters: Sequence[str], weights: Sequence[float], adapter_name: str
    ) -> None:
        """Add the weighted sum of adapters as a new, inactive adapter.

        Updates and released query gates are summed exactly, the new rank being the sum of the
        ranks; `modules_to_save` are averaged by the weights.

        Args:
            adapters: names of the adapters to combine.
            weights: one weight each.
            adapter_name: name of the new adapter.

        Raises:
            ValueError: a name is unknown, repeated or taken, or the adapters have no exact sum.
        """
        unknown = sorted(set(adapters) - set(self.peft_config))
        if unknown or adapter_name in self.peft_config or len(set(adapters)) < len(adapters):
            raise ValueError(
                f"`adapters` must name existing adapters once each and `adapter_name` a new one, "
                f"but they are {list(adapters)} and {adapter_name!r}; there are "
                f"{list(self.peft_config)}."
            )
        configs = [self.peft_config[name] for name in adapters]
        combine.check(configs, weights)
        without_gates = self._slots_without(adapters)
        self.peft_config[adapter_name] = combine.combined_config(configs, without_gates)
        try:
            self.inject_adapter(self.model, adapter_name)
        except Exception:
            del self.peft_config[adapter_name]
            raise
        try:
            shares = dict(zip(adapters, weights, strict=True))
            shared, modules = self.shared_parameters(), self.model.modules()
            combine.fill(adapter_name, shares, self.peft_config, shared, modules)
        except Exception:
            self.delete_adapter(adapter_name)
            raise

    def _slots_without(self, adapters: Sequence[str]) -> list[str]:
        """The names of the query slots in which none of the adapters has a gate."""
        slots, held = set(), set()
        for key, module in self.model.named_modules():
            if isinstance(unwrapped(module), QuerySlot):
                slots.add(key.removesuffix(".base_layer"))
            if isinstance(module, AuroraQueryGate) and any(map(module.has_adapter, adapters)):
                held.add(key)
        return sorted(slots - held)

    # Another adapter for every row

    def adapter_rows(self, adapter_names: Sequence[str]) -> AbstractContextManager[None]:
        """Let every row computed inside use an adapter of its own (`rows.adapter_rows`)."""
        return adapter_rows(self, adapter_names)

    @contextmanager
    def _enable_peft_forward_hooks(self, *args: Any, **kwargs: Any) -> Iterator[None]:
        """PEFT's entry for `model(..., adapter_names=[...])` and `generate`."""
        names = kwargs.pop("adapter_names", None)
        if names is None:
            yield
            return
        check_rows(names, (*args, *kwargs.values()))
        with self.adapter_rows(names):
            yield
