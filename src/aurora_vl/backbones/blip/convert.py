"""Rewriting a checkpoint as a folder that everything here loads: weights, shapes and words.

From an original BLIP file or a folder of transformers' BLIP for retrieval or question answering.
The folder has transformers' own names, so transformers' classes load it as well; it is written
whole or not at all.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import BlipConfig, PreTrainedTokenizerBase

from aurora_vl.backbones.blip.checkpoint import SAFE, misfit
from aurora_vl.backbones.blip.loading import (
    THEIR_CLASSES,
    Source,
    Task,
    empty_model,
    find_backbone,
    read_source,
    resize,
    share_tied,
)
from aurora_vl.backbones.blip.modeling import DEFAULT_ENC_TOKEN_ID
from aurora_vl.backbones.blip.tokenizer import DEFAULT_TOKENIZER, blip_tokenizer, has_tokenizer
from aurora_vl.errors import UserError
from aurora_vl.utils.atomic import require_free, whole_folder

_PARTS: dict[Task, tuple[str, ...]] = {  # what a checkpoint for a task has beside the encoders
    "retrieval": ("vision_proj.", "text_proj.", "itm_head."),
    "vqa": ("text_decoder.",),
}
_OUTSIDE = "temperature.weight"  # of the model, but of no folder


@dataclass(frozen=True, slots=True)
class Conversion:
    """What was written.

    Attributes:
        folder: where.
        config: the configuration.
        tasks: what ``load`` can build from the folder.
        numbers: how many numbers the weights hold, those used twice counted once.
        notes: what was left out or changed, in sentences.
    """

    folder: Path
    config: BlipConfig
    tasks: tuple[Task, ...]
    numbers: int
    notes: tuple[str, ...]


def convert(
    checkpoint: str | os.PathLike[str],
    out: Path,
    *,
    tokenizer: str | None = None,
    image_size: int | None = None,
) -> Conversion:
    """Write a checkpoint as a folder with config.json, model.safetensors and a tokenizer.

    Args:
        checkpoint: an original ``.pth`` file, or a folder or hub id of transformers' BLIP for
            retrieval or question answering.
        out: the folder to write; it must not exist, or be empty.
        tokenizer: a folder or hub id with the tokenizer of bert-base-uncased; [DEC] and [ENC] are
            added. None takes the checkpoint's own if it is a folder that has one, and otherwise
            fetches bert-base-uncased's from the hub.
        image_size: pixels along a side; another than the checkpoint's interpolates the positions.

    Raises:
        UserError: if the checkpoint cannot be read, lacks tensors or has others than a BLIP,
            there is no fitting tokenizer, or ``out`` is in use.
    """
    require_free(out)
    source = read_source(checkpoint)
    if image_size is not None:
        resize(source.config, source.state, image_size, checkpoint)
    tasks, state = _checked(source, os.fspath(checkpoint))
    words = _tokenizer(checkpoint, tokenizer, source.config)
    config = _finished(source.config, tasks, words)
    with whole_folder(out) as folder:
        config.save_pretrained(folder)
        words.save_pretrained(folder)
        save_file(_apart(state), folder / SAFE, metadata={"format": "pt"})
    numbers = sum(tensor.numel() for tensor in state.values())
    return Conversion(out, config, tasks, numbers, source.notes)


def _checked(source: Source, name: str) -> tuple[tuple[Task, ...], dict[str, Tensor]]:
    """The tasks a checkpoint is for, and its tensors as they are stored, each name checked."""
    tasks = tuple(
        task for task, parts in _PARTS.items() if any(key.startswith(parts) for key in source.state)
    )
    if not tasks:
        raise UserError(
            f"{name} has neither the heads of a retrieval model ({', '.join(_PARTS['retrieval'])}) "
            f"nor an answer decoder ({_PARTS['vqa'][0]}); give a checkpoint for retrieval, "
            "question answering or pre-training"
        )
    state = dict(source.state)
    expected: dict[str, torch.Size] = {}
    tied: set[str] = set()
    for task in tasks:
        model = empty_model(task, source.config, name)
        share_tied(model, state)
        tied |= (model._tied_weights_keys or {}).keys()
        expected |= {key: value.shape for key, value in model.state_dict().items()}
    expected.pop(_OUTSIDE, None)
    faults = misfit(expected, state, source.named)
    if faults:
        raise UserError(
            f"{name} is not a whole BLIP for {' and '.join(tasks)}: {faults}; fetch it again, or "
            "give a checkpoint for retrieval, question answering or pre-training"
        )
    return tasks, {key: state[key] for key in expected if key not in tied}


def _tokenizer(
    checkpoint: str | os.PathLike[str], name: str | None, config: BlipConfig
) -> PreTrainedTokenizerBase:
    """The named tokenizer, or the checkpoint's own, or the default one."""
    if name is None and not Path(checkpoint).expanduser().is_file():
        folder = find_backbone(checkpoint)
        name = str(folder) if has_tokenizer(folder) else None
    way_out = f"give --tokenizer a folder with the tokenizer of {DEFAULT_TOKENIZER}"
    return blip_tokenizer(name or DEFAULT_TOKENIZER, config, way_out)


def _finished(
    config: BlipConfig, tasks: tuple[Task, ...], tokenizer: PreTrainedTokenizerBase
) -> BlipConfig:
    """The configuration with the tokenizer's ids, and the name of transformers' class."""
    text = config.text_config
    text.enc_token_id = getattr(text, "enc_token_id", DEFAULT_ENC_TOKEN_ID)
    text.sep_token_id = text.eos_token_id = tokenizer.sep_token_id
    text.pad_token_id = tokenizer.pad_token_id
    config.architectures = [THEIR_CLASSES[tasks[0]]]
    return config


def _apart(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with memory of their own: pre-training shares layers between two text models."""
    seen: set[int] = set()
    apart = {}
    for name, tensor in state.items():
        shared = tensor.untyped_storage().data_ptr() in seen
        seen.add(tensor.untyped_storage().data_ptr())
        apart[name] = tensor.clone() if shared else tensor.contiguous()
    return apart
