"""Image-text retrieval as a training task: contrastive and matching losses of one batch.

The contrastive loss is the backbone's own: the sigmoid loss (`sigmoid.py`), or ITC, which compares
the batch's features with those of a momentum copy and of a queue, against soft targets. ITM asks
the fusion layers to tell true pairs from hard negatives (BLIP, section 3.2; Aurora, section 3).
Under several processes, features, candidates and the informative context are
global, so that W processes with B pairs each compute what one computes with W * B.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aurora_vl.backbones.base import (
    DualEncoder,
    MediaEncoding,
    MediaInputs,
    TextEncoding,
    TextInputs,
)
from aurora_vl.errors import UserError
from aurora_vl.objectives.matching import (
    NO_ITEM,
    ContextEnhancement,
    Negatives,
    draw,
    matching_loss,
    mean_over_processes,
)
from aurora_vl.objectives.momentum import MomentumCopy, shared_factors
from aurora_vl.objectives.settled import leaf, settled
from aurora_vl.objectives.sigmoid import sigmoid_loss
from aurora_vl.objectives.switches import RetrievalSwitches
from aurora_vl.utils.distributed import gather


@dataclass
class RetrievalSettings(RetrievalSwitches):
    """The losses' constants and switches.

    Attributes:
        queue: features kept of earlier batches; 0 for none.
        momentum: decay of the moving average; None takes the live features as their own targets.
        alpha: share of the momentum similarities in the soft targets.
        ramp_steps: steps over which alpha grows from 0 to its value (the first epoch in BLIP); 0
            for its value from the start.
    """

    queue: int = 57_600
    momentum: float | None = 0.995
    alpha: float = 0.4
    ramp_steps: int = 1

    def __post_init__(self) -> None:
        if self.ice not in get_args(ContextEnhancement):
            known = ", ".join(get_args(ContextEnhancement))
            raise UserError(f"ice {self.ice!r} is unknown; choose one of {known}.")


class RetrievalTask(nn.Module):
    """A retrieval model with its losses, momentum copy and feature queue.

    A family without a matcher trains with the contrastive part alone. One whose contrastive loss is
    the sigmoid loss has neither queue nor momentum copy, whatever the settings say.

    Args:
        encoder: the model behind the seam; it may have an adapter.
        settings: constants of the losses.
    """

    image_queue: Tensor
    text_queue: Tensor
    index_queue: Tensor
    pointer: Tensor
    steps: Tensor

    def __init__(self, encoder: DualEncoder, settings: RetrievalSettings) -> None:
        super().__init__()
        self.model = encoder.model
        self.encoder = encoder
        if encoder.contrastive == "sigmoid":
            settings = replace(settings, queue=0, momentum=None)
        self.settings = settings
        self.momentum = (
            None
            if settings.momentum is None
            else MomentumCopy(
                self.model,
                settings.momentum,
                shared_factors(self.model) if settings.live_factors else (),
                warm=settings.warm_momentum,
            )
        )
        weight = next(self.model.parameters())
        empty = torch.zeros(settings.queue, encoder.width, dtype=weight.dtype, device=weight.device)
        self.register_buffer("image_queue", empty)  # (Q, D)
        self.register_buffer("text_queue", empty.clone())
        missing = torch.full((settings.queue,), NO_ITEM, device=weight.device)
        self.register_buffer("index_queue", missing)
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long, device=weight.device))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long, device=weight.device))

    def forward(
        self,
        media: MediaInputs,
        texts: TextInputs,
        media_index: Tensor,
        uniforms: Tensor | None = None,
        counted_media: int | None = None,
    ) -> dict[str, Tensor]:
        """The losses of one batch of pairs.

        Args:
            media: b pictures or videos; each is encoded once for its B / b captions.
            texts: B captions, those of the first medium, of the second and so on.
            media_index: (B,) integers; pairs of the same picture are never each other's negatives.
            uniforms: (B, 2) numbers in [0, 1) that draw each pair's negative image and negative
                text; None takes the most similar ones.
            counted_media: how many of the media count, from the first; the others fill a process's
                last batch of an epoch up and are left out of losses, candidates and queue. None
                for all; to be given on all processes or none.

        Returns:
            scalars `loss` and its parts, `loss_itc` and, where there is a matcher, `loss_itm`.
        """
        seen, told = self.encoder.encode_pairs(media, texts)
        together = len(told.features) // len(seen.features)  # pairs of one medium stand together
        if counted_media is not None:
            media_index = media_index.clone()
            media_index[counted_media * together :] = NO_ITEM
        live = _by_pair(seen, together)
        every_index = gather(media_index)
        if self.encoder.contrastive == "sigmoid":
            contrastive = sigmoid_loss(
                self.encoder, live.features, told.features, media_index, every_index
            )
        else:
            contrastive = self._contrastive(
                live.features,
                told.features,
                *self._targets(live, told, together, media, texts),
                media_index,
                every_index,
                filled=counted_media is not None,
            )
        if self.encoder.matcher is None:
            return {"loss": contrastive, "loss_itc": contrastive}
        negatives = self._negatives(live, told, media_index, every_index, uniforms)
        matching = matching_loss(
            self.encoder.matcher,
            live,
            told,
            texts,
            negatives,
            counted=(media_index != NO_ITEM, every_index != NO_ITEM),
            ice=self.settings.ice if self.training else "off",
            frame_aware=self.settings.frame_aware,
        )
        return {"loss": contrastive + matching, "loss_itc": contrastive, "loss_itm": matching}

    def _targets(
        self,
        live: MediaEncoding,
        told: TextEncoding,
        together: int,
        media: MediaInputs,
        texts: TextInputs,
    ) -> tuple[Tensor, Tensor]:
        """Momentum features of the own rows, image and text; updates the moving average."""
        if self.momentum is None:
            return live.features.detach(), told.features.detach()
        if self.training:
            self.momentum.update(self.model)
        call = partial(self.momentum.call, self.model)
        seen_m, told_m = self.encoder.encode_pairs(media, texts, features_only=True, call=call)
        return _by_pair(seen_m, together).features, told_m.features

    def _contrastive(
        self,
        image: Tensor,
        text: Tensor,
        image_m: Tensor,
        text_m: Tensor,
        index: Tensor,
        every_index: Tensor,
        *,
        filled: bool,
    ) -> Tensor:
        """ITC of the own rows against all processes' momentum features and the queue."""
        given = (image, text, *self.encoder.logit_scale())
        image, text, *scale = (leaf(tensor) for tensor in given)
        images = torch.cat([gather(image_m), self.image_queue])  # (G + Q, D)
        texts = torch.cat([gather(text_m), self.text_queue])
        indices = torch.cat([every_index, self.index_queue])
        absent = indices == NO_ITEM
        if self.settings.count_empty_slots:
            absent[len(every_index) :] = False
        same = index[:, None] == indices[None]  # (B, G + Q)
        same = same.to(torch.float32 if self.settings.float32_targets else image.dtype)
        hard = same / same.sum(1, keepdim=True)
        alpha = self.settings.alpha * self._ramp(image.dtype)

        def logits(queries: Tensor, candidates: Tensor) -> Tensor:
            scores = self.encoder.logits(queries, candidates, scale)
            # finite, since a target of 0 times a logarithm of -inf would be no number
            return scores.masked_fill(absent, torch.finfo(scores.dtype).min / 2)

        soft_i2t = logits(image_m, texts).detach().softmax(1)
        soft_t2i = logits(text_m, images).detach().softmax(1)
        i2t = F.log_softmax(logits(image, texts), dim=1)
        t2i = F.log_softmax(logits(text, images), dim=1)
        counted = (index != NO_ITEM).to(i2t.dtype)
        loss_i2t = -mean_over_processes(
            (i2t * (alpha * soft_i2t + (1 - alpha) * hard)).sum(1), counted
        )
        loss_t2i = -mean_over_processes(
            (t2i * (alpha * soft_t2i + (1 - alpha) * hard)).sum(1), counted
        )
        if self.training:
            fresh = len(every_index)
            self._enqueue(images[:fresh], texts[:fresh], every_index, filled=filled)
        return settled((loss_i2t + loss_t2i) / 2, given, (image, text, *scale))

    def _ramp(self, dtype: torch.dtype) -> Tensor:
        """Share of alpha in force, growing over the first `ramp_steps`; counts training steps."""
        ramp, steps = self.settings.ramp_steps, self.steps.to(dtype)
        share = (steps / ramp).clamp(max=1.0) if ramp else torch.ones_like(steps)
        if self.training:
            self.steps += 1
        return share

    @torch.no_grad()
    def _enqueue(self, image: Tensor, text: Tensor, index: Tensor, *, filled: bool) -> None:
        """Overwrite the queue's oldest entries; any batch size, larger than the queue too."""
        size = self.settings.queue
        if size == 0:
            return
        if filled:
            counted = index != NO_ITEM
            image, text, index = image[counted], text[counted], index[counted]
        kept = min(len(index), size)
        slots = (self.pointer + torch.arange(kept, device=index.device)) % size
        self.image_queue[slots] = image[-kept:].to(self.image_queue.dtype)
        self.text_queue[slots] = text[-kept:].to(self.text_queue.dtype)
        self.index_queue[slots] = index[-kept:]
        self.pointer.copy_((self.pointer + kept) % size)

    @torch.no_grad()
    def _negatives(
        self,
        live: MediaEncoding,
        told: TextEncoding,
        index: Tensor,
        every_index: Tensor,
        uniforms: Tensor | None,
    ) -> Negatives:
        """A negative image for each text and a negative text for each image, of all processes."""
        excluded = (index[:, None] == every_index[None]) | (every_index == NO_ITEM)  # (B, G)
        valid = ~excluded.all(1)
        excluded = excluded & valid[:, None]  # keeps the softmax of a row without negatives finite
        scale = self.encoder.logit_scale()
        t2i = self.encoder.logits(told.features, gather(live.features), scale)
        i2t = self.encoder.logits(live.features, gather(told.features), scale)
        columns = (None, None) if uniforms is None else uniforms.unbind(1)
        images = draw(t2i.masked_fill(excluded, -torch.inf), columns[0])
        texts = draw(i2t.masked_fill(excluded, -torch.inf), columns[1])
        return Negatives(images, texts, valid)


def _by_pair(seen: MediaEncoding, together: int) -> MediaEncoding:
    """Features of b media, each repeated for its texts; the states are left as they are."""
    frames = seen.frame_features
    return replace(
        seen,
        features=seen.features.repeat_interleave(together, 0),
        frame_features=None if frames is None else frames.repeat_interleave(together, 0),
    )
