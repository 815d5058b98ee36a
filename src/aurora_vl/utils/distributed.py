"""Working together with other processes; where there is one, gathering is the identity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import PartialState
from torch import Tensor

Key = TypeVar("Key")
Value = TypeVar("Value")


def world_size() -> int:
    """Number of processes; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number; 0 without a process group."""
    return dist.get_rank() if world_size() > 1 else 0


def own_device() -> torch.device:
    """This process's device; under torchrun the processes find each other here."""
    device: torch.device = PartialState(cpu=not torch.cuda.is_available()).device
    return device


def barrier() -> None:
    """Wait until every process is here."""
    if world_size() > 1:
        dist.barrier()


def from_main(value: Value | None) -> Value:
    """The first process's value, in every process; it is pickled on the way."""
    values: list[Any] = [value]
    if world_size() > 1:
        dist.broadcast_object_list(values, src=0)
    found: Value = values[0]
    return found


def gather(tensor: Tensor) -> Tensor:
    """All processes' rows, (W * B, ...), without a gradient; B must be equal everywhere."""
    if world_size() == 1:
        return tensor.detach()
    parts = [torch.empty_like(tensor) for _ in range(world_size())]
    dist.all_gather(parts, tensor.detach().contiguous())
    return torch.cat(parts)


def own_rows(total: int) -> list[int]:
    """The numbers below `total` that are this process's: every W-th from its rank on."""
    return list(range(rank(), total, world_size()))


def gather_own(tensor: Tensor, total: int) -> Tensor:
    """All (total, ...) rows in their order, of each process's `own_rows`; without a gradient."""
    if world_size() == 1:
        return tensor
    share = -(-total // world_size())
    padded = tensor.new_zeros(share, *tensor.shape[1:])
    padded[: len(tensor)] = tensor
    parts = gather(padded).view(world_size(), share, *tensor.shape[1:])
    return parts.transpose(0, 1).flatten(0, 1)[:total]


def sum_over_processes(tensor: Tensor) -> Tensor:
    """The sum of all processes' tensors of one shape, without a gradient."""
    if world_size() > 1:
        tensor = tensor.detach().clone()
        dist.all_reduce(tensor)
    return tensor


def merged(own: Mapping[Key, Value]) -> dict[Key, Value]:
    """The entries of all processes' mappings, each key of which one process has; plain values."""
    if world_size() == 1:
        return dict(own)
    parts: list[dict[Key, Value]] = [{} for _ in range(world_size())]
    dist.all_gather_object(parts, dict(own))
    return {key: value for part in parts for key, value in part.items()}


def gather_with_gradient(tensor: Tensor) -> Tensor:
    """All processes' rows, (W * B, ...); gradients flow back to the process each row came from."""
    if world_size() == 1:
        return tensor
    return _GatherRows.apply(tensor)


class _GatherRows(torch.autograd.Function):
    """All-gather whose backward sums every process's gradient of the own rows."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, tensor: Tensor) -> Tensor:
        return gather(tensor)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous()
        dist.all_reduce(total)
        return total.chunk(world_size())[rank()]
