"""Tiny random models of transformers in hub layout, made in a second.

A folder has config, weights, a tokenizer over the generated world's words and an image processor.
`python tiny_models.py FOLDER` writes one of each class.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPProcessor,
    MetaClip2Config,
    MetaClip2Model,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Siglip2Config,
    Siglip2ImageProcessorPil,
    Siglip2Model,
    Siglip2Processor,
    Siglip2Tokenizer,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
    SiglipProcessor,
)

from aurora_vl.data.synthetic.grammar import lexicon

SIDE, PATCH, PATCHES = 32, 8, 16
SPECIAL = ["<pad>", "<unk>", "<bos>", "<eos>", "<mask>"]
TWO_TOWERS = ("clip", "metaclip_2", "siglip", "siglip2")
POSITIONS = {"clip": 40, "metaclip_2": 40, "siglip": 32, "siglip2": 32}


def write_two_tower(kind: str, folder: Path, *, width: int = 32, seed: int = 0) -> Path:
    """Write a tiny model of one of `TWO_TOWERS`; its text tower is `width` wide."""
    model = two_tower(kind, width=width, seed=seed)
    model.save_pretrained(folder)
    processor(kind).save_pretrained(folder)
    return folder


def two_tower(kind: str, *, width: int = 32, side: int = SIDE, seed: int = 0) -> PreTrainedModel:
    """A tiny random float32 model in evaluation mode, for pictures of `side` pixels."""
    layers = {"num_hidden_layers": 2, "num_attention_heads": 2}
    text = {
        **layers,
        "vocab_size": len(tokenizer(kind)),
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "max_position_embeddings": POSITIONS[kind],
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": 3,
    }
    # SigLIP compares the two towers' own features.
    vision_width = width if kind.startswith("siglip") else width + 8
    vision: dict[str, Any] = {
        **layers,
        "hidden_size": vision_width,
        "intermediate_size": 2 * vision_width,
        "patch_size": PATCH,
    }
    vision |= {"num_patches": PATCHES} if kind == "siglip2" else {"image_size": side}
    torch.manual_seed(seed)
    if kind == "siglip":
        text["projection_size"] = width
        model: PreTrainedModel = SiglipModel(SiglipConfig(text_config=text, vision_config=vision))
    elif kind == "siglip2":
        text["projection_size"] = width
        model = Siglip2Model(Siglip2Config(text_config=text, vision_config=vision))
    else:
        sizes = {"text_config": text, "vision_config": vision, "projection_dim": 24}
        text["projection_dim"] = vision["projection_dim"] = 24
        if kind == "clip":
            model = CLIPModel(CLIPConfig(**sizes))
        else:
            model = MetaClip2Model(MetaClip2Config(**sizes))
    if kind.startswith("siglip"):  # as SigLIP starts; transformers starts both at random
        torch.nn.init.constant_(model.logit_scale, 2.3)
        torch.nn.init.constant_(model.logit_bias, -10.0)
    return model.eval()


def processor(kind: str) -> Any:
    """The model's processor."""
    if kind == "siglip2":
        patches = Siglip2ImageProcessorPil(patch_size=PATCH, max_num_patches=PATCHES)
        return Siglip2Processor(image_processor=patches, tokenizer=tokenizer(kind))
    square = {"height": SIDE, "width": SIDE}
    if kind == "siglip":
        return SiglipProcessor(
            image_processor=SiglipImageProcessorPil(size=square), tokenizer=tokenizer(kind)
        )
    pictures = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=square)
    return CLIPProcessor(image_processor=pictures, tokenizer=tokenizer(kind))


def tokenizer(kind: str) -> PreTrainedTokenizerBase:
    """One id a word; SigLIP's ends a text and does not begin it, as its own does.

    `AutoTokenizer` makes a Gemma tokenizer of whatever lies beside a SigLIP 2 of any aspect ratio,
    so its words are spelt out as merges.
    """
    common = {
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "model_max_length": POSITIONS[kind],
    }
    begin = "" if kind.startswith("siglip") else "<bos> "
    ends = processors.TemplateProcessing(
        single=f"{begin}$A <eos>", special_tokens=[("<bos>", 2), ("<eos>", 3)]
    )
    if kind == "siglip2":
        starts = sorted({f"▁{word}"[:n] for word in lexicon() for n in range(2, len(word) + 2)})
        letters = sorted(set("▁".join(lexicon())))
        vocabulary = {piece: n for n, piece in enumerate([*SPECIAL, *letters, *starts])}
        merges = [(piece[:-1], piece[-1]) for piece in sorted(starts, key=len)]
        gemma = Siglip2Tokenizer(vocabulary, merges, padding_side="right", **common)
        gemma.backend_tokenizer.post_processor = ends
        return gemma
    raw = Tokenizer(
        models.WordLevel({word: n for n, word in enumerate([*SPECIAL, *lexicon()])}, "<unk>")
    )
    raw.normalizer = normalizers.Lowercase()
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = ends
    return PreTrainedTokenizerFast(tokenizer_object=raw, **common)


if __name__ == "__main__":
    for each in TWO_TOWERS:
        print(write_two_tower(each, Path(sys.argv[1]) / each))
