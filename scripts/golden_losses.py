"""The groups of a golden file that hold losses: retrieval batches, training, question answering."""

from __future__ import annotations

import copy
import re
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor

from aurora_vl.backbones.base import TextInputs
from aurora_vl.backbones.blip.answer_model import BlipAnswerModel
from aurora_vl.backbones.blip.dual_encoder import BlipDualEncoder, retrieval_backbone
from aurora_vl.backbones.likelihood import answer_losses
from aurora_vl.objectives.answering import QuestionAnsweringTask
from aurora_vl.objectives.matching import Negatives
from aurora_vl.objectives.presets import switches
from aurora_vl.objectives.retrieval import RetrievalTask
from golden_model import DEC, RELEASED, Golden, Part, assembled, outputs_of, trained

Tensors = dict[str, Tensor]
ALPHA, MOMENTUM, QUEUE = 0.4, 0.995, 8
TOP_ANSWERS, ANSWER_LENGTH = 3, 10
LEARNING_RATE, WEIGHT_DECAY, STEPS = 1e-3, 0.05, 3


class RecordingTask(RetrievalTask):
    """A retrieval task that remembers which negatives it drew."""

    drawn: tuple[Tensor, Tensor]

    def _negatives(self, *args: Any, **kwargs: Any) -> Negatives:
        negatives = super()._negatives(*args, **kwargs)
        self.drawn = negatives.images, negatives.texts
        return negatives


def retrieval_task(g: Golden, model: PeftModel, *, float32_targets: bool = False) -> RecordingTask:
    """The released task with the file's queue, in training mode (nothing drops)."""
    chosen = switches("released", float32_targets=float32_targets)
    settings = chosen.retrieval(queue=QUEUE, momentum=MOMENTUM, alpha=ALPHA, ramp_steps=0)
    task = RecordingTask(BlipDualEncoder(model), settings).train()
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
    texts = {
        "input_ids": g.input("train_text_ids"),
        "attention_mask": g.input("train_text_mask"),
    }
    with outputs_of(retrieval_backbone(task.model).itm_head) as logits:
        losses = task({"pixel_values": pixels}, texts, index)
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
    averages = assembled(task.momentum.values())
    return found | {f"momentum_after/{momentum_name(n)}": v for n, v in averages.items()}


def gradients(loss: Tensor, model: PeftModel) -> Tensors:
    """The gradient of every trained array, and its norm."""
    parameters = trained(model)
    found = torch.autograd.grad(loss, list(parameters.values()))
    arrays = assembled(dict(zip(parameters, found, strict=True)))
    norms = {f"grad_norm/{name}": array.norm() for name, array in arrays.items()}
    return {f"grad/{name}": array for name, array in arrays.items()} | norms


def train3(g: Golden, _names: list[str]) -> Tensors:
    """Three steps of AdamW on the same pairs under new ids."""
    model = copy.deepcopy(g.retrieval)
    task = retrieval_task(g, model)
    optimizer = torch.optim.AdamW(
        trained(model).values(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY
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
    final = assembled(trained(model))
    return {
        "losses": torch.stack(values),
        "neg_idx": torch.stack(negatives),
        **{f"final/{name}": array for name, array in final.items()},
    }


def vqa_loss(g: Golden, pixels: str) -> Tensor:
    """The released loss of the questions with their answers."""
    media = g.input(pixels)
    frames = media.shape[1] if media.ndim == 5 else 1
    task = QuestionAnsweringTask(BlipAnswerModel(g.answering), RELEASED.answering(frames)).train()
    ids, mask = g.questions
    return task(
        {"pixel_values": media},
        {"input_ids": ids, "attention_mask": mask},
        {
            "input_ids": g.input("vqa_answer_ids"),
            "attention_mask": g.input("vqa_answer_mask"),
        },
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
        first = g.answers.answer_logits(ids.new_full((len(ids), 1), DEC), None, keys)[:, 0]
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
    texts = TextInputs(input_ids=candidates[0], attention_mask=candidates[1])
    ranked = BlipAnswerModel(g.answering).rank(keys, texts, TOP_ANSWERS)
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
