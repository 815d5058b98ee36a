"""Pre-train the mini foundation on the generated world and write `assets/mini`.

A small BLIP learns from fresh scenes of the first drawing style and the first phrasing: contrastive
and matching losses on captions, the language-model loss on answers to questions, and, so that
patches know what they show, the kind, colour, size and place of the object that covers each patch
(the linear head is thrown away). Questions about kinds, places and relations, learnt last, are
asked first. One scene in six is a frame of a video. Scenes whose objects belong to
the validation and test splits are never shown. With --decoder-only the answer decoder alone goes on
learning and everything else stays as it was. The commands of the shipped weights stand in their
model card, assets/mini/README.md.

    python scripts/pretrain_mini.py --steps 3500 --out src/aurora_vl/assets/mini
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset
from transformers import BlipConfig, PreTrainedTokenizerFast

from aurora_vl.backbones.blip.modeling import BlipForQuestionAnswering, BlipForRetrieval
from aurora_vl.backbones.blip.preparation import IMAGE_MEAN, IMAGE_STD
from aurora_vl.data.synthetic.drawing import draw, object_coverage
from aurora_vl.data.synthetic.grammar import caption
from aurora_vl.data.synthetic.pictograms import KINDS
from aurora_vl.data.synthetic.questions import questions
from aurora_vl.data.synthetic.scenes import (
    COLORS,
    SIZES,
    Scene,
    place,
    sample_moving_scene,
    sample_scene,
)
from aurora_vl.data.synthetic.wordpiece import ENCODER_TOKEN, SPECIAL_TOKENS, build_tokenizer
from aurora_vl.data.transforms import to_model_input

HELD_OUT_QUESTIONS = 2  # per picture
PLACES = tuple(place((column, row)) for row in range(3) for column in range(3))
LABELS = (KINDS, COLORS, SIZES, PLACES)
LEARNT_LAST = ("kind", "place", "relation")
PATCH = 8
COVERED = 0.25  # share of a patch from which an object names it
MOVING = 1 / 6  # share of frames of videos


def mini_config(vocabulary: int) -> BlipConfig:
    """Width 128, 4 vision, 4 text and 4 decoder layers, 64 px in patches of 8."""
    text = {
        "vocab_size": vocabulary,
        "hidden_size": 128,
        "encoder_hidden_size": 128,
        "intermediate_size": 512,
        "projection_dim": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "pad_token_id": 0,
        "bos_token_id": 5,
        "sep_token_id": 3,
        "eos_token_id": 3,
        "enc_token_id": 6,
    }
    vision = {
        "hidden_size": 128,
        "intermediate_size": 512,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "image_size": 64,
        "patch_size": 8,
        "layer_norm_eps": 1e-6,
        "projection_dim": 64,
    }
    return BlipConfig(
        text_config=text, vision_config=vision, projection_dim=64, image_text_hidden_size=64
    )


class FreshScenes(IterableDataset[dict[str, Any]]):
    """Endless batches of new scenes; batch `n` depends on (seed, n) alone."""

    def __init__(self, seed: int, batch: int, steps: int, asked: int) -> None:
        self.seed, self.batch, self.steps, self.asked = seed, batch, steps, asked

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for step in range(self.steps):
            rng = np.random.default_rng([self.seed, step])
            yield make_batch(rng, self.batch, "train", self.asked, hard_first=True)


def make_batch(
    rng: np.random.Generator,
    size: int,
    split: Any,
    asked_each: int,
    moving: float = MOVING,
    hard_first: bool = False,
) -> Any:
    """Pictures uint8 (B, 3, 64, 64), a caption and `asked_each` questions each."""
    pixels, labels, captions, asked, answers = [], [], [], [], []
    while len(pixels) < size:
        scene = (sample_moving_scene if rng.random() < moving else sample_scene)(rng, split)
        found = questions(scene, rng, 2 * asked_each if hard_first else asked_each)
        if hard_first:
            found = sorted(found, key=lambda q: q.question_type not in LEARNT_LAST)[:asked_each]
        if len(found) < asked_each:
            continue
        moment = rng.uniform(0.25, 0.95)
        pixels.append(draw(scene, "flat", moment=moment).transpose(2, 0, 1))
        labels.append(patch_labels(scene, moment))
        captions.append(caption(scene, rng, "plain"))
        asked += [q.question for q in found]
        answers += [q.answer for q in found]
    return {
        "pixels": torch.from_numpy(np.stack(pixels)),
        "labels": torch.from_numpy(np.stack(labels)),
        "captions": captions,
        "questions": asked,
        "answers": answers,
    }


def patch_labels(scene: Scene, moment: float) -> np.ndarray:
    """(64, 4) indices of kind, colour, size and place of what covers each patch, -100 for none."""
    side = 64 // PATCH
    labels = np.full((side, side, len(LABELS)), -100)
    rows, columns = np.indices((side, side)) * 3 // side
    for group, coverage in object_coverage(scene, moment=moment):
        covered = coverage.reshape(side, PATCH, side, PATCH).mean((1, 3)) >= COVERED
        named = (group.kind, group.color, group.size)
        values = [known.index(name) for known, name in zip(LABELS[:3], named, strict=True)]
        labels[covered, :3] = values
        labels[covered, 3] = (3 * rows + columns)[covered]
    return labels.reshape(-1, len(LABELS))


def normalised(pixels: Tensor) -> Tensor:
    """Pictures uint8 (B, 3, 64, 64) as the model takes them."""
    return to_model_input(pixels, IMAGE_MEAN, IMAGE_STD)


@torch.no_grad()
def start_values(model: Pretraining) -> None:
    """Starting values for a narrow model.

    BLIP's 0.02 is meant for width 768; at 128 it leaves positions and residual branches too weak to
    be noticed. Maps start at 1 / sqrt(inputs), positions of patches as two-dimensional sines.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.1)
            if module.padding_idx is not None:
                module.weight[module.padding_idx].zero_()
    positions = model.retrieval.vision_model.embeddings.position_embedding  # (1, 1 + 64, d)
    side = round((positions.shape[1] - 1) ** 0.5)
    rates = 2.0 ** torch.linspace(0, -4, positions.shape[2] // 4)  # radians a patch
    row, column = (
        a.reshape(-1, 1) * rates for a in torch.meshgrid(*[torch.arange(side)] * 2, indexing="ij")
    )
    positions[0, 1:] = torch.cat([row.sin(), row.cos(), column.sin(), column.cos()], 1)


class Pretraining(nn.Module):
    """The retrieval model and the question answerer over the same vision and text encoders."""

    def __init__(self, config: BlipConfig, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__()
        self.retrieval = BlipForRetrieval(config)
        self.answering = BlipForQuestionAnswering(config)
        self.answering.vision_model = self.retrieval.vision_model
        self.answering.text_encoder = self.retrieval.text_encoder
        self.patch_head = nn.Linear(config.vision_config.hidden_size, sum(map(len, LABELS)))
        self.tokenizer = tokenizer
        start_values(self)

    def start_from(self, folder: Path) -> None:
        """Take over the weights and the temperature of an earlier run."""
        from safetensors.torch import load_file

        weights = {
            name: value.float() for name, value in load_file(folder / "model.safetensors").items()
        }
        for part in (self.retrieval, self.answering):
            left = part.load_state_dict(weights, strict=False).missing_keys
            unknown = [n for n in left if "temperature" not in n and ".decoder." not in n]
            if unknown:
                raise ValueError(f"{folder} lacks {unknown[:3]}")
        value = json.loads((folder / "config.json").read_text())["contrastive_temperature"]
        self.retrieval.temperature.weight.data.fill_(value)

    def ids(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Padded token ids and mask of the texts."""
        batch = self.tokenizer(texts, padding=True, return_tensors="pt")
        return batch["input_ids"], batch["attention_mask"]

    def forward(self, batch: dict[str, Any]) -> tuple[Tensor, ...]:
        """The contrastive, matching, answer and patch losses of one batch."""
        states, image_features = self.retrieval.encode_image(normalised(batch["pixels"]))
        ids, mask = self.ids(batch["captions"])
        _, text_features = self.retrieval.encode_text(ids, mask)
        temperature = self.retrieval.temperature.weight.clamp(0.01, 0.5)
        similarity = image_features @ text_features.T / temperature
        target = torch.arange(len(ids))
        contrastive = F.cross_entropy(similarity, target) + F.cross_entropy(similarity.T, target)
        matching = self.matching(states, ids, mask, similarity.detach())
        patches = self.patch_loss(states, batch["labels"])
        return contrastive / 2, matching, self.answer_loss(states, batch), patches

    def decoder_loss(self, batch: dict[str, Any]) -> Tensor:
        """The answer loss by itself."""
        return self.answer_loss(self.retrieval.vision_model(normalised(batch["pixels"])), batch)

    def patch_loss(self, states: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy of the covered patches' kind, colour, size and place."""
        logits = self.patch_head(states[:, 1:]).split([len(names) for names in LABELS], dim=-1)
        losses = [
            F.cross_entropy(part.flatten(0, 1), labels[..., i].flatten())
            for i, part in enumerate(logits)
        ]
        return torch.stack(losses).mean()

    def matching(self, states: Tensor, ids: Tensor, mask: Tensor, similarity: Tensor) -> Tensor:
        """Matching loss on the true pairs and one hard negative in each direction."""
        rows = torch.arange(len(ids))
        weights = similarity.softmax(1).fill_diagonal_(0) + 1e-6
        weights_t = similarity.T.softmax(1).fill_diagonal_(0) + 1e-6
        weights.fill_diagonal_(0)
        weights_t.fill_diagonal_(0)
        texts = torch.cat([rows, torch.multinomial(weights, 1)[:, 0], rows])
        images = torch.cat([rows, rows, torch.multinomial(weights_t, 1)[:, 0]])
        cross = self.retrieval.cross_keys(states).select(images)
        logits = self.retrieval.match(ids[texts], mask[texts], cross)
        labels = torch.cat([torch.ones_like(rows), torch.zeros_like(rows), torch.zeros_like(rows)])
        return F.cross_entropy(logits, labels)

    def answer_loss(self, states: Tensor, batch: dict[str, Any]) -> Tensor:
        """Mean negative log-likelihood of an answer's tokens."""
        model = self.answering
        ids, mask = self.ids(batch["questions"])
        asked = model.encode_question(states, ids, mask)
        answers, answer_mask = self.ids(batch["answers"])
        answers = answers.clone()
        answers[:, 0] = self.tokenizer.bos_token_id
        cross = model.question_keys(asked, mask)
        logits = model.answer_logits(answers, answer_mask, cross)[:, :-1]
        labels = answers[:, 1:].masked_fill(answer_mask[:, 1:] == 0, -100)
        return F.cross_entropy(logits.flatten(0, 1), labels.flatten())


@torch.no_grad()
def recalls(model: Pretraining, batch: dict[str, Any]) -> dict[str, float]:
    """R@1 by features and after matching the best 16 of each."""
    model.eval()
    states, image_features = model.retrieval.encode_image(normalised(batch["pixels"]))
    ids, mask = model.ids(batch["captions"])
    _, text_features = model.retrieval.encode_text(ids, mask)
    similarity = image_features @ text_features.T
    matched = similarity - 100
    top = torch.zeros_like(similarity, dtype=torch.bool)
    top.scatter_(1, similarity.topk(16, 1).indices, True)
    top.scatter_(0, similarity.topk(16, 0).indices, True)
    cross = model.retrieval.cross_keys(states)
    for row in range(len(ids)):
        columns = top[row].nonzero()[:, 0]
        keys = cross.select(torch.tensor([row])).expand(len(columns))
        logits = model.retrieval.match(ids[columns], mask[columns], keys)
        matched[row, columns] = logits[:, 1] - logits[:, 0] + similarity[row, columns]
    target = torch.arange(len(ids))
    model.train()

    def recall(scores: Tensor) -> float:
        return round(100 * (scores.argmax(1) == target).float().mean().item(), 2)

    return {
        "i2t_r1_features": recall(similarity),
        "t2i_r1_features": recall(similarity.T),
        "i2t_r1": recall(matched),
        "t2i_r1": recall(matched.T),
    }


@torch.no_grad()
def right_answers(model: Pretraining, batch: dict[str, Any]) -> dict[str, float]:
    """The % of right answers, and how many of those with two words."""
    model.eval()
    pixels = normalised(batch["pixels"])
    asked, asked_mask = model.ids(batch["questions"])
    tokens = model.answering.generate(pixels, asked, asked_mask, max_new_tokens=6)
    replies = model.tokenizer.batch_decode(tokens, skip_special_tokens=True)
    right = [r.strip() == a for r, a in zip(replies, batch["answers"], strict=True)]
    longer = [r for r, a in zip(right, batch["answers"], strict=True) if " " in a]
    model.train()
    return {
        "answers": round(100 * sum(right) / len(right), 2),
        "right_of_two_words": sum(longer),
        "of_two_words": len(longer),
    }


def save(model: Pretraining, out: Path, half: bool = True) -> None:
    """Write the union of both models' weights, the configuration and the tokenizer."""
    from safetensors.torch import save_file

    weights = {**model.retrieval.state_dict(), **model.answering.state_dict()}
    weights = {k: v for k, v in weights.items() if not k.startswith("temperature")}
    for tied in (
        "text_decoder.cls.predictions.decoder.weight",
        "text_decoder.cls.predictions.decoder.bias",
    ):
        weights.pop(tied, None)
    dtype = torch.float16 if half else torch.float32
    out.mkdir(parents=True, exist_ok=True)
    save_file(
        {k: (v.to(dtype) if v.is_floating_point() else v).contiguous() for k, v in weights.items()},
        out / "model.safetensors",
        metadata={"format": "pt"},
    )
    config = model.retrieval.config
    config.contrastive_temperature = round(model.retrieval.temperature.weight.item(), 6)
    config.save_pretrained(out)
    model.tokenizer.save_pretrained(out)


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3500, help="of the schedule")
    parser.add_argument("--stop", type=int, help="end after so many of them")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--questions", type=int, default=2, help="per picture")
    parser.add_argument("--start", type=Path, help="folder of an earlier run to go on from")
    parser.add_argument(
        "--decoder-only", action="store_true", help="train the answer decoder alone; needs --start"
    )
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("src/aurora_vl/assets/mini"))
    args = parser.parse_args()
    if args.decoder_only and args.start is None:
        parser.error("--decoder-only goes on from an earlier run: give --start")
    return args


def main() -> None:
    """Train, print a line every 50 steps, evaluate and save."""
    args = arguments()
    torch.manual_seed(args.seed)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=build_tokenizer(),
        **SPECIAL_TOKENS,
        extra_special_tokens={"enc_token": ENCODER_TOKEN},
        model_max_length=64,
    )
    model = Pretraining(mini_config(len(tokenizer)), tokenizer)
    if args.start is not None:
        model.start_from(args.start)
    trained = model.answering.text_decoder if args.decoder_only else model
    model.requires_grad_(False)
    parameters = list(trained.requires_grad_(True).parameters())
    print(sum(p.numel() for p in parameters), "parameters", flush=True)
    optimizer = torch.optim.AdamW(parameters, weight_decay=0.05, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, args.learning_rate, total_steps=args.steps, pct_start=0.1
    )
    loader = DataLoader(
        FreshScenes(args.seed, args.batch, args.steps, args.questions), None, num_workers=1
    )
    held_out = make_batch(
        np.random.default_rng(10_000), 400, "test", HELD_OUT_QUESTIONS, moving=0.0
    )
    start, log = time.perf_counter(), []
    for step, batch in enumerate(loader, start=1):
        losses = (model.decoder_loss(batch),) if args.decoder_only else model(batch)
        optimizer.zero_grad(set_to_none=True)
        sum(losses).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == args.steps:
            parts = " ".join(f"{loss.item():.3f}" for loss in losses)
            names = "lm" if args.decoder_only else "itc/itm/lm/patch"
            print(f"{step} {names} {parts} {time.perf_counter() - start:.0f} s", flush=True)
        if step % 500 == 0 or step in (args.steps, args.stop):
            found = {} if args.decoder_only else recalls(model, held_out)
            log.append({"step": step, **found, **right_answers(model, held_out)})
            print(json.dumps(log[-1]), flush=True)
            save(model, args.out)
        if step == args.stop:
            break
    report = {"seconds": round(time.perf_counter() - start), "scores": log, "steps": step}
    (args.out / "pretraining.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
