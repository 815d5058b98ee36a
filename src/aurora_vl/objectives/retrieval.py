"""Image-text retrieval as a training task: contrastive and matching losses of one batch.

ITC compares the batch's features with those of a momentum copy and of a queue, against soft
targets; ITM asks the fusion layers to tell true pairs from hard negatives (BLIP, section 3.2;
Aurora, section 3). Under several processes, features, candidates and the informative context are
global, so that W processes with B pairs each compute what one computes with W * B.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from peft import PeftModel
from torch import Tensor, nn

from aurora_vl.backbones.blip.frame_attention import frame_key_scale
from aurora_vl.backbones.blip.modeling import BlipForRetrieval, RetrievalOutput, TextRun
from aurora_vl.errors import UserError
from aurora_vl.objectives.momentum import MomentumCopy
from aurora_vl.utils.distributed import gather, gather_with_gradient, rank, world_size

ContextEnhancement = Literal["off", "released", "symmetric", "adaptive"]
_NO_ITEM = -100  # the id of a queue slot that holds nothing yet, and of a pair that does not count
_CONTEXT_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class RetrievalSettings:
    """The losses' constants.

    Attributes:
        queue: features kept of earlier batches; 0 for none.
        count_empty_slots: slots that hold nothing yet count as negatives, as released.
        momentum: decay of the moving average; None takes the live features as their own targets.
        warm_momentum: see `MomentumCopy`.
        alpha: share of the momentum similarities in the soft targets.
        ramp_steps: steps over which alpha grows from 0 to its value (the first epoch in BLIP); 0
            for its value from the start.
        ice: informative context enhancement, see docs/method.md.
        live: trained parameters that the momentum copy does not average.
        frame_aware: whether the keys of a video's frames are scaled by their likeness to the text.
        float32_targets: round the hard targets to float32, as released; seen in float64 alone.
    """

    queue: int = 57_600
    count_empty_slots: bool = False
    momentum: float | None = 0.995
    warm_momentum: bool = True
    alpha: float = 0.4
    ramp_steps: int = 1
    ice: ContextEnhancement = "off"
    live: Collection[str] = ()
    frame_aware: bool = True
    float32_targets: bool = False

    def __post_init__(self) -> None:
        if self.ice not in get_args(ContextEnhancement):
            known = ", ".join(get_args(ContextEnhancement))
            raise UserError(f"ice {self.ice!r} is unknown; choose one of {known}.")


class RetrievalTask(nn.Module):
    """A retrieval model with its momentum copy and feature queue.

    Args:
        model: a `BlipForRetrieval`, or a PEFT model around one.
        settings: constants of the losses.
    """

    image_queue: Tensor
    text_queue: Tensor
    index_queue: Tensor
    pointer: Tensor
    steps: Tensor

    def __init__(self, model: nn.Module, settings: RetrievalSettings) -> None:
        super().__init__()
        self.model = model
        self.settings = settings
        self.momentum = (
            None
            if settings.momentum is None
            else MomentumCopy(model, settings.momentum, settings.live, warm=settings.warm_momentum)
        )
        weight = next(self.backbone.vision_proj.parameters())
        empty = torch.zeros(
            settings.queue, weight.shape[0], dtype=weight.dtype, device=weight.device
        )
        self.register_buffer("image_queue", empty)  # (Q, D)
        self.register_buffer("text_queue", empty.clone())
        missing = torch.full((settings.queue,), _NO_ITEM, device=weight.device)
        self.register_buffer("index_queue", missing)
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long, device=weight.device))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long, device=weight.device))

    @property
    def backbone(self) -> BlipForRetrieval:
        """The backbone, with the adapter's layers in it."""
        return backbone_of(self.model)

    def forward(
        self,
        pixel_values: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor,
        media_index: Tensor,
        uniforms: Tensor | None = None,
        counted_media: int | None = None,
    ) -> dict[str, Tensor]:
        """The losses of one batch of pairs.

        Args:
            pixel_values: (b, 3, H, W) normalised pictures or (b, T, 3, H, W) videos; each is
                encoded once for its B / b captions.
            input_ids, attention_mask: (B, L) captions, those of the first medium, of the second and
                so on.
            media_index: (B,) integers; pairs of the same picture are never each other's negatives.
            uniforms: (B, 2) numbers in [0, 1) that draw each pair's negative image and negative
                text; None takes the most similar ones.
            counted_media: how many of the media count, from the first; the others fill a process's
                last batch of an epoch up and are left out of losses, candidates and queue. None
                for all; to be given on all processes or none.

        Returns:
            scalars `loss`, `loss_itc`, `loss_itm`.
        """
        if counted_media is not None:
            together = len(media_index) // len(pixel_values)
            media_index = media_index.clone()
            media_index[counted_media * together :] = _NO_ITEM
        live = _by_pair(
            self.model(
                pixel_values=pixel_values, input_ids=input_ids, attention_mask=attention_mask
            )
        )
        every_index = gather(media_index)
        contrastive = self._contrastive(
            live.image_features,
            live.text_features,
            *self._targets(live, pixel_values, input_ids, attention_mask),
            media_index,
            every_index,
            filled=counted_media is not None,
        )
        images, texts, valid = self._negatives(live, media_index, every_index, uniforms)
        counted = _counted(media_index), _counted(every_index)
        matching = self._matching(live, input_ids, attention_mask, images, texts, valid, *counted)
        return {"loss": contrastive + matching, "loss_itc": contrastive, "loss_itm": matching}

    def _targets(
        self, live: RetrievalOutput, pixel_values: Tensor, ids: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Momentum features of the own rows, image and text; updates the moving average."""
        if self.momentum is None:
            return live.image_features.detach(), live.text_features.detach()
        if self.training:
            self.momentum.update(self.model)
        averaged = _by_pair(
            self.momentum.call(self.model, pixel_values, ids, mask, features_only=True)
        )
        return averaged.image_features, averaged.text_features

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
        given = (image, text, self.backbone.temperature.weight)
        image, text, temperature = (_leaf(tensor) for tensor in given)
        images = torch.cat([gather(image_m), self.image_queue])  # (G + Q, D)
        texts = torch.cat([gather(text_m), self.text_queue])
        indices = torch.cat([every_index, self.index_queue])
        absent = indices == _NO_ITEM
        if self.settings.count_empty_slots:
            absent[len(every_index) :] = False
        same = index[:, None] == indices[None]  # (B, G + Q)
        same = same.to(torch.float32 if self.settings.float32_targets else image.dtype)
        hard = same / same.sum(1, keepdim=True)
        alpha = self.settings.alpha * self._ramp(image.dtype)

        def logits(queries: Tensor, candidates: Tensor) -> Tensor:
            scores = queries @ candidates.T / temperature
            # finite, since a target of 0 times a logarithm of -inf would be no number
            return scores.masked_fill(absent, torch.finfo(scores.dtype).min / 2)

        soft_i2t = logits(image_m, texts).detach().softmax(1)
        soft_t2i = logits(text_m, images).detach().softmax(1)
        i2t = F.log_softmax(logits(image, texts), dim=1)
        t2i = F.log_softmax(logits(text, images), dim=1)
        counted = _counted(index).to(i2t.dtype)
        loss_i2t = -_mean((i2t * (alpha * soft_i2t + (1 - alpha) * hard)).sum(1), counted)
        loss_t2i = -_mean((t2i * (alpha * soft_t2i + (1 - alpha) * hard)).sum(1), counted)
        if self.training:
            fresh = len(every_index)
            self._enqueue(images[:fresh], texts[:fresh], every_index, filled=filled)
        return _settled((loss_i2t + loss_t2i) / 2, given, (image, text, temperature))

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
            counted = _counted(index)
            image, text, index = image[counted], text[counted], index[counted]
        kept = min(len(index), size)
        slots = (self.pointer + torch.arange(kept, device=index.device)) % size
        self.image_queue[slots] = image[-kept:].to(self.image_queue.dtype)
        self.text_queue[slots] = text[-kept:].to(self.text_queue.dtype)
        self.index_queue[slots] = index[-kept:]
        self.pointer.copy_((self.pointer + kept) % size)

    @torch.no_grad()
    def _negatives(
        self, live: RetrievalOutput, index: Tensor, every_index: Tensor, uniforms: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Rows (B,) of all processes: a negative image for each text, a negative text for each
        image; and (B,) whether the pair has any negative at all."""
        temperature = self.backbone.temperature.weight
        excluded = (index[:, None] == every_index[None]) | ~_counted(every_index)  # (B, G)
        valid = ~excluded.all(1)
        excluded = excluded & valid[:, None]  # keeps the softmax of a row without negatives finite
        t2i = live.text_features @ gather(live.image_features).T / temperature
        i2t = live.image_features @ gather(live.text_features).T / temperature
        columns = (None, None) if uniforms is None else uniforms.unbind(1)
        images = _draw(t2i.masked_fill(excluded, -torch.inf), columns[0])
        texts = _draw(i2t.masked_fill(excluded, -torch.inf), columns[1])
        return images, texts, valid

    def _matching(
        self,
        live: RetrievalOutput,
        ids: Tensor,
        mask: Tensor,
        images: Tensor,
        texts: Tensor,
        valid: Tensor,
        counted: Tensor,
        every_counted: Tensor,
    ) -> Tensor:
        """ITM over rows [true pairs, text with negative image, image with negative text]."""
        count = len(ids)
        own = torch.arange(count, device=ids.device)
        offset = rank() * count
        # Each image's own texts and their negative ones stand together and share the image's keys.
        rows = torch.cat([torch.stack([own + offset, texts], 1).flatten(), own + offset])
        videos = torch.cat([(own + offset).repeat_interleave(2), images])
        runs = self._runs(live, rows, videos)
        all_ids, all_mask = _gather_padded(ids, mask)
        fused = self.backbone.fuse(all_ids[rows], all_mask[rows], runs)
        shared, drawn = fused.split([2 * count, count])
        fused = torch.cat([shared[::2], drawn, shared[1::2]])
        fused = self._enhanced(fused, live.text_cls, count, every_counted)
        logits = self.backbone.itm_head(fused)
        labels = torch.zeros(len(rows), dtype=torch.long, device=ids.device)
        labels[:count] = 1
        losses = F.cross_entropy(logits, labels, reduction="none")
        drawn_too = counted & valid
        return _mean(losses, torch.cat([counted, drawn_too, drawn_too]).to(losses.dtype))

    def _runs(self, live: RetrievalOutput, texts: Tensor, media: Tensor) -> tuple[TextRun, ...]:
        """Keys for (3B,) texts: two for each own pair, then one for each medium drawn.

        Args:
            live: the own rows' states.
            texts, media: (3B,) pairs of all processes.
        """
        count = len(live.text_features)
        together = count // len(live.image_states)  # pairs of one medium stand together
        shared, drawn = 2 * count, media[2 * count :] // together
        every_state = gather_with_gradient(live.image_states)
        own = self.backbone.cross_keys(live.image_states)
        others = (
            own.select(drawn)
            if len(every_state) == len(live.image_states)
            else self.backbone.cross_keys(every_state[drawn])
        )
        if live.frame_features is not None and self.settings.frame_aware:
            every_text, every_frame = gather(live.text_features), gather(live.frame_features)
            similarity = torch.einsum("rd,rtd->rt", every_text[texts], every_frame[media])
            scale = frame_key_scale(similarity, live.image_states.shape[1])
            each = torch.arange(shared, device=texts.device) // (2 * together)
            own = own.select(each).scaled(scale[:shared])
            others = others.scaled(scale[shared:])
        return TextRun(shared, own), TextRun(count, others)

    def _enhanced(
        self, fused: Tensor, text_cls: Tensor, positives: int, every_counted: Tensor
    ) -> Tensor:
        """Informative context enhancement of the fused [CLS] (3B, d), in training only."""
        kind = self.settings.ice
        if kind == "off" or not self.training:
            return fused
        every_text = gather_with_gradient(text_cls)  # (G, d)
        if kind == "adaptive":
            scores = fused @ every_text.T / every_text.shape[1] ** 0.5
            scores = scores.masked_fill(~every_counted, -torch.inf)
            return fused + _CONTEXT_SHARE * (scores.softmax(1) @ every_text)
        among = every_counted[:, None].to(every_text.dtype)
        context = _CONTEXT_SHARE * ((every_text * among).sum(0) / among.sum())
        if kind == "symmetric":
            return fused + context
        return torch.cat([fused[:positives] + context, fused[positives:]])


def backbone_of(model: nn.Module) -> BlipForRetrieval:
    """The backbone itself, or the one inside a PEFT model."""
    inner = model.get_base_model() if isinstance(model, PeftModel) else model
    if not isinstance(inner, BlipForRetrieval):
        raise TypeError(f"{type(inner).__name__} is no retrieval backbone")
    return inner


def _by_pair(output: RetrievalOutput) -> RetrievalOutput:
    """Features of b media and B texts, those of the media repeated for each of their texts."""
    together = len(output.text_features) // len(output.image_features)
    frames = output.frame_features
    return output._replace(
        image_features=output.image_features.repeat_interleave(together, 0),
        frame_features=None if frames is None else frames.repeat_interleave(together, 0),
    )


def _counted(index: Tensor) -> Tensor:
    """Which pairs count, bool (B,)."""
    return index != _NO_ITEM


def _mean(rows: Tensor, weights: Tensor) -> Tensor:
    """This process's part of the weighted mean over all processes' rows.

    Processes' gradients are averaged, so that the parts' mean is the mean.

    Args:
        rows, weights: (B,).
    """
    return (rows * weights).sum() / gather(weights.sum()[None]).mean()


def _leaf(tensor: Tensor) -> Tensor:
    """The same numbers without their past, to take a gradient at."""
    return tensor.detach().requires_grad_(tensor.requires_grad)


def _settled(loss: Tensor, inputs: Sequence[Tensor], leaves: Sequence[Tensor]) -> Tensor:
    """A loss whose gradient at its inputs is taken now, so that all between them is let go.

    ITC reads the whole queue, which the backward pass would keep, but depends on few features.

    Args:
        loss: a scalar computed from the leaves.
        inputs: what it is a function of.
        leaves: `_leaf` of each input.
    """
    if not loss.requires_grad:
        return loss
    wanted = [
        (given, leaf) for given, leaf in zip(inputs, leaves, strict=True) if leaf.requires_grad
    ]
    gradients = torch.autograd.grad(loss, [leaf for _, leaf in wanted])
    settled = loss.detach()
    for (given, _), gradient in zip(wanted, gradients, strict=True):
        settled = settled + ((given - given.detach()) * gradient).sum()
    return settled


def _draw(logits: Tensor, uniforms: Tensor | None) -> Tensor:
    """One column a row from softmax(logits) by inverse transform; the largest without uniforms."""
    best = logits.argmax(1)
    if uniforms is None:
        return best
    cumulative = logits.double().softmax(1).cumsum(1)
    threshold = uniforms.double()[:, None] * cumulative[:, -1:]
    drawn = torch.searchsorted(cumulative, threshold, right=True)[:, 0]
    return torch.where(drawn < logits.shape[1], drawn, best)


def _gather_padded(ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Captions of all processes, padded to the longest of them."""
    if world_size() == 1:
        return ids, mask
    longest = gather(torch.tensor([ids.shape[1]], device=ids.device)).max()
    missing = int(longest) - ids.shape[1]
    return gather(F.pad(ids, (0, missing))), gather(F.pad(mask, (0, missing)))
