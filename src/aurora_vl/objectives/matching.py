"""The matching loss: tell true pairs from hard negatives by what the fusion layers make of them.

With Aurora's informative context enhancement (section 3 of the paper). Under several processes the
negatives and the informative context are global.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from aurora_vl.backbones.base import Matcher, MediaEncoding, TextEncoding, TextInputs
from aurora_vl.utils.distributed import gather, gather_with_gradient, rank, world_size

ContextEnhancement = Literal["off", "released", "symmetric", "adaptive"]
NO_ITEM = -100
"""The id of a queue slot that holds nothing yet, and of a pair that does not count."""
_CONTEXT_SHARE = 0.1


class Negatives(NamedTuple):
    """Rows of all processes.

    Attributes:
        images: (B,) a negative image for each text.
        texts: (B,) a negative text for each image.
        valid: (B,) whether the pair has any negative at all.
    """

    images: Tensor
    texts: Tensor
    valid: Tensor


def matching_loss(
    matcher: Matcher,
    live: MediaEncoding,
    told: TextEncoding,
    texts: TextInputs,
    negatives: Negatives,
    *,
    counted: tuple[Tensor, Tensor],
    ice: ContextEnhancement,
    frame_aware: bool,
) -> Tensor:
    """ITM over rows [true pairs, text with negative image, image with negative text].

    Args:
        matcher: the family's.
        live: features of B pairs, states of their b media.
        told: of B texts.
        texts: their tokens.
        negatives: drawn for them.
        counted: which of the own pairs count, and which of all processes'.
        ice: informative context enhancement.
        frame_aware: whether a video's frames weigh by their likeness to the text.
    """
    assert live.states is not None
    count = len(told.features)
    device = told.features.device
    own = torch.arange(count, device=device)
    offset = rank() * count
    # Each image's own texts and their negative ones stand together and share the image's keys.
    rows = torch.cat([torch.stack([own + offset, negatives.texts], 1).flatten(), own + offset])
    videos = torch.cat([(own + offset).repeat_interleave(2), negatives.images])
    runs = _runs(matcher, live, told, rows, videos, frame_aware=frame_aware)
    every_text = _gather_padded(texts)
    chosen = TextInputs(
        input_ids=every_text["input_ids"][rows], attention_mask=every_text["attention_mask"][rows]
    )
    shared, drawn = matcher.fuse(chosen, runs).split([2 * count, count])
    fused = torch.cat([shared[::2], drawn, shared[1::2]])
    assert told.states is not None
    fused = _enhanced(fused, told.states, count, counted[1], ice)
    logits = matcher.classify(fused)
    labels = torch.zeros(len(rows), dtype=torch.long, device=device)
    labels[:count] = 1
    losses = F.cross_entropy(logits, labels, reduction="none")
    drawn_too = counted[0] & negatives.valid
    weights = torch.cat([counted[0], drawn_too, drawn_too])
    return mean_over_processes(losses, weights.to(losses.dtype))


def mean_over_processes(rows: Tensor, weights: Tensor) -> Tensor:
    """This process's part of the weighted mean over all processes' rows.

    Processes' gradients are averaged, so that the parts' mean is the mean.

    Args:
        rows, weights: (B,).
    """
    return (rows * weights).sum() / gather(weights.sum()[None]).mean()


def draw(logits: Tensor, uniforms: Tensor | None) -> Tensor:
    """One column a row from softmax(logits) by inverse transform; the largest without uniforms."""
    best = logits.argmax(1)
    if uniforms is None:
        return best
    cumulative = logits.double().softmax(1).cumsum(1)
    threshold = uniforms.double()[:, None] * cumulative[:, -1:]
    drawn = torch.searchsorted(cumulative, threshold, right=True)[:, 0]
    return torch.where(drawn < logits.shape[1], drawn, best)


def _runs(
    matcher: Matcher,
    live: MediaEncoding,
    told: TextEncoding,
    texts: Tensor,
    media: Tensor,
    *,
    frame_aware: bool,
) -> list[tuple[int, Any]]:
    """Keys for (3B,) texts: two for each own pair, then one for each medium drawn.

    Args:
        matcher: the family's.
        live, told: the own rows'.
        texts, media: (3B,) pairs of all processes.
        frame_aware: as in `matching_loss`.
    """
    assert live.states is not None
    count = len(told.features)
    together = count // len(live.states)  # pairs of one medium stand together
    shared, drawn = 2 * count, media[2 * count :] // together
    every_state = gather_with_gradient(live.states)
    own = matcher.keys(live.states)
    others = (
        own.select(drawn)
        if len(every_state) == len(live.states)
        else matcher.keys(every_state[drawn])
    )
    if live.frame_features is not None and frame_aware:
        every_text, every_frame = gather(told.features), gather(live.frame_features)
        similarity = torch.einsum("rd,rtd->rt", every_text[texts], every_frame[media])
        each = torch.arange(shared, device=texts.device) // (2 * together)
        own = matcher.scaled(own.select(each), similarity[:shared])
        others = matcher.scaled(others, similarity[shared:])
    return [(shared, own), (count, others)]


def _enhanced(
    fused: Tensor,
    text_states: Tensor,
    positives: int,
    every_counted: Tensor,
    ice: ContextEnhancement,
) -> Tensor:
    """Informative context enhancement of the fused states (3B, d)."""
    if ice == "off":
        return fused
    every_text = gather_with_gradient(text_states)  # (G, d)
    if ice == "adaptive":
        scores = fused @ every_text.T / every_text.shape[1] ** 0.5
        scores = scores.masked_fill(~every_counted, -torch.inf)
        return fused + _CONTEXT_SHARE * (scores.softmax(1) @ every_text)
    among = every_counted[:, None].to(every_text.dtype)
    context = _CONTEXT_SHARE * ((every_text * among).sum(0) / among.sum())
    if ice == "symmetric":
        return fused + context
    return torch.cat([fused[:positives] + context, fused[positives:]])


def _gather_padded(texts: TextInputs) -> TextInputs:
    """Texts of all processes, padded to the longest of them."""
    if world_size() == 1:
        return texts
    ids, mask = texts["input_ids"], texts["attention_mask"]
    longest = gather(torch.tensor([ids.shape[1]], device=ids.device)).max()
    missing = int(longest) - ids.shape[1]
    return TextInputs(
        input_ids=gather(F.pad(ids, (0, missing))),
        attention_mask=gather(F.pad(mask, (0, missing))),
    )
