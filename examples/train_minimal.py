"""The whole method on one screen: a frozen backbone, an Aurora adapter, a contrastive loss.

The bundled mini model knows bright pictures with plain captions. This script draws dark ones with
terse captions, tunes an adapter on them and prints text-to-image recall before and after. It needs
the package alone, no network and about a minute on two CPU cores:

    python examples/train_minimal.py
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
import torch.nn.functional as F
from peft import get_peft_model
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, get_cosine_schedule_with_warmup

import aurora_vl
from aurora_vl.data.synthetic.drawing import draw
from aurora_vl.data.synthetic.grammar import caption
from aurora_vl.data.synthetic.scenes import Split, sample_scene

MEAN = torch.tensor([0.481, 0.458, 0.408]).view(3, 1, 1)  # of the pictures in pre-training
STD = torch.tensor([0.269, 0.261, 0.276]).view(3, 1, 1)


def generate(count: int, split: Split, seed: int) -> tuple[Tensor, list[str]]:
    """Draw pictures and write one caption for each; scenes of two splits never overlap.

    Returns:
        Pictures, float32 (count, 3, 64, 64), normalised as the backbone expects, and captions.
    """
    rng = np.random.default_rng(seed)
    scenes = [sample_scene(rng, split) for _ in range(count)]
    pixels = np.stack([draw(scene, "night") for scene in scenes])  # (count, 64, 64, 3), bytes
    pictures = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    return (pictures - MEAN) / STD, [caption(scene, rng, "terse") for scene in scenes]


def features(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, pictures: Tensor, captions: list[str]
) -> tuple[Tensor, Tensor]:
    """Encode pictures (B, 3, S, S) and their captions: two matrices (B, D) of unit rows."""
    texts = tokenizer(captions, padding=True, return_tensors="pt")
    output = model(pictures, texts.input_ids, texts.attention_mask, features_only=True)
    return output.image_features, output.text_features


def contrastive_loss(images: Tensor, texts: Tensor, temperature: float = 0.05) -> Tensor:
    """Ask every picture for its caption among the batch's, and every caption for its picture."""
    logits = images @ texts.T / temperature  # (B, B)
    own = torch.arange(len(logits))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


@torch.no_grad()
def recall(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, pictures: Tensor, captions: list[str]
) -> str:
    """Say for how many captions, in percent, the picture is among the best 1, 5 and 10 of all."""
    model.eval()
    images, texts = features(model, tokenizer, pictures, captions)
    scores = texts @ images.T  # (captions, pictures)
    ahead = (scores >= scores.diagonal().unsqueeze(1)).sum(1) - 1  # a tie counts against it
    found = {k: 100 * (ahead < k).float().mean().item() for k in (1, 5, 10)}
    return ", ".join(f"R@{k} {percent:.1f}" for k, percent in found.items())


def main(steps: int, seed: int) -> None:
    """Tune on generated pictures for some steps and print recall before and after."""
    torch.manual_seed(seed)
    tokenizer = aurora_vl.load_tokenizer("mini")
    heads = ["vision_proj", "text_proj"]  # small maps, trained whole and saved with the adapter
    config = aurora_vl.AuroraConfig(r=32, modules_to_save=heads)
    model = get_peft_model(aurora_vl.load("mini"), config)
    model.print_trainable_parameters()

    pictures, captions = generate(1000, "train", seed)
    test = generate(200, "test", seed + 1)
    print("before:", recall(model, tokenizer, *test))

    trainable = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    groups = [
        {"params": [p for name, p in trainable if "_proj" not in name], "lr": 0.01},
        {"params": [p for name, p in trainable if "_proj" in name], "lr": 0.001},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
    schedule = get_cosine_schedule_with_warmup(optimizer, steps // 10, steps)
    model.train()
    for step in range(1, steps + 1):
        rows = torch.randperm(len(captions))[:64]
        images, texts = features(model, tokenizer, pictures[rows], [captions[i] for i in rows])
        loss = contrastive_loss(images, texts)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 20 == 0:
            print(f"step {step}: loss {loss.item():.3f}")

    print("after:", recall(model, tokenizer, *test))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=120, help="training steps")
    parser.add_argument("--seed", type=int, default=0, help="of the pictures and the training")
    main(**vars(parser.parse_args()))
