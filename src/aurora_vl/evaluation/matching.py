"""Matching one medium with many texts, its keys and values computed once."""

from __future__ import annotations

import torch
from torch import Tensor

from aurora_vl.modeling.blip import BlipForRetrieval, CrossKeys

TEXTS_AT_ONCE = 64


def match_texts(
    backbone: BlipForRetrieval,
    cross: CrossKeys,
    ids: Tensor,
    mask: Tensor,
    at_once: int = TEXTS_AT_ONCE,
) -> Tensor:
    """Matching logits of one medium with K texts, (K,) in float64 on the host.

    Texts of like length are scored together and padded only to the longest among them.

    Args:
        backbone: the model.
        cross: keys of the medium, one row.
        ids, mask: (K, L), padded behind.
        at_once: bounds the memory.
    """
    lengths = mask.sum(1).cpu()
    order = lengths.argsort(stable=True)
    found = []
    for part in order.split(at_once):
        rows, longest = part.to(ids.device), int(lengths[part].max())
        logits = backbone.match(ids[rows, :longest], mask[rows, :longest], cross)
        found.append(logits[:, 1].double())
    scores = torch.empty(len(ids), dtype=torch.float64)
    scores[order] = torch.cat(found).cpu()
    return scores
