"""The sigmoid loss of SigLIP: every pair of a picture and a text is a question of its own.

Zhai et al., "Sigmoid Loss for Language Image Pre-Training", 2023, algorithm 1. Pairs of the same
picture count as matches.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from aurora_vl.backbones.base import DualEncoder
from aurora_vl.objectives.matching import NO_ITEM
from aurora_vl.objectives.settled import leaf, settled
from aurora_vl.utils.distributed import gather, gather_with_gradient


def sigmoid_loss(
    encoder: DualEncoder, media: Tensor, texts: Tensor, index: Tensor, every_index: Tensor
) -> Tensor:
    """This process's part of the loss, the sum over all pairs divided by the number of texts.

    The own media meet the texts of all processes, those of one process at a time: the logits of
    (B, B) pairs are in memory at once, however many processes there are. Processes' gradients are
    averaged, so that the parts' mean is the loss.

    Args:
        encoder: turns cosines into logits.
        media, texts: (B, D) features of the own pairs.
        index: (B,) the medium of each; `NO_ITEM` for pairs that do not count.
        every_index: (G,) those of all processes.
    """
    scale = encoder.logit_scale()
    counted = index != NO_ITEM
    texts_a_process = gather(counted.sum()[None]).to(media.dtype).mean()
    loss = media.new_zeros(())
    every_text = gather_with_gradient(texts)
    for part, owners in zip(
        every_text.split(len(texts)), every_index.split(len(texts)), strict=True
    ):
        given = (media, part, *scale)
        own, others, *own_scale = leaves = tuple(leaf(tensor) for tensor in given)
        logits = encoder.logits(own, others, own_scale)
        matches = index[:, None] == owners[None]
        signed = torch.where(matches, logits, -logits)
        pairs = counted[:, None] & (owners != NO_ITEM)[None]
        wrong = -(F.logsigmoid(signed) * pairs).sum() / texts_a_process
        loss = loss + settled(wrong, given, leaves)
    return loss
