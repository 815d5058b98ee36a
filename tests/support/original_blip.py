"""Checkpoints in the layouts that BLIP's authors published, made of random numbers.

Names and shapes are written out here from the published architecture, apart from the package's
own table of names, so that each is a check on the other. File names and depths are the published
ones; widths, feed-forward sizes and vocabulary are small.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Layout = Literal["pretraining", "retrieval", "vqa"]
State = dict[str, Tensor]

PUBLISHED: dict[str, tuple[Layout, str, int]] = {  # file: layout, size, patches along a side
    "model_base.pth": ("pretraining", "base", 14),
    "model_base_14M.pth": ("pretraining", "base", 14),
    "model_base_capfilt_large.pth": ("pretraining", "base", 14),
    "model_base_retrieval_coco.pth": ("retrieval", "base", 24),
    "model_base_retrieval_flickr.pth": ("retrieval", "base", 24),
    "model_vqa.pth": ("vqa", "base", 30),
    "model_base_vqa_capfilt_large.pth": ("vqa", "base", 30),
    "model_large.pth": ("pretraining", "large", 14),
    "model_large_retrieval_coco.pth": ("retrieval", "large", 24),
    "model_large_retrieval_flickr.pth": ("retrieval", "large", 24),
}


@dataclass(frozen=True)
class Sizes:
    """What decides all shapes; the feed-forward blocks are four times as wide."""

    vision: int = 128
    text: int = 128
    vision_layers: int = 2
    text_layers: int = 2
    side: int = 2  # patches
    patch: int = 16
    vocabulary: int = 42
    length: int = 24
    features: int = 16
    queue: int = 8

    @classmethod
    def published(cls, size: str, side: int) -> Sizes:
        """The published depths at small widths: ViT-B or ViT-L, beside BERT-base."""
        if size == "base":
            return cls(16, 16, 12, 12, side)
        return cls(24, 16, 24, 12, side)


def original_state(layout: Layout, sizes: Sizes, seed: int = 0) -> State:
    """All tensors of a checkpoint, in float32; what pre-training shares is shared here too."""
    make = _Maker(seed)
    state = make.vision("visual_encoder", sizes)
    encoder = make.text("text_encoder", sizes, sizes.vision)
    state |= encoder
    if layout != "vqa":
        state["temp"] = torch.tensor(0.0541)
        for name, (inner, outer) in {
            "vision_proj": (sizes.vision, sizes.features),
            "text_proj": (sizes.text, sizes.features),
            "itm_head": (sizes.text, 2),
        }.items():
            state |= make.linear(name, inner, outer)
        state |= make.vision("visual_encoder_m", sizes)
        state |= make.text("text_encoder_m", sizes, sizes.vision)
        state |= make.linear("vision_proj_m", sizes.vision, sizes.features)
        state |= make.linear("text_proj_m", sizes.text, sizes.features)
        state["image_queue"] = make.tensor(sizes.features, sizes.queue)
        state["text_queue"] = make.tensor(sizes.features, sizes.queue)
        pointer = "queue_ptr" if layout == "pretraining" else "ptr_queue"
        state[pointer] = torch.zeros(1, dtype=torch.long)
    if layout == "retrieval":
        state["idx_queue"] = torch.full((1, sizes.queue), -100)
    if layout == "vqa":
        state |= make.decoder(sizes, sizes.text)
    if layout == "pretraining":
        state |= make.decoder(sizes, sizes.vision)
        _share(state)
    return state


def _share(state: State) -> None:
    """Pre-training shares all but self-attention; the output map then keeps its own weight."""
    for name in list(state):
        twin = name.replace("text_decoder.bert.", "text_encoder.")
        if twin != name and ".attention." not in name:
            state[name] = state[twin]


def save_original(path: Path, state: State, **beside: Any) -> Path:
    """Write a state as the authors' training scripts do."""
    torch.save({"model": state, **beside}, path)
    return path


class _Maker:
    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def tensor(self, *shape: int, centre: float = 0.0) -> Tensor:
        return centre + 0.2 * torch.randn(shape, generator=self.generator)

    def linear(self, name: str, inner: int, outer: int) -> State:
        return {f"{name}.weight": self.tensor(outer, inner), f"{name}.bias": self.tensor(outer)}

    def norm(self, name: str, width: int) -> State:
        return {
            f"{name}.weight": self.tensor(width, centre=1.0),
            f"{name}.bias": self.tensor(width),
        }

    def vision(self, name: str, sizes: Sizes) -> State:
        width = sizes.vision
        state = {
            f"{name}.cls_token": self.tensor(1, 1, width),
            f"{name}.pos_embed": self.tensor(1, sizes.side**2 + 1, width),
            f"{name}.patch_embed.proj.weight": self.tensor(width, 3, sizes.patch, sizes.patch),
            f"{name}.patch_embed.proj.bias": self.tensor(width),
        }
        for index in range(sizes.vision_layers):
            block = f"{name}.blocks.{index}"
            state |= self.norm(f"{block}.norm1", width)
            state |= self.linear(f"{block}.attn.qkv", width, 3 * width)
            state |= self.linear(f"{block}.attn.proj", width, width)
            state |= self.norm(f"{block}.norm2", width)
            state |= self.linear(f"{block}.mlp.fc1", width, 4 * width)
            state |= self.linear(f"{block}.mlp.fc2", 4 * width, width)
        return state | self.norm(f"{name}.norm", width)

    def text(self, name: str, sizes: Sizes, key_width: int) -> State:
        width = sizes.text
        state = {
            f"{name}.embeddings.position_ids": torch.arange(sizes.length)[None],
            f"{name}.embeddings.word_embeddings.weight": self.tensor(sizes.vocabulary, width),
            f"{name}.embeddings.position_embeddings.weight": self.tensor(sizes.length, width),
        }
        state |= self.norm(f"{name}.embeddings.LayerNorm", width)
        for index in range(sizes.text_layers):
            layer = f"{name}.encoder.layer.{index}"
            for kind, inner in (("attention", width), ("crossattention", key_width)):
                state |= self.linear(f"{layer}.{kind}.self.query", width, width)
                state |= self.linear(f"{layer}.{kind}.self.key", inner, width)
                state |= self.linear(f"{layer}.{kind}.self.value", inner, width)
                state |= self.linear(f"{layer}.{kind}.output.dense", width, width)
                state |= self.norm(f"{layer}.{kind}.output.LayerNorm", width)
            state |= self.linear(f"{layer}.intermediate.dense", width, 4 * width)
            state |= self.linear(f"{layer}.output.dense", 4 * width, width)
            state |= self.norm(f"{layer}.output.LayerNorm", width)
        return state

    def decoder(self, sizes: Sizes, key_width: int) -> State:
        name = "text_decoder.cls.predictions"
        state = self.text("text_decoder.bert", sizes, key_width)
        state |= self.linear(f"{name}.transform.dense", sizes.text, sizes.text)
        state |= self.norm(f"{name}.transform.LayerNorm", sizes.text)
        bias = self.tensor(sizes.vocabulary)
        words = state["text_decoder.bert.embeddings.word_embeddings.weight"]
        return state | {
            f"{name}.bias": bias,
            f"{name}.decoder.weight": words,
            f"{name}.decoder.bias": bias,
        }


def original_vision(state: State, pixels: Tensor, heads: int) -> Tensor:
    """The published vision transformer on tensors under their original names, in float64."""
    state = {
        name.removeprefix("visual_encoder."): tensor.double()
        for name, tensor in state.items()
        if name.startswith("visual_encoder.")
    }

    def norm(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(
            x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps=1e-6
        )

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    patch = state["patch_embed.proj.weight"]
    x = F.conv2d(pixels, patch, state["patch_embed.proj.bias"], stride=patch.shape[-1])
    x = x.flatten(2).transpose(1, 2)
    x = torch.cat([state["cls_token"].expand(len(x), -1, -1), x], dim=1) + state["pos_embed"]
    rows, tokens, width = x.shape
    for index in range(sum(name.endswith("attn.qkv.weight") for name in state)):
        block = f"blocks.{index}"
        qkv = linear(f"{block}.attn.qkv", norm(f"{block}.norm1", x))
        query, key, value = qkv.view(rows, tokens, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
        weights = (query @ key.transpose(-1, -2) / (width // heads) ** 0.5).softmax(-1)
        context = (weights @ value).transpose(1, 2).reshape(rows, tokens, width)
        x = x + linear(f"{block}.attn.proj", context)
        x = x + linear(
            f"{block}.mlp.fc2", F.gelu(linear(f"{block}.mlp.fc1", norm(f"{block}.norm2", x)))
        )
    return norm("norm", x)
