"""Frame-aware attention: a text looks harder at the frames that are like it.

The keys of frame t's patches are multiplied by T * softmax_t(s_t / 4), s_t the cosine of text and
frame; the frame's class token and all values stay as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor

_SOFTNESS = 4.0


@torch.no_grad()
def frame_key_scale(similarity: Tensor, tokens: int) -> Tensor:
    """What the cross-attention keys of videos are multiplied by.

    Args:
        similarity: (R, T), of each row's text with the T frames of its video.
        tokens: T * N tokens of a video, its frames behind each other, each with its class token
            first.

    Returns:
        (R, T * N), without a gradient, for `CrossKeys.scaled`.

    Raises:
        ValueError: the tokens cannot be cut into T frames.
    """
    rows, frames = similarity.shape
    if tokens % frames:
        raise ValueError(f"{tokens} tokens cannot be cut into {frames} frames")
    weight = frames * (similarity / _SOFTNESS).softmax(1)
    scale = weight[:, :, None].repeat(1, 1, tokens // frames)
    scale[:, :, 0] = 1.0
    return scale.view(rows, tokens)
