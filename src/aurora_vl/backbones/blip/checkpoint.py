"""Reading and fitting a checkpoint's tensors: files to names and tensors, positions to a size.

Knows file formats and tensor shapes, not where folders come from (``load.py``).
"""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from aurora_vl.errors import UserError

SAFE, PICKLED = "model.safetensors", "pytorch_model.bin"
POSITIONS = "vision_model.embeddings.position_embedding"


def read_state(folder: Path) -> dict[str, Tensor]:
    """All tensors of a transformers folder, by name, on the CPU in the types they are stored in.

    Safetensors are preferred to ``.bin``, which is read without executing pickled code; both
    may be cut into shards with an index.

    Raises:
        UserError: if there is no weights file or one cannot be read.
    """
    for name in (SAFE, PICKLED):
        index = folder / f"{name}.index.json"
        if (folder / name).is_file():
            return only_tensors(read_file(folder / name), folder / name)
        if index.is_file():
            shards = sorted(set(_read_index(index).values()))
            state: dict[str, Tensor] = {}
            for shard in shards:
                state.update(only_tensors(read_file(folder / shard), folder / shard))
            return state
    raise UserError(f"{folder} holds neither {SAFE} nor {PICKLED}; give a folder with weights")


def only_tensors(
    content: Mapping[Any, Any], path: Path, way_out: str = "save its tensors alone"
) -> dict[str, Tensor]:
    """What a file holds, after a check that it is tensors by name.

    Raises:
        UserError: if a name is no text or a value no tensor.
    """
    for name, value in content.items():
        if not isinstance(name, str):
            raise UserError(f"{path}: {name!r} is no tensor's name; {way_out}")
        if not isinstance(value, Tensor):
            raise UserError(f"{path}: {name} is a {type(value).__name__}, not a tensor; {way_out}")
    return dict(content)


def _read_index(path: Path) -> dict[str, str]:
    try:
        files = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        if not isinstance(files, dict) or not all(isinstance(f, str) for f in files.values()):
            raise ValueError("weight_map holds no names of files")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not an index of weight files; fetch it again") from error
    return files


def read_file(path: Path) -> dict[str, Any]:
    """What one file of weights holds by name: tensors, or for a ``.pth`` whatever stands beside.

    Pickled code is never executed; a file that needs it is refused. Files written by torch 1.6
    or later are mapped into memory, so that tensors nobody looks at cost nothing.

    Raises:
        UserError: if it cannot be read, or holds other objects than tensors and plain values.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return _unpickle(path)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        if found is None:
            raise UserError(f"{path} is not a file of weights; fetch or save it again") from error
        raise UserError(
            f"{path} holds more than tensors ({found[1]}) and is not read, since that could run "
            "code of its author's; save its tensors alone"
        ) from error
    except (OSError, ValueError, RuntimeError, EOFError, SafetensorError) as error:
        reason = str(error).strip().split("\n")[0] or "it is empty"
        raise UserError(f"{path} cannot be read ({reason}); fetch or save it again") from error


def _unpickle(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        zipped = file.read(4) == b"PK\x03\x04"
    content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    if not isinstance(content, Mapping):
        raise ValueError(f"it holds a {type(content).__name__}, not tensors by name")
    return dict(content)


def interpolate_positions(positions: Tensor, grid: int) -> Tensor:
    """Position embeddings for another number of patches, bicubically (as BLIP does).

    Args:
        positions: (1, 1 + n * n, d), the class token's first, which is kept as it is.
        grid: the wanted number of patches along a side.

    Returns:
        (1, 1 + grid * grid, d), of the given type; of 8 bits, for which torch computes next to
        nothing, in float32.

    Raises:
        ValueError: if they are no such positions, or the patches do not form a square.
    """
    if positions.ndim != 3:
        raise ValueError(f"it has {positions.ndim} dimensions instead of 3")
    if not positions.is_floating_point():
        raise ValueError("it holds whole numbers")
    if positions.dtype.itemsize == 1:
        positions = positions.float()
    first, patches = positions[:, :1], positions[:, 1:]
    side = round(patches.shape[1] ** 0.5)
    if side == 0 or side * side != patches.shape[1]:
        raise ValueError(f"{patches.shape[1]} patch positions do not form a square")
    if side == grid:
        return positions
    square = patches.reshape(1, side, side, -1).permute(0, 3, 1, 2)
    if square.dtype in (torch.float16, torch.bfloat16):
        square = square.float()
    square = F.interpolate(square, size=(grid, grid), mode="bicubic", align_corners=False)
    patches = square.permute(0, 2, 3, 1).flatten(1, 2).to(positions.dtype)
    return torch.cat([first, patches], dim=1)


def misfit(
    expected: Mapping[str, torch.Size],
    state: Mapping[str, Tensor],
    named: Callable[[str], str] = str,
) -> str:
    """How a checkpoint's tensors differ from a model's, in words; empty if they do not.

    Args:
        expected: shapes by name.
        state: the checkpoint's tensors.
        named: the name by which the file knows a tensor.
    """
    shapes = {
        named(key): f"{_sizes(state[key].shape)} instead of {_sizes(shape)}"
        for key, shape in expected.items()
        if key in state and state[key].shape != shape
    }
    faults = {
        "missing": [named(key) for key in expected.keys() - state.keys()],
        "unexpected": [named(key) for key in state.keys() - expected.keys()],
        "of another shape": [f"{name} ({sizes})" for name, sizes in shapes.items()],
    }
    return "; ".join(f"{fault}: {first_few(names)}" for fault, names in faults.items() if names)


def _sizes(shape: torch.Size) -> str:
    return " x ".join(map(str, shape)) or "one number"


def first_few(names: Iterable[str], count: int = 3) -> str:
    """The first names of a set in order, and how many more there are."""
    ordered = sorted(names)
    more = len(ordered) - count
    return ", ".join(ordered[:count]) + (f" and {more} more" if more > 0 else "")
