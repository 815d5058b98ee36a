"""A weighted sum of adapters as one adapter, exact.

Ranks are laid side by side: U and V are stacked, the cp core is concatenated and the tucker core
made block-diagonal, each part scaled by its weight. Released query gates are linear in their
vectors and are summed; heads are averaged by the weights.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping, Sequence

import torch
from peft.utils import ModulesToSaveWrapper
from torch import Tensor, nn

from aurora_vl.tuner.config import AuroraConfig
from aurora_vl.tuner.gqt import AuroraQueryGate
from aurora_vl.tuner.layer import AuroraLinear


def check(configs: Sequence[AuroraConfig], weights: Sequence[float]) -> None:
    """Refuse what has no exact sum.

    Raises:
        ValueError: the adapters differ in a way that no single adapter can hold, or the heads'
            weights have no mean; the message names it.
    """
    if not configs or len(configs) != len(weights):
        raise ValueError(f"{len(configs)} adapters are given with {len(weights)} weights.")
    first = configs[0]
    for config in configs:
        for name in ("core", "sharing", "listed_widths", "modules_to_save"):
            one, other = getattr(first, name), getattr(config, name)
            if one != other and not _are_same_names(one, other):
                raise ValueError(
                    f"Cannot combine adapters whose `{name}` differ: {one!r} and {other!r}."
                )
        if config.mlp_core == "interleaved":
            raise ValueError("Cannot combine adapters with `mlp_core='interleaved'` exactly.")
        if config.gqt == "gated":
            raise ValueError("Cannot combine adapters with `gqt='gated'`: gates do not add up.")
        if config.bias != "none":
            raise ValueError("Cannot combine adapters that train the model's biases.")
    # Decimal weights that cancel leave a rest of rounding, which heads must not be divided by.
    cancel = abs(sum(weights)) <= 1e-6 * sum(map(abs, weights))
    if first.modules_to_save and cancel:
        raise ValueError("The weights sum to 0: `modules_to_save` have no weighted mean.")


def _are_same_names(one: object, other: object) -> bool:
    return isinstance(one, list) and isinstance(other, list) and set(one) == set(other)


def combined_config(
    configs: Sequence[AuroraConfig], without_gates: Sequence[str] = ()
) -> AuroraConfig:
    """Return the sum's configuration: the first one's, with all ranks and all targets.

    Args:
        configs: of the adapters.
        without_gates: the slots in which none of them has a gate; the sum has none there either.
    """
    config = copy.deepcopy(configs[0])
    config.r = sum(other.r for other in configs)
    config.scaling, config.rank_stabilised = 1.0, False
    blocks = {
        key: record for other in configs for key, record in (other.target_blocks or {}).items()
    }
    config.record(blocks)
    config.target_modules = set(blocks)
    config.exclude_modules = config.layers_to_transform = config.layers_pattern = None
    config.gqt = "released" if any(other.gqt == "released" for other in configs) else "off"
    if config.gqt == "released" and without_gates:
        config.exclude_modules = "|".join(map(re.escape, without_gates))  # names would be suffixes
    return config


def fill(
    adapter_name: str,
    shares: Mapping[str, float],
    configs: Mapping[str, AuroraConfig],
    shared: Mapping[str, nn.ParameterDict],
    modules: Iterable[nn.Module],
) -> None:
    """Give a new adapter's parameters the values of the weighted sum.

    Args:
        adapter_name: the new adapter; it is injected already.
        shares: weight of each adapter.
        configs: of the adapters.
        shared: the containers of the tuner's parameters, by name.
        modules: of the adapted model.
    """
    ranks = {name: configs[name].r for name in shares}
    for name, container in shared.items():
        if adapter_name not in container:
            continue
        kind = name.removeprefix("aurora_")[0]
        if kind == "c":
            scaled = [
                weight * configs[other].scale * container[other] for other, weight in shares.items()
            ]
            value = torch.cat(scaled) if scaled[0].dim() == 1 else _block_diagonal(scaled)
        else:
            value = _stacked(container, ranks, adapter_name, 0 if kind == "U" else 1)
        _put(container, adapter_name, value)
    for module in modules:
        if isinstance(module, AuroraLinear) and adapter_name in module.aurora_P:
            _put(module.aurora_P, adapter_name, _stacked(module.aurora_P, ranks, adapter_name, 2))
        elif isinstance(module, AuroraQueryGate):
            for name in module.own_names:
                _put_sum(getattr(module, name), shares, adapter_name)
        elif isinstance(module, ModulesToSaveWrapper) and adapter_name in module.modules_to_save:
            _put_mean(module.modules_to_save, shares, adapter_name)


def _put(container: nn.ParameterDict, adapter_name: str, value: Tensor) -> None:
    old = container[adapter_name]
    value = value.detach().clone()
    container[adapter_name] = nn.Parameter(value, requires_grad=old.requires_grad)


def _stacked(
    container: nn.ParameterDict, ranks: Mapping[str, int], adapter_name: str, axis: int
) -> Tensor:
    """Lay the adapters' ranks side by side; zeros stand for an adapter that is absent here."""
    like = container[adapter_name]
    parts = []
    for other, rank in ranks.items():
        shape = [rank if n == axis else size for n, size in enumerate(like.shape)]
        parts.append(container[other] if other in container else like.new_zeros(shape))
    return torch.cat(parts, axis)


def _block_diagonal(cores: Sequence[Tensor]) -> Tensor:
    size = sum(len(core) for core in cores)
    value = cores[0].new_zeros(size, size, size)
    at = 0
    for core in cores:
        block = slice(at, at + len(core))
        value[block, block, block] = core
        at += len(core)
    return value


def _put_sum(container: nn.ParameterDict, shares: Mapping[str, float], adapter_name: str) -> None:
    if adapter_name in container:
        terms = [weight * container[name] for name, weight in shares.items() if name in container]
        _put(container, adapter_name, torch.stack(terms).sum(0))


def _put_mean(modules: nn.ModuleDict, shares: Mapping[str, float], adapter_name: str) -> None:
    total = sum(shares.values())
    states = {name: modules[name].state_dict() for name in shares}
    mean = {
        key: sum((weight / total) * states[name][key] for name, weight in shares.items())
        for key in modules[adapter_name].state_dict()
    }
    modules[adapter_name].load_state_dict(mean)
