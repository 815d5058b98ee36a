"""One of two processes that share a batch; `python two_processes.py FOLDER` with RANK set.

Process 0 first computes alone what the two then compute together: training steps and an
evaluation. Results are left as FOLDER/alone.pt, FOLDER/0.pt and FOLDER/1.pt for
tests/objectives/test_two_processes.py.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from in_use import answerer_of, by_part, retriever_of
from PIL import Image
from tiny_blip import (
    COLOURS,
    SIZE,
    THINGS,
    batch,
    fill,
    tiny_config,
    tiny_model,
    tiny_tokenizer,
)
from tiny_models import two_tower
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from aurora_vl.backbones.blip.answer_model import BlipAnswerModel
from aurora_vl.backbones.blip.dual_encoder import BlipDualEncoder
from aurora_vl.backbones.blip.modeling import BlipForQuestionAnswering
from aurora_vl.backbones.clip.dual_encoder import ClipDualEncoder
from aurora_vl.backbones.clip.loading import with_logit_scale
from aurora_vl.data.records import CaptionedMedia, QuestionRecord
from aurora_vl.evaluation.answering import answer_questions
from aurora_vl.evaluation.retrieval import evaluate_retrieval
from aurora_vl.objectives.answering import AnsweringSettings, QuestionAnsweringTask
from aurora_vl.objectives.retrieval import RetrievalSettings, RetrievalTask

Case = tuple[str, str, float | None, int, bool, int]
CASES: list[Case] = [  # method, ice, momentum, queue, videos instead of pictures, captions together
    ("full", "off", 0.9, 21, False, 1),
    ("aurora", "symmetric", 0.9, 40, False, 1),
    ("aurora", "adaptive", None, 5, False, 1),
    ("full", "released", 0.9, 0, False, 1),
    ("aurora", "released", 0.9, 21, True, 1),
    ("aurora", "released", 0.9, 21, True, 2),
]
# Pictures of 16 pairs, 8 a process; some come twice in one process, some in both.
INDEX = [0, 1, 2, 2, 3, 4, 5, 6, 7, 8, 0, 9, 10, 11, 3, 11]
CAPTIONS = [2, 0, 1, 3, 1]  # of each picture
QUESTIONS = [2, 1, 1, 3]  # about each picture of a training step
STEPS = 4
# An epoch's last step: so many of process 1's 8 pairs count, the others repeat some to fill it up.
LAST = {2: 6, 3: 0}
RATE = 0.02


def pairs(step: int, rank: int | None, videos: bool, together: int) -> dict[str, Any]:
    """The 16 pairs of a step, or a process's 8, padded to their own longest caption.

    One process has those alone that count.
    """
    index = INDEX if together == 1 else [pair // together for pair in range(16)]
    made = batch(index, length=9, seed=step)
    made["pixel_values"] = made["pixel_values"][::together]
    if videos:
        first = made["pixel_values"]
        made["pixel_values"] = torch.stack([first, first.flip(-1), -first], 1)
    made["attention_mask"][:8, 6:] = 0  # the captions of process 0 are shorter
    made["input_ids"][:8, 6:] = 0
    counted = LAST.get(step, 8)
    if rank is None:
        media = (8 + counted) // together
        counts = {"pixel_values": media}
        return by_part({name: v[: counts.get(name, 8 + counted)] for name, v in made.items()})
    made = {name: value.chunk(2)[rank] for name, value in made.items()}
    longest = int(made["attention_mask"].sum(1).max())
    for name in ("input_ids", "attention_mask"):
        made[name] = made[name][:, :longest]
    if step not in LAST:
        return by_part(made)
    return {**by_part(made), "counted_media": (counted if rank else 8) // together}


def run(case: Case, rank: int | None) -> dict[str, Any]:
    """Train some steps; the losses and gradients of each and the state at the end."""
    method, ice, momentum, queue, videos, together = case
    settings = RetrievalSettings(queue=queue, momentum=momentum, ramp_steps=2, ice=ice)  # type: ignore[arg-type]
    task = RetrievalTask(BlipDualEncoder(tiny_model(method)), settings).train()
    return steps_of(task, partial(pairs, videos=videos, together=together), rank)


def two_tower_pairs(step: int, rank: int | None) -> dict[str, Any]:
    """As `pairs`, of pictures with captions of one length that end as CLIP expects it."""
    made = batch(INDEX, length=9, seed=step, uniforms=False)
    made["attention_mask"][:] = 1
    made["input_ids"][made["input_ids"] < 4] = 4
    made["input_ids"][:, -1] = 3
    counted = LAST.get(step, 8)
    if rank is None:
        return by_part({name: value[: 8 + counted] for name, value in made.items()})
    own = by_part({name: value.chunk(2)[rank] for name, value in made.items()})
    return {**own, "counted_media": counted if rank else 8} if step in LAST else own


def two_tower_run(kind: str, rank: int | None) -> dict[str, Any]:
    """As `run`, all parameters and the logits' scale and bias trained."""
    model = with_logit_scale(two_tower(kind, side=SIZE)).double()
    settings = RetrievalSettings(queue=21, momentum=0.9, ramp_steps=2)
    task = RetrievalTask(ClipDualEncoder(model), settings).train()
    return steps_of(task, two_tower_pairs, rank)


def steps_of(
    task: RetrievalTask, pairs_of: Callable[[int, int | None], dict[str, Any]], rank: int | None
) -> dict[str, Any]:
    """Losses and gradients of some steps and the state at the end."""
    module: nn.Module = task
    if rank is not None:
        module = DistributedDataParallel(
            task, broadcast_buffers=False, find_unused_parameters=False
        )
    steps = []
    for step in range(STEPS):
        losses = module(**pairs_of(step, rank))
        losses["loss"].backward()
        gradients = {n: p.grad.clone() for n, p in task.named_parameters() if p.requires_grad}
        with torch.no_grad():
            for parameter in task.parameters():
                if parameter.requires_grad:
                    parameter -= RATE * parameter.grad
                    parameter.grad = None
        steps.append(({n: v.detach() for n, v in losses.items()}, gradients))
    return {"steps": steps, "state": task.state_dict()}


def evaluated(folder: Path) -> dict[str, Any]:
    """Scores of a gallery of five pictures with seven captions, no two alike.

    Alike ones have the same cosine but for rounding, which batches of other sizes do otherwise, so
    that it depended on the machine which of them was matched.
    """
    records = [
        CaptionedMedia(
            str(number),
            folder / f"{number}.png",
            "image",
            tuple(
                f"{'the' if number > 3 else 'a'} {COLOURS[number % 4]} {thing}"
                for thing in THINGS[:count]
            ),
        )
        for number, count in enumerate(CAPTIONS)
    ]
    retriever = retriever_of(tiny_model("aurora"), tiny_tokenizer(), batch_size=2)
    result = evaluate_retrieval(retriever, records, rerank=2)
    scores = result.media_to_text, result.text_to_media
    return {"scores": scores, "metrics": result.metrics}


def answering_model() -> Any:
    """A question answering backbone."""
    model = BlipForQuestionAnswering(tiny_config())
    fill(model)
    return model.double()


def question_step(rank: int | None, counted: int = 4) -> dict[str, Any]:
    """Loss and gradients of four pictures with seven questions, or of a process's two pictures.

    One process has the first pictures alone, those that count.
    """
    task = QuestionAnsweringTask(BlipAnswerModel(answering_model()), AnsweringSettings()).train()
    module = task if rank is None else DistributedDataParallel(task, find_unused_parameters=True)
    media = slice(counted) if rank is None else slice(2 * rank, 2 * rank + 2)
    own = {} if rank is None or counted == 4 else {"counted_media": counted - 2 if rank else 2}
    first = 0 if rank is None else sum(QUESTIONS[: 2 * rank])
    rows = slice(first, first + sum(QUESTIONS[media]))
    made = batch(list(range(7)), length=6, seed=5)
    pixels = made["pixel_values"][: len(QUESTIONS)][media].double()
    answers = torch.tensor([[4, 7 + n, 3] for n in range(7)])[rows]
    loss = module(
        media={"pixel_values": pixels},
        questions={name: made[name][rows] for name in ("input_ids", "attention_mask")},
        answers={"input_ids": answers, "attention_mask": torch.ones_like(answers)},
        answer_counts=torch.ones(len(answers), dtype=torch.long),
        answer_weights=torch.ones(len(answers), dtype=torch.float64),
        question_counts=torch.tensor(QUESTIONS[media]),
        **own,
    )["loss"]
    loss.backward()
    gradients = {n: p.grad for n, p in task.named_parameters() if p.grad is not None}
    return {"loss": loss.detach(), "gradients": gradients}


def answered(folder: Path) -> list[Any]:
    """Answers to seven questions about five pictures, of which one has none."""
    records = [
        QuestionRecord(
            f"{number}-{thing}",
            str(number),
            folder / f"{number}.png",
            "image",
            f"the {thing} on the {COLOURS[number % 4]} box",
            (),
        )
        for number, count in enumerate(CAPTIONS)
        for thing in THINGS[:count]
    ]
    answerer = answerer_of(
        answering_model(),
        tiny_tokenizer(),
        batch_size=2,
        inference="rank",
        answers=(*THINGS, "a dog", "the big cat"),
        top=4,
    )
    found = answer_questions(answerer, records[::-1])
    return [(str(answer), answer.log_likelihood) for answer in found]


def computed(rank: int | None, folder: Path) -> dict[str, Any]:
    """All cases of training, the evaluation, and both of questions."""
    return {
        "training": [
            *(run(case, rank) for case in CASES),
            *(two_tower_run(kind, rank) for kind in ("clip", "siglip")),
        ],
        "evaluation": evaluated(folder),
        "question steps": [question_step(rank, counted) for counted in (4, 3, 2)],
        "answers": answered(folder),
    }


def main() -> None:
    """Run every case and leave the results."""
    folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])
    torch.set_num_threads(1)
    if rank == 0:
        rng = np.random.default_rng(0)
        for number in range(len(CAPTIONS)):
            picture = Image.fromarray(rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8))
            picture.save(folder / f"{number}.png")
        torch.save(computed(None, folder), folder / "alone.pt")
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.save(computed(rank, folder), folder / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
