"""Another adapter for every row of a batch, safe from many threads at once.

A context variable tells the layers of a model which adapter each row uses. Every thread has a value
of its own, the layers read it when they run, and PEFT's active adapter is never switched.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import AuxiliaryTrainingWrapper, ModulesToSaveWrapper
from torch import Tensor, nn

BASE_ROWS = "__base__"


@dataclass(frozen=True)
class Rows:
    """The adapters of a batch's rows.

    Attributes:
        names: one adapter a row; `BASE_ROWS` for the frozen model.
    """

    names: tuple[str, ...]

    @cached_property
    def only(self) -> str | None:
        """The adapter that all rows use; None if they differ."""
        return self.names[0] if self.names.count(self.names[0]) == len(self.names) else None

    def repeated(self, n_rows: int) -> list[str]:
        """Return the adapter of each of a layer's rows; a name serves consecutive ones.

        Raises:
            ValueError: the names do not divide the rows.
        """
        repeats, rest = divmod(n_rows, len(self.names))
        if rest:
            raise ValueError(
                f"`adapter_names` names {len(self.names)} rows, but a layer met {n_rows}."
            )
        return [name for name in self.names for _ in range(repeats)]


# Keyed by the layer's id: a second adapted model that runs inside the block keeps its own adapters.
_ROWS: ContextVar[Mapping[int, Rows]] = ContextVar("adapter_rows", default=MappingProxyType({}))
_PREPARING = threading.Lock()


def rows_of(layer: object) -> Rows | None:
    """Return the adapters of the rows that the layer is about to meet, if they were named.

    A graph being compiled cannot ask and runs the active adapters.
    """
    return None if torch.compiler.is_compiling() else _ROWS.get().get(id(layer))


class RowLayer:
    """A layer that asks `rows_of` by itself; a mark for `adapter_rows`."""


class HeadByRow(RowLayer, ModulesToSaveWrapper):
    """PEFT's wrapper of a module trained whole, asking for the adapters of its rows.

    Rows of an adapter that does not train the module go through the frozen one.
    """

    def _forward_wrapped(self, *args: Any, **kwargs: Any) -> Any:
        rows = rows_of(self)
        if rows is None:
            return super()._forward_wrapped(*args, **kwargs)
        return self._by_row(rows, *args, **kwargs)

    def _forward_wrapped_passthrough(self, *args: Any, **kwargs: Any) -> Any:
        """PEFT's way without adapters, or where the active one does not train the module."""
        rows = rows_of(self)
        if rows is None or self.disable_adapters:
            return self.original_module(*args, **kwargs)
        return self._by_row(rows, *args, **kwargs)

    def _by_row(self, rows: Rows, *args: Any, **kwargs: Any) -> Any:
        if rows.only is not None:
            known = rows.only in self.modules_to_save
            head: Any = self.modules_to_save[rows.only] if known else self.original_module
            return head(*args, **kwargs)
        names = rows.repeated(len(args[0]))
        names = [name if name in self.modules_to_save else BASE_ROWS for name in names]
        return self._mixed_batch_forward(*args, adapter_names=names, **kwargs)


def _name_rows(
    layer: LoraLayer, args: tuple[Any, ...], kwargs: Mapping[str, Any] = MappingProxyType({})
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Pre-hook of PEFT's LoRA layers, which take the adapters of their rows as an argument.

    The default is for a thread that calls the layer while another is registering the hook.
    """
    rows = rows_of(layer)
    if rows is None or "adapter_names" in kwargs:
        return None
    if rows.only is not None and layer.active_adapters == [rows.only] and not layer.merged:
        return None
    return args, {**kwargs, "adapter_names": rows.repeated(len(args[0]))}


def _prepare(model: nn.Module) -> list[nn.Module]:
    """Return the layers with adapters, made to ask for their rows' adapters if they did not yet.

    Raises:
        ValueError: a layer knows one adapter at a time only, or the model is compiled.
    """
    layers = []
    for module in model.modules():
        if "_orig_mod" in module._modules or module._compiled_call_impl is not None:
            raise ValueError(
                "A compiled model knows one adapter for all rows: use the model itself."
            )
        if not isinstance(module, (BaseTunerLayer, AuxiliaryTrainingWrapper)):
            continue
        if type(module) is ModulesToSaveWrapper:
            module.__class__ = HeadByRow
        elif isinstance(module, LoraLayer):
            if _name_rows not in module._forward_pre_hooks.values():
                module.register_forward_pre_hook(_name_rows, with_kwargs=True)
        elif not isinstance(module, RowLayer):
            raise ValueError(
                "Only adapters of Aurora and LoRA can be chosen row by row, and this model has "
                f"a {type(module).__name__}: use `set_adapter`."
            )
        layers.append(module)
    return layers


@contextmanager
def adapter_rows(model: Any, adapter_names: Sequence[str]) -> Iterator[None]:
    """Let every row of the batches that this thread computes inside use an adapter of its own.

    Where a layer meets k times as many rows as are named (frames of a video, beams), each name
    serves k consecutive rows. Where all names are the same one, any number of rows uses it, at the
    cost of an active adapter.

    Args:
        model: a PeftModel, or its tuner, with adapters of Aurora or LoRA.
        adapter_names: one adapter a row; "__base__" for the frozen model.

    Raises:
        ValueError: an adapter does not exist, the model is in training mode or compiled, or its
            kind of adapter cannot be chosen row by row.
    """
    rows = Rows(tuple(adapter_names))
    if not rows.names:
        raise ValueError("`adapter_names` is empty: name one adapter a row.")
    unknown = sorted(set(rows.names) - set(model.peft_config) - {BASE_ROWS})
    if unknown:
        raise ValueError(f"Trying to infer with non-existing adapter(s): {', '.join(unknown)}")
    if model.training:
        raise ValueError("Cannot pass `adapter_names` when the model is in training mode.")
    with _PREPARING:
        layers = _prepare(model)
    before = _ROWS.set({**_ROWS.get(), **dict.fromkeys(map(id, layers), rows)})
    try:
        yield
    finally:
        _ROWS.reset(before)


def check_rows(adapter_names: Sequence[str], inputs: Sequence[Any]) -> None:
    """Refuse names that are not as many as the rows of a model's inputs.

    Raises:
        ValueError: none of the inputs that are tensors has one row a name.
    """
    counts = {len(value) for value in inputs if isinstance(value, Tensor) and value.dim()}
    if counts and len(adapter_names) not in counts:
        raise ValueError(
            f"`adapter_names` names {len(adapter_names)} rows, but the input has "
            f"{' or '.join(map(str, sorted(counts)))}."
        )
