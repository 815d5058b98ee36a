"""The backbone and its tokenizer, by name: the bundled mini, a folder or a hub id.

Builds only what the task uses. A checkpoint's other parts are left out by name; anything
else that is missing or left over is an error that names it.
"""

from __future__ import annotations

import json
import os
from importlib.resources import files
from pathlib import Path
from typing import Literal, overload

import torch
from huggingface_hub import snapshot_download
from torch import Tensor
from transformers import AutoTokenizer, BlipConfig, PreTrainedTokenizerBase

from aurora_vl.errors import UserError
from aurora_vl.modeling.architectures import ARCHITECTURES, published_config
from aurora_vl.modeling.blip import BlipForQuestionAnswering, BlipForRetrieval
from aurora_vl.modeling.checkpoint import (
    PICKLED,
    POSITIONS,
    first_few,
    interpolate_positions,
    read_state,
)

Task = Literal["retrieval", "vqa"]
BlipModel = BlipForRetrieval | BlipForQuestionAnswering

MINI = "mini"
_CLASSES: dict[str, type[BlipModel]] = {
    "retrieval": BlipForRetrieval,
    "vqa": BlipForQuestionAnswering,
}
_UNUSED = {  # what a task does not use of a checkpoint that holds more
    "retrieval": ("text_decoder.",),
    "vqa": ("vision_proj.", "text_proj.", "itm_head.", "temperature."),
}
_TOKENIZER_FILES = ("tokenizer.json", "vocab.txt")
_SMALL_FILES = ("*.json", "*.txt", "model*.safetensors")


@overload
def load(
    name: str | os.PathLike[str],
    *,
    task: Literal["retrieval"] = "retrieval",
    image_size: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> BlipForRetrieval: ...


@overload
def load(
    name: str | os.PathLike[str],
    *,
    task: Literal["vqa"],
    image_size: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> BlipForQuestionAnswering: ...


@overload
def load(
    name: str | os.PathLike[str],
    *,
    task: Task,
    image_size: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> BlipModel: ...


def load(
    name: str | os.PathLike[str],
    *,
    task: Task = "retrieval",
    image_size: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> BlipModel:
    """A pre-trained backbone, in evaluation mode on the CPU.

    Args:
        name: ``"mini"`` (bundled), a folder in transformers' layout or a hub id.
        task: ``"retrieval"`` or ``"vqa"``; the checkpoint's parts that the task does not use
            are left out.
        image_size: pixels along a side; another than the checkpoint's interpolates the
            position embeddings. None keeps the checkpoint's.
        dtype: type of the parameters, whatever the file's.

    Raises:
        UserError: if the name leads nowhere, the files cannot be read, the checkpoint lacks
            or has other parameters than the task's model, or the size does not fit.
    """
    if task not in _CLASSES:
        raise UserError(f"unknown task {task!r}; a backbone is loaded for retrieval or vqa")
    folder = _folder(name)
    config = _config(folder)
    state = read_state(folder)
    if image_size is not None:
        _resize(config, state, image_size)
    with torch.device("meta"):  # no memory or time for starting values
        model = _CLASSES[task](config)
    _fill(model, state, _UNUSED[task], dtype, f"{name} as a model for {task}")
    model.name_or_path = model.config._name_or_path = os.fspath(name)
    return model.eval()


def load_config(name: str | os.PathLike[str], *, image_size: int | None = None) -> BlipConfig:
    """A backbone's configuration; its weights are not looked at.

    Args:
        name: as for ``load``, or ``"blip-base"`` and ``"blip-large"``, the published shapes;
            published checkpoints are known by name and need no network.
        image_size: pixels along a side instead of the configuration's.

    Raises:
        UserError: if the name leads nowhere or the size does not fit.
    """
    config = None if Path(name).exists() else published_config(os.fspath(name))
    if config is None:
        config = _config(_folder(name))
    if image_size is not None:
        _resize(config, {}, image_size)
    return config


def load_tokenizer(name: str | os.PathLike[str]) -> PreTrainedTokenizerBase:
    """The tokenizer that stands beside a backbone's weights, for the same names as ``load``.

    Raises:
        UserError: if the name leads nowhere or there is no tokenizer.
    """
    folder = _folder(name)
    try:
        if not any((folder / file).is_file() for file in _TOKENIZER_FILES):
            raise FileNotFoundError(_TOKENIZER_FILES)  # transformers would make an empty one
        return AutoTokenizer.from_pretrained(folder, use_fast=True, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder} holds no tokenizer that can be read; put tokenizer.json and "
            "tokenizer_config.json beside the weights"
        ) from error


def _folder(name: str | os.PathLike[str]) -> Path:
    """The folder a backbone's name stands for, downloaded if it is a hub id."""
    text = os.fspath(name)
    if text == MINI:
        return Path(str(files("aurora_vl") / "assets" / "mini"))
    path = Path(text).expanduser()
    if path.is_dir():
        return path
    if text in ARCHITECTURES:
        raise UserError(
            f"{text} names an architecture, which has no weights; give a folder with config.json "
            "and weights (aurora params counts without them)"
        )
    if path.suffix == ".pth" or path.is_file():
        raise UserError(f"{text} is not a folder; give a folder with config.json and weights")
    if text.count("/") > 1 or text.startswith((".", "/", "~")) or "\\" in text:
        raise UserError(f"there is no folder {text}; give a folder with config.json and weights")
    try:
        folder = Path(snapshot_download(text, allow_patterns=list(_SMALL_FILES)))
        if not any(folder.glob("model*.safetensors")):
            stem = Path(PICKLED).stem
            folder = Path(snapshot_download(text, allow_patterns=[*_SMALL_FILES, f"{stem}*"]))
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"{text!r} is no folder here and could not be downloaded from the hub ({reason}); "
            "give a local folder with config.json and weights, or check the id and the network"
        ) from error
    return folder


def _config(folder: Path) -> BlipConfig:
    """The folder's BLIP configuration."""
    path = folder / "config.json"
    try:
        model_type = json.loads(path.read_text(encoding="utf-8")).get("model_type")
    except FileNotFoundError as error:
        raise UserError(f"there is no {path}; give a folder with config.json") from error
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{path} cannot be read as a configuration ({error})") from error
    if model_type != "blip":
        raise UserError(f"{path} describes a model of type {model_type!r}; give one of type 'blip'")
    try:
        return BlipConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path} is not a BLIP configuration ({error})") from error


def _resize(config: BlipConfig, state: dict[str, Tensor], image_size: int) -> None:
    """Fit configuration and positions to pictures of another size."""
    patch = config.vision_config.patch_size
    if image_size < patch or image_size % patch:
        raise UserError(f"image size {image_size} is not a multiple of the patch size {patch}")
    config.vision_config.image_size = image_size
    if POSITIONS in state:  # if not, it is named with whatever else is missing
        try:
            state[POSITIONS] = interpolate_positions(state[POSITIONS], image_size // patch)
        except ValueError as error:
            raise UserError(f"{POSITIONS} cannot be interpolated: {error}") from error


def _fill(
    model: BlipModel,
    state: dict[str, Tensor],
    unused: tuple[str, ...],
    dtype: torch.dtype,
    what: str,
) -> None:
    """Put a checkpoint's tensors into a model built without memory, checking every name."""
    state = {
        key: value
        for key, value in state.items()
        if not key.startswith(unused) and not key.endswith(".position_ids")
    }
    if isinstance(model, BlipForRetrieval):
        state.setdefault("temperature.weight", torch.tensor(model.temperature.value))
    for tied, source in (model._tied_weights_keys or {}).items():
        if source in state:
            state[tied] = state[source]
    expected = {key: value.shape for key, value in model.state_dict().items()}
    faults = {
        "missing": expected.keys() - state.keys(),
        "unexpected": state.keys() - expected.keys(),
        "of another shape": {
            key for key, shape in expected.items() if key in state and state[key].shape != shape
        },
    }
    if any(faults.values()):
        listed = "; ".join(f"{fault}: {first_few(keys)}" for fault, keys in faults.items() if keys)
        raise UserError(f"cannot load {what}: {listed}; give a checkpoint of this kind of model")
    copies = {key: value.to(dtype, copy=True) for key, value in state.items()}
    model.load_state_dict(copies, assign=True)
    model.tie_weights()
