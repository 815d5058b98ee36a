"""A tiny random retrieval model, its batches and its folder, for the tests above the backbone.

Imported by name (pyproject's `pythonpath`), by tests and by the processes they start.
"""

from __future__ import annotations

from pathlib import Path

import torch
from peft import get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import BlipConfig, PreTrainedTokenizerFast

from aurora_vl.backbones.blip.modeling import BlipForRetrieval
from aurora_vl.tuner.config import AuroraConfig

SIZE = 16
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[DEC]", "[ENC]"]
COLOURS = ["red", "green", "blue", "black"]
THINGS = ["dog", "cat", "ball", "box", "car", "tree"]
WORDS = ["a", "the", "big", "small", "round", "on", *COLOURS, *THINGS]
HEADS = ["vision_proj", "text_proj", "itm_head"]


def tiny_config(dropout: float = 0.0) -> BlipConfig:
    """Vision wider than text; two layers each; pictures of 16 pixels, 5 tokens."""
    text = {
        "vocab_size": len(SPECIAL) + len(WORDS),
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 40,
        "pad_token_id": 0,
        "bos_token_id": 4,
        "sep_token_id": 3,
        "enc_token_id": 5,
        "hidden_dropout_prob": dropout,
        "attention_probs_dropout_prob": dropout,
    }
    vision = {
        "hidden_size": 24,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": SIZE,
        "patch_size": 8,
        "attention_dropout": dropout,
    }
    return BlipConfig(text_config=text, vision_config=vision, image_text_hidden_size=8)


def fill(module: nn.Module, seed: int = 0) -> None:
    """Give every parameter large random values, the same for the same names and seed."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(module.named_parameters()):
            if name.endswith("temperature.weight"):
                continue
            centre = 1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(centre + 0.3 * noise)


def tiny_model(method: str = "full", *, dropout: float = 0.0, seed: int = 0) -> nn.Module:
    """A float64 model in evaluation mode; method full (all but the temperature) or aurora."""
    model: nn.Module = BlipForRetrieval(tiny_config(dropout)).double()
    model.temperature.requires_grad_(False)
    if method == "aurora":
        config = AuroraConfig(r=4, dropout=dropout, modules_to_save=HEADS)
        model = get_peft_model(model, config).double()
    fill(model, seed)
    return model.eval()


def batch(
    index: list[int], *, length: int = 7, seed: int = 0, uniforms: bool = True
) -> dict[str, Tensor]:
    """A batch of pairs: pictures follow `index`, captions differ, their lengths vary."""
    generator = torch.Generator().manual_seed(seed)
    count = len(index)
    gallery = torch.randn(max(index) + 1, 3, SIZE, SIZE, generator=generator, dtype=torch.float64)
    ids = torch.randint(
        len(SPECIAL), len(SPECIAL) + len(WORDS), (count, length), generator=generator
    )
    lengths = torch.randint(3, length + 1, (count,), generator=generator)
    lengths[0] = length
    mask = (torch.arange(length)[None] < lengths[:, None]).long()
    ids = ids * mask
    ids[:, 0] = 2
    made = {
        "pixel_values": gallery[index],
        "input_ids": ids,
        "attention_mask": mask,
        "media_index": torch.tensor(index),
    }
    if uniforms:
        made["uniforms"] = torch.rand(count, 2, generator=generator)
    return made


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """One id a known word, [UNK] for the others."""
    vocabulary = {word: index for index, word in enumerate([*SPECIAL, *WORDS])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )


def save_backbone(folder: Path, *, dropout: float = 0.0, seed: int = 0) -> Path:
    """Write a float32 backbone with its tokenizer, as a recipe names it."""
    model = BlipForRetrieval(tiny_config(dropout))
    fill(model, seed)
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder
