"""Every group of a golden file, computed by our own models.

A group's function gives its tensors by the names they have in the file. They are computed from the
parameters that the fill rule draws and from the file's inputs, never from its stored results.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn

import golden_model as golden
from aurora_vl.modeling.blip import BlipForQuestionAnswering, BlipForRetrieval
from aurora_vl.tasks.question_answering import (
    QuestionAnsweringTask,
    answer_losses,
    answering_backbone,
    rank_answers,
)
from aurora_vl.tasks.retrieval import RetrievalTask, backbone_of
from aurora_vl.tasks.variants import switches
from aurora_vl.tasks.video import frame_key_scale
from golden_model import Fill, Part

Tensors = dict[str, Tensor]
RELEASED = switches("released")
ALPHA, MOMENTUM, QUEUE = 0.4, 0.995, 8
TOP_ANSWERS, ANSWER_LENGTH = 3, 10
LEARNING_RATE, WEIGHT_DECAY, STEPS = 1e-3, 0.05, 3


class Golden:
    """The models and inputs that the groups are computed from.

    Args:
        fill: draws the parameters.
        stored: the file's tensors; only `input/*` are read.

    Attributes:
        used: names of the inputs that were read.
    """

    def __init__(self, fill: Fill, stored: Mapping[str, Tensor]) -> None:
        self.fill = fill
        self.used: set[str] = set()
        self._stored = stored

    def input(self, name: str) -> Tensor:
        """A stored input, floating point ones in float64."""
        key = f"input/{name}"
        self.used.add(key)
        value = self._stored[key]
        return value.double() if value.is_floating_point() else value

    @cached_property
    def retrieval(self) -> PeftModel:
        """The retrieval model; groups leave it as they find it."""
        return golden.retrieval_model(self.fill, RELEASED)

    @cached_property
    def answering(self) -> PeftModel:
        """The question answering model; groups leave it as they find it."""
        return golden.answering_model(self.fill, RELEASED)

    @property
    def backbone(self) -> BlipForRetrieval:
        """The retrieval backbone with the adapter's layers."""
        return backbone_of(self.retrieval)

    @property
    def answers(self) -> BlipForQuestionAnswering:
        """The question answering backbone with the adapter's layers."""
        return answering_backbone(self.answering)

    @property
    def questions(self) -> tuple[Tensor, Tensor]:
        """Ids and mask of the questions."""
        return self.input("vqa_question_ids"), self.input("vqa_question_mask")


@contextmanager
def outputs_of(*modules: nn.Module) -> Iterator[list[Tensor]]:
    """A list that receives what the modules return inside the block, in the order of the calls."""
    found: list[Tensor] = []
    handles = [m.register_forward_hook(lambda _m, _i, out: found.append(out)) for m in modules]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def without_updates(model: PeftModel) -> Iterator[None]:
    """Every update zero inside the block, the query gates in force."""
    factors = [p for name, p in model.named_parameters() if ".aurora_V_" in name]
    kept = [factor.detach().clone() for factor in factors]
    with torch.no_grad():
        for factor in factors:
            factor.zero_()
        yield
        for factor, value in zip(factors, kept, strict=True):
            factor.copy_(value)


# ------------------------------------------------------------------------------------ encoders


def fill_check(g: Golden, names: list[str]) -> Tensors:
    """The first numbers drawn for some names."""
    return {name: torch.from_numpy(g.fill.normal(name, 8)) for name in names}


@torch.no_grad()
def vit(g: Golden, _names: list[str]) -> Tensors:
    """The vision encoder, with and without the adapter."""
    vision, images = g.backbone.vision_model, g.input("images")
    with outputs_of(*vision.encoder.layers) as blocks:
        last = vision(images)
    with g.retrieval.disable_adapter():
        plain = vision(images)
    found = {f"block{i}_out": block for i, block in enumerate(blocks)}
    return {**found, "last_hidden_state": last, "last_hidden_state_nocp": plain}


@torch.no_grad()
def text(g: Golden, _names: list[str]) -> Tensors:
    """The text encoder by itself, with and without the adapter."""
    encoder, given = g.backbone.text_encoder, (g.input("text_ids"), g.input("text_mask"))
    with outputs_of(encoder.encoder.layer[0]) as layers:
        last = encoder(*given)
    with g.retrieval.disable_adapter():
        plain = encoder(*given)
    return {"layer0_out": layers[0], "last_hidden_state": last, "last_hidden_state_nocp": plain}


@torch.no_grad()
def multimodal(g: Golden, _names: list[str]) -> Tensors:
    """The text encoder with pictures: everything, the query gates alone, neither."""
    encoder, images = g.backbone.text_encoder, g.input("images")
    given = (g.input("enc_text_ids"), g.input("text_mask"))

    def fused() -> Tensor:
        return encoder(*given, encoder.cross_keys(g.backbone.vision_model(images)))

    with outputs_of(encoder.encoder.layer[0]) as layers:
        last = fused()
    with without_updates(g.retrieval):
        gates = fused()
    with g.retrieval.disable_adapter():
        plain = fused()
    return {
        "layer0_out": layers[0],
        "last_hidden_state": last,
        "gqt_only_last_hidden_state": gates,
        "last_hidden_state_nocp_nogqt": plain,
    }


@torch.no_grad()
def frame_aware(g: Golden, _names: list[str]) -> Tensors:
    """Fusion with videos, keys scaled by given weights and not."""
    encoder, given = g.backbone.text_encoder, (g.input("enc_text_ids"), g.input("text_mask"))
    states = g.backbone.vision_model(g.input("frames"))
    keys = encoder.cross_keys(states)
    scale = frame_key_scale(g.input("frame_aware_attention_weight"), states.shape[1])
    return {
        "video_embeds": states,
        "last_hidden_state": encoder(*given, keys.scaled(scale)),
        "last_hidden_state_without_weight": encoder(*given, keys),
    }


@torch.no_grad()
def itc(g: Golden, _names: list[str]) -> Tensors:
    """Features of pictures, videos, frames and texts."""
    backbone, frames = g.backbone, g.input("frames")
    states, video = backbone.encode_image(frames)
    return {
        "image_feat": backbone.encode_image(g.input("images"))[1],
        "video_feat": video,
        "frame_feat": backbone.frame_features(states, frames.shape[1]),
        "text_feat": backbone.encode_text(g.input("text_ids"), g.input("text_mask"))[1],
    }


@torch.no_grad()
def itm(g: Golden, _names: list[str]) -> Tensors:
    """Matching logits at inference."""
    keys = g.backbone.cross_keys(g.backbone.encode_image(g.input("images"))[0])
    return {"logits": g.backbone.match(g.input("text_ids"), g.input("text_mask"), keys)}


# ----------------------------------------------------------------------------------- retrieval


class RecordingTask(RetrievalTask):
    """A retrieval task that remembers which negatives it drew."""

    drawn: tuple[Tensor, Tensor]

    def _negatives(self, *args: Any) -> tuple[Tensor, Tensor, Tensor]:
        images, texts, valid = super()._negatives(*args)
        self.drawn = images, texts
        return images, texts, valid


def retrieval_task(g: Golden, model: PeftModel, *, float32_targets: bool = False) -> RecordingTask:
    """The released task with the file's queue, in training mode (nothing drops)."""
    chosen = switches("released", float32_targets=float32_targets)
    settings = chosen.retrieval(model, queue=QUEUE, momentum=MOMENTUM, alpha=ALPHA, ramp_steps=0)
    task = RecordingTask(model, settings).train()
    task.image_queue.copy_(g.input("image_queue").T)
    task.text_queue.copy_(g.input("text_queue").T)
    return task


def momentum_name(reference: str) -> str:
    """The reference's name of an array's momentum copy."""
    return re.sub(r"^(visual_encoder|text_encoder|vision_proj)(?=\.)", r"\1_m", reference)


def draw_momentum(g: Golden, task: RetrievalTask) -> None:
    """Fill the momentum copy by its own names, the matching head (which has none there) aside."""
    assert task.momentum is not None
    for name, average in task.momentum.values().items():
        part = Part.of(name)
        if momentum_name(part.reference) != part.reference:
            average.copy_(part.draw(g.fill, average.shape, momentum_name(part.reference)))


def retrieval_step(
    g: Golden, task: RecordingTask, pixels: Tensor, index: Tensor
) -> tuple[dict[str, Tensor], Tensors]:
    """The losses of one batch, and what the file keeps of it."""
    with outputs_of(task.backbone.itm_head) as logits:
        losses = task(pixels, g.input("train_text_ids"), g.input("train_text_mask"), index)
    found = {
        "loss_ita": losses["loss_itc"],
        "loss_itm": losses["loss_itm"],
        "itm_logits": logits[0],
        "neg_image_idx": task.drawn[0],
        "neg_text_idx": task.drawn[1],
        "image_queue_after": task.image_queue.T,
        "text_queue_after": task.text_queue.T,
        "idx_queue_after": task.index_queue[None],
        "ptr_after": task.pointer[None],
    }
    return losses, found


def retrieval_case(
    g: Golden,
    pixels: str = "train_images",
    *,
    float32_targets: bool = False,
    drawn_momentum: bool = False,
    repeated: bool = False,
) -> Tensors:
    """One batch with its gradients.

    Args:
        g: models and inputs.
        pixels: name of the input.
        float32_targets: round the targets, as the code that was released does.
        drawn_momentum: the momentum copy differs from the model.
        repeated: the third pair has the first one's medium.
    """
    task = retrieval_task(g, g.retrieval, float32_targets=float32_targets)
    if drawn_momentum:
        draw_momentum(g, task)
    index = g.input("train_idx").clone()
    if repeated:
        index[2] = index[0]
    losses, found = retrieval_step(g, task, g.input(pixels), index)
    found.update(gradients(losses["loss"], g.retrieval))
    assert task.momentum is not None
    averages = golden.assembled(task.momentum.values())
    return found | {f"momentum_after/{momentum_name(n)}": v for n, v in averages.items()}


def gradients(loss: Tensor, model: PeftModel) -> Tensors:
    """The gradient of every trained array, and its norm."""
    trained = golden.trained(model)
    found = torch.autograd.grad(loss, list(trained.values()))
    arrays = golden.assembled(dict(zip(trained, found, strict=True)))
    norms = {f"grad_norm/{name}": array.norm() for name, array in arrays.items()}
    return {f"grad/{name}": array for name, array in arrays.items()} | norms


def train3(g: Golden, _names: list[str]) -> Tensors:
    """Three steps of AdamW on the same pairs under new ids."""
    model = copy.deepcopy(g.retrieval)
    task = retrieval_task(g, model)
    optimizer = torch.optim.AdamW(
        golden.trained(model).values(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY
    )
    values, negatives = [], []
    for step in range(STEPS):
        index = g.input("train_idx") + step * len(g.input("train_idx"))
        losses, found = retrieval_step(g, task, g.input("train_images"), index)
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        values.append(torch.stack([found["loss_ita"], found["loss_itm"]]))
        negatives.append(torch.cat([found["neg_image_idx"], found["neg_text_idx"]]))
    final = golden.assembled(golden.trained(model))
    return {
        "losses": torch.stack(values),
        "neg_idx": torch.stack(negatives),
        **{f"final/{name}": array for name, array in final.items()},
    }


# -------------------------------------------------------------------------- question answering


def vqa_loss(g: Golden, pixels: str) -> Tensor:
    """The released loss of the questions with their answers."""
    task = QuestionAnsweringTask(g.answering, RELEASED.answering()).train()
    return task(
        g.input(pixels),
        *g.questions,
        g.input("vqa_answer_ids"),
        g.input("vqa_answer_mask"),
        g.input("vqa_n"),
        g.input("vqa_weights"),
    )["loss"]


def vqa(g: Golden, _names: list[str]) -> Tensors:
    """States, logits, loss and gradients, ranking and generation."""
    loss = vqa_loss(g, "images")
    found = {"loss": loss, **gradients(loss, g.answering)}
    ids, mask = g.questions
    with torch.no_grad():
        states = g.answers.encode_question(g.input("images"), ids, mask)
        keys = g.answers.question_keys(states, mask)
        answers = g.input("vqa_answer_ids"), g.input("vqa_answer_mask")
        owners = torch.arange(len(states)).repeat_interleave(g.input("vqa_n"))
        logits = g.answers.answer_logits(*answers, keys.select(owners))
        first = g.answers.answer_logits(ids.new_full((len(ids), 1), golden.DEC), None, keys)[:, 0]
    found |= {
        "question_states": states,
        "answer_logits": logits,
        "per_answer_loss": answer_losses(logits, *answers),
        "rank_first_token_logits": first,
        "generate_ids_as_released_enc_mask_ones": g.answers.generate(
            g.input("images"),
            ids,
            mask,
            max_new_tokens=ANSWER_LENGTH - 1,  # the file's length counts [DEC]
            attend_padding=RELEASED.attend_padding,
        ),
    }
    candidates = g.input("vqa_candidate_ids"), g.input("vqa_candidate_mask")
    ranked = rank_answers(g.answers, keys, *candidates, TOP_ANSWERS)
    # The file has the candidates in the order of their first tokens.
    chances = first.softmax(1)[:, candidates[0][:, 1]].gather(1, ranked.candidates)
    chances, order = chances.sort(dim=1, descending=True)
    return found | {
        "rank_topk_probs": chances,
        "rank_topk_ids": ranked.candidates.gather(1, order),
        "rank_log_probs_sum": ranked.log_likelihoods.gather(1, order),
        f"rank_max_ids_k{TOP_ANSWERS}": ranked.candidates[:, 0],
    }


def vqa_video(g: Golden, _names: list[str]) -> Tensors:
    """The loss on videos, divided by the frames too."""
    return {"loss_as_released": vqa_loss(g, "frames")}


# ------------------------------------------------------------------------------ weight updates


@torch.no_grad()
def deltaw(g: Golden, _names: list[str]) -> Tensors:
    """Every map's change of its weight: a part of it, its norm and two products."""
    found = {}
    for name, delta in _deltas(g.backbone):
        steps = [48 if size == 4 * golden.WIDTH else 16 for size in delta.shape]
        out, inner = (
            torch.from_numpy(g.fill.normal(f"probe.{side}", size)).double()
            for side, size in zip(("out", "in"), delta.shape, strict=True)
        )
        found[f"{name}/sub"] = delta[:: steps[0], :: steps[1]]
        found[f"{name}/fro"] = delta.norm()
        found[f"{name}/right"] = delta @ inner
        found[f"{name}/left"] = out @ delta
    return found


def _deltas(backbone: BlipForRetrieval) -> Iterator[tuple[str, Tensor]]:
    for i, layer in enumerate(backbone.vision_model.encoder.layers):
        fused: Any = layer.self_attn.qkv
        for name, part in zip("qkv", fused.get_delta_weight("default").chunk(3), strict=True):
            yield f"vit.{i}.attn.{name}", part
        yield f"vit.{i}.attn.proj", layer.self_attn.projection.get_delta_weight("default")
        yield f"vit.{i}.mlp.fc1", layer.mlp.fc1.get_delta_weight("default")
        yield f"vit.{i}.mlp.fc2", layer.mlp.fc2.get_delta_weight("default")
    for i, layer in enumerate(backbone.text_encoder.encoder.layer):
        for kind, maps in (("self", layer.attention.self), ("cross", layer.crossattention.self)):
            for name in ("query", "key", "value"):
                delta = getattr(maps, name).get_delta_weight("default")
                yield f"text.{i}.{kind}.{name[0]}", delta


GROUPS: dict[str, Callable[[Golden, list[str]], Tensors]] = {
    "fill_check": fill_check,
    "deltaw": deltaw,
    "vit": vit,
    "text": text,
    "multimodal": multimodal,
    "frame_aware": frame_aware,
    "itc": itc,
    "itm": itm,
    "retrieval_a": lambda g, _: retrieval_case(g),
    "retrieval_a_f32targets": lambda g, _: retrieval_case(g, float32_targets=True),
    "retrieval_b": lambda g, _: retrieval_case(g, drawn_momentum=True),
    "retrieval_dupidx": lambda g, _: retrieval_case(g, repeated=True),
    "retrieval_video": lambda g, _: retrieval_case(g, "train_videos"),
    "train3": train3,
    "vqa": vqa,
    "vqa_video": vqa_video,
}
