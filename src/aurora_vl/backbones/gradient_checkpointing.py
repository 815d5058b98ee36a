"""Gradient checkpointing: layers that forget what they computed and compute it again backwards.

Less memory for about a third more time; the result is the same bit for bit, dropout included.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Literal, get_args

from torch import nn
from torch.utils.checkpoint import checkpoint

from aurora_vl.backbones.blip.modeling import BlipTextLayer, BlipVisionLayer

Part = Literal["vision", "text"]
_LAYERS = {"vision": BlipVisionLayer, "text": BlipTextLayer}


def recompute_layers(model: nn.Module, parts: Collection[Part]) -> None:
    """Let a model's layers be computed again in the backward pass, in training mode only.

    Nothing is asked of the inputs: transformers' own switch makes PEFT let the embeddings require
    gradients, which the re-entrant form needs and this one does not.

    Args:
        model: a backbone, or a PEFT model around one; changed in place.
        parts: vision, text (encoder and answer decoder) or both; layers of others are kept.

    Raises:
        ValueError: an unknown part.
    """
    if unknown := set(parts) - set(get_args(Part)):
        raise ValueError(f"there is no part {sorted(unknown)[0]!r} to be recomputed")
    chosen = tuple(_LAYERS[part] for part in parts)
    for layer in model.modules():
        if isinstance(layer, (BlipVisionLayer, BlipTextLayer)):
            layer.gradient_checkpointing = isinstance(layer, chosen)
            layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)
