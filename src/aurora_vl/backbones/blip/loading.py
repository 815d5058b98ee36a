"""A BLIP and its tokenizer, by name: mini, a folder, a hub id or an original file.

Builds only what the task uses. A checkpoint's other parts are left out by name; anything
else that is missing or left over is an error that names it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor
from transformers import BlipConfig, PreTrainedTokenizerBase

from aurora_vl.backbones.base import Task
from aurora_vl.backbones.blip.architectures import ARCHITECTURES, published_config
from aurora_vl.backbones.blip.checkpoint import (
    POSITIONS,
    interpolate_positions,
    misfit,
    read_state,
)
from aurora_vl.backbones.blip.config_check import WAY_OUT, check_config
from aurora_vl.backbones.blip.modeling import BlipForQuestionAnswering, BlipForRetrieval
from aurora_vl.backbones.blip.original import original_name, read_original
from aurora_vl.backbones.blip.tokenizer import DEFAULT_TOKENIZER, blip_tokenizer, read_tokenizer
from aurora_vl.backbones.folders import find_backbone, model_type_of
from aurora_vl.errors import UserError

BlipModel = BlipForRetrieval | BlipForQuestionAnswering

THEIR_CLASSES: dict[Task, str] = {  # transformers', which read our folders
    "retrieval": "BlipForImageTextRetrieval",
    "vqa": "BlipForQuestionAnswering",
}
_CLASSES: dict[str, type[BlipModel]] = {
    "retrieval": BlipForRetrieval,
    "vqa": BlipForQuestionAnswering,
}
_UNUSED = {  # what a task does not use of a checkpoint that holds more
    "retrieval": ("text_decoder.",),
    "vqa": ("vision_proj.", "text_proj.", "itm_head.", "temperature."),
}
_MISBUILT = (  # what values that fit no model come to
    *(ArithmeticError, AssertionError, AttributeError, LookupError),
    *(RuntimeError, TypeError, ValueError),
)


def load(
    name: str | os.PathLike[str],
    *,
    task: Task = "retrieval",
    image_size: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> BlipModel:
    """A pre-trained backbone, in evaluation mode on the CPU.

    Args:
        name: ``"mini"`` (bundled), a folder in transformers' layout, a hub id or one of the
            ``.pth`` files of BLIP's authors.
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
    config, state, named, _ = read_source(name)
    if image_size is not None:
        resize(config, state, image_size, name)
    model = empty_model(task, config, name)
    state = {key: value for key, value in state.items() if not key.startswith(_UNUSED[task])}
    _fill(model, state, dtype, f"{name} as a model for {task}", named)
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
        file = _file(name)
        config = read_original(file).config if file else _config(_folder(name))
    if image_size is not None:
        resize(config, {}, image_size, name)
    return config


def load_tokenizer(name: str | os.PathLike[str]) -> PreTrainedTokenizerBase:
    """The tokenizer that stands beside a backbone's weights, for the same names as ``load``.

    A ``.pth`` file has none beside it: bert-base-uncased's is fetched from the hub.

    Raises:
        UserError: if the name leads nowhere or there is no tokenizer.
    """
    file = _file(name)
    if file is None:
        return read_tokenizer(_folder(name))
    way_out = f"make a folder with one by 'aurora convert {file} OUT --tokenizer FOLDER'"
    return blip_tokenizer(DEFAULT_TOKENIZER, read_original(file).config, way_out)


class Source(NamedTuple):
    """A checkpoint as it was read.

    Attributes:
        config: its configuration.
        state: its tensors under transformers' names; those of a file may still be on the disk.
        named: from a name in ``state`` to the checkpoint's own.
        notes: what was left out or changed in reading, in sentences.
    """

    config: BlipConfig
    state: dict[str, Tensor]
    named: Callable[[str], str]
    notes: tuple[str, ...]


def read_source(name: str | os.PathLike[str]) -> Source:
    """Read a checkpoint by any of the names that ``load`` takes, without comparing its names.

    Raises:
        UserError: if the name leads nowhere or the files cannot be read.
    """
    file = _file(name)
    if file is not None:
        original = read_original(file)
        return Source(original.config, original.state, original_name, tuple(original.notes))
    folder = _folder(name)
    config, state = _config(folder), read_state(folder)
    state = {key: value for key, value in state.items() if not key.endswith(".position_ids")}
    return Source(config, state, str, ())


def empty_model(task: Task, config: BlipConfig, name: str | os.PathLike[str]) -> BlipModel:
    """A task's model without values, which takes neither memory nor time.

    Args:
        task: the model's.
        config: its configuration.
        name: what the checkpoint is called in an error.

    Raises:
        UserError: if the configuration's values fit no model.
    """
    try:
        with torch.device("meta"):
            return _CLASSES[task](config)
    except _MISBUILT as error:  # nothing but the configuration plays a part
        raise UserError(
            f"{name} has a configuration of which no model for {task} can be built "
            f"({_reason(error)}); {WAY_OUT}"
        ) from error


def named_blip(name: str | os.PathLike[str]) -> bool:
    """Whether a name means a BLIP by itself: an original file's, a published shape's or id."""
    text = os.fspath(name)
    if Path(text).expanduser().is_dir():  # a folder may be called so
        return False
    return text.endswith(".pth") or published_config(text) is not None


def _folder(name: str | os.PathLike[str]) -> Path:
    """The folder a backbone's name stands for, after what no folder is called has its sentence."""
    text = os.fspath(name)
    if not Path(text).expanduser().is_dir():
        if text in ARCHITECTURES:
            raise UserError(
                f"{text} names an architecture, which has no weights; give a local folder with "
                "config.json and weights (aurora params counts without them)"
            )
        if text.endswith(".pth"):
            raise UserError(
                f"there is no file {text}; give an original BLIP checkpoint that exists"
            )
    return find_backbone(name)


def _file(name: str | os.PathLike[str]) -> Path | None:
    """The original checkpoint that a name stands for, if it names a file."""
    path = Path(name).expanduser()
    return path if path.is_file() else None


def _config(folder: Path) -> BlipConfig:
    """The folder's BLIP configuration."""
    path = folder / "config.json"
    model_type = model_type_of(folder)
    if model_type != "blip":
        raise UserError(f"{path} describes a model of type {model_type!r}; give one of type 'blip'")
    try:
        config = BlipConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, StrictDataclassError, *_MISBUILT) as error:
        raise UserError(
            f"{path} is not a BLIP configuration ({_reason(error)}); {WAY_OUT}"
        ) from error
    check_config(config, path)
    return config


def _reason(error: Exception) -> str:
    """An exception's text in one line, with its kind where the text alone may be a bare word."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if isinstance(error, LookupError) else text


def resize(
    config: BlipConfig, state: dict[str, Tensor], image_size: int, name: str | os.PathLike[str]
) -> None:
    """Fit configuration and positions, in place, to pictures of another size.

    Args:
        config: of the checkpoint.
        state: its tensors, or none.
        image_size: pixels along a side.
        name: what the checkpoint is called in an error.

    Raises:
        UserError: if the size is not a whole number of patches, or the positions are not those of
            patches.
    """
    patch = config.vision_config.patch_size
    if image_size < patch or image_size % patch:
        raise UserError(f"image size {image_size} is not a multiple of the patch size {patch}")
    config.vision_config.image_size = image_size
    if POSITIONS in state:  # if not, it is named with whatever else is missing
        try:
            state[POSITIONS] = interpolate_positions(state[POSITIONS], image_size // patch)
        except ValueError as error:
            raise UserError(
                f"{name}: {POSITIONS} cannot be interpolated: {error}; fetch the checkpoint again"
            ) from error


def share_tied(model: BlipModel, state: dict[str, Tensor]) -> None:
    """Give both names of each tensor that the model uses twice, where the state has one."""
    for tied, source in (model._tied_weights_keys or {}).items():
        for one, other in ((source, tied), (tied, source)):
            if one in state:
                state[other] = state[one]
                break


def _fill(
    model: BlipModel,
    state: dict[str, Tensor],
    dtype: torch.dtype,
    what: str,
    named: Callable[[str], str],
) -> None:
    """Put a checkpoint's tensors into a model built without memory, checking every name."""
    if isinstance(model, BlipForRetrieval):
        state.setdefault("temperature.weight", torch.tensor(model.temperature.value))
    share_tied(model, state)
    expected = {key: value.shape for key, value in model.state_dict().items()}
    faults = misfit(expected, state, named)
    if faults:
        raise UserError(f"cannot load {what}: {faults}; give a checkpoint of this kind of model")
    copies = {key: value.to(dtype, copy=True) for key, value in state.items()}
    model.load_state_dict(copies, assign=True)
    model.tie_weights()
