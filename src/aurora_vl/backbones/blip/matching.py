"""Matching one medium with many texts, its keys and values computed once."""

from __future__ import annotations

import torch
from torch import Tensor

from aurora_vl.backbones.blip.modeling import BlipForRetrieval, CrossKeys

TEXTS_AT_ONCE = 64
SCALED_BYTES = {"cpu": 2**28, "cuda": 2**31}
"""Of one video's keys, multiplied for several texts."""


def match_texts(
    backbone: BlipForRetrieval,
    cross: CrossKeys,
    ids: Tensor,
    mask: Tensor,
    lengths: Tensor,
    key_scale: Tensor | None = None,
    at_once: int = TEXTS_AT_ONCE,
) -> Tensor:
    """Matching logits of one medium with K texts, (K,) in float64 on the host.

    Texts of like length are scored together and padded only to the longest among them.

    Args:
        backbone: the model.
        cross: keys of the medium, one row.
        ids, mask: (K, L), padded behind.
        lengths: (K,) of the texts, on the host.
        key_scale: (K, N), what each text multiplies the keys by, see `tasks.video`; the keys
            are kept unscaled and multiplied for as many texts as `SCALED_BYTES` allows.
        at_once: texts scored together, at most.
    """
    if key_scale is not None:
        room = SCALED_BYTES.get(ids.device.type, SCALED_BYTES["cpu"])
        at_once = max(1, min(at_once, room // sum(key.nbytes for key in cross.keys)))
    order = lengths.argsort(stable=True)
    found = []
    for part in order.split(at_once):
        rows, longest = part.to(ids.device), int(lengths[part].max())
        keys = cross if key_scale is None else cross.scaled(key_scale[rows])
        logits = backbone.match(ids[rows, :longest], mask[rows, :longest], keys)
        found.append(logits[:, 1].double())
    scores = torch.empty(len(ids), dtype=torch.float64)
    scores[order] = torch.cat(found).cpu()
    return scores
