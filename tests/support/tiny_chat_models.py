"""Tiny random chat models that see, in the layout of a hub folder, one of each class."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    GotOcr2ImageProcessorPil,
    LlavaOnevisionImageProcessorPil,
    PreTrainedTokenizerFast,
    Qwen2VLImageProcessorPil,
    SmolVLMImageProcessorPil,
)

from aurora_vl.backbones.folders import find_backbone

KINDS = ("smolvlm", "qwen2_5_vl", "qwen3_vl", "llava_onevision", "internvl")
SIDE = 32
_SPECIAL = {
    "smolvlm": (
        "<image> <fake_token_around_image> <global-img> <end_of_utterance> "
        "<row_1_col_1> <row_1_col_2> <row_2_col_1> <row_2_col_2>"
    ),
    "qwen": "<|im_start|> <|im_end|> <|vision_start|> <|image_pad|> <|vision_end|> <|video_pad|>",
    "llava_onevision": "<|im_start|> <|im_end|> <image> <video>",
    "internvl": "<|im_start|> <|im_end|> <img> </img> <IMG_CONTEXT> <video>",
}
_NAMED = {
    "internvl": {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
}
_TURN = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% for part in message.content %}{% if part.type == 'image' %}PICTURE"
    "{% else %}{{ part.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_TEMPLATES = {
    "smolvlm": (
        "{% for message in messages %}{{ message.role | capitalize }}"
        "{{ ':' if message.content[0].type == 'image' else ': ' }}"
        "{% for part in message.content %}{% if part.type == 'image' %}<image>"
        "{% else %}{{ part.text }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
        "{% if add_generation_prompt %}Assistant:{% endif %}"
    ),
    "qwen": _TURN.replace("PICTURE", "<|vision_start|><|image_pad|><|vision_end|>"),
    "llava_onevision": _TURN.replace("PICTURE", "<image>"),
    "internvl": _TURN.replace("PICTURE", "<IMG_CONTEXT>\n"),
}
_TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}
_SIGLIP = {
    "hidden_size": 24,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": SIDE,
    "patch_size": 8,
}


def save_tiny(kind: str, folder: Path, *, seed: int = 1) -> Path:
    """Write configuration, random weights, tokenizer, chat template and image processor.

    Args:
        kind: the model type, one of `KINDS`.
        folder: where to.
        seed: of the weights.
    """
    tokenizer = _tokenizer(kind)
    config = AutoConfig.for_model(kind, **_CONFIGS[kind](tokenizer), tie_word_embeddings=True)
    torch.manual_seed(seed)
    model = AutoModelForImageTextToText.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.2)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    image_processor, rest = _PROCESSORS[kind]
    image_processor().save_pretrained(folder)
    (folder / "processor_config.json").write_text(json.dumps(rest))
    template = _TEMPLATES["qwen" if kind.startswith("qwen") else kind]
    (folder / "chat_template.jinja").write_text(template)
    return folder


def _tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """The generated world's words, those of the template, and the kind's special tokens."""
    bundled = json.loads((find_backbone("mini") / "tokenizer.json").read_text())
    words = dict(bundled["model"]["vocab"])
    for word in ("Assistant", "User", "assistant", "user", "\n"):
        words.setdefault(word, len(words))
    tokens = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
    tokens.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokens.decoder = decoders.WordPiece()
    special = _SPECIAL["qwen" if kind.startswith("qwen") else kind].split()
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokens,
        pad_token="[PAD]",
        unk_token="[UNK]",
        eos_token="<end_of_utterance>" if kind == "smolvlm" else "<|im_end|>",
        additional_special_tokens=special,
        **({"extra_special_tokens": _NAMED[kind]} if kind in _NAMED else {}),
    )
    made.add_special_tokens({"additional_special_tokens": special})
    return made


def _ids(tokenizer: PreTrainedTokenizerFast, **names: str) -> dict[str, Any]:
    return {key: tokenizer.convert_tokens_to_ids(token) for key, token in names.items()}


def _text(tokenizer: PreTrainedTokenizerFast, **more: Any) -> dict[str, Any]:
    return {
        **_TEXT,
        "vocab_size": len(tokenizer),
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        **more,
    }


def _smolvlm(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        "text_config": {"model_type": "llama", **_text(tokenizer)},
        "vision_config": _SIGLIP,
        "scale_factor": 2,
        "pad_token_id": 0,
        **_ids(tokenizer, image_token_id="<image>"),
    }


def _qwen_ids(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    return _ids(
        tokenizer,
        image_token_id="<|image_pad|>",
        video_token_id="<|video_pad|>",
        vision_start_token_id="<|vision_start|>",
        vision_end_token_id="<|vision_end|>",
    )


def _qwen2_5(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 2,
        "patch_size": 4,
        "spatial_merge_size": 2,
        "out_hidden_size": 32,
        "window_size": 16,
        "fullatt_block_indexes": [1],
    }
    text = _text(tokenizer, rope_parameters=rope)
    return {"text_config": text, "vision_config": vision, **_qwen_ids(tokenizer)}


def _qwen3(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    rope = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0}
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 2,
        "patch_size": 4,
        "spatial_merge_size": 2,
        "out_hidden_size": 32,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0],
    }
    text = _text(tokenizer, rope_parameters=rope)
    return {"text_config": text, "vision_config": vision, **_qwen_ids(tokenizer)}


def _llava(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        "text_config": {"model_type": "qwen2", **_text(tokenizer)},
        "vision_config": {
            "model_type": "siglip_vision_model",
            **_SIGLIP,
            "vision_use_head": False,
        },
        "image_grid_pinpoints": [[SIDE, SIDE], [SIDE, 2 * SIDE], [2 * SIDE, SIDE]],
        **_ids(tokenizer, image_token_id="<image>", video_token_id="<video>"),
    }


def _internvl(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    vision = {**_SIGLIP, "image_size": [SIDE, SIDE], "patch_size": [8, 8]}
    return {
        "text_config": {"model_type": "qwen2", **_text(tokenizer)},
        "vision_config": {"model_type": "internvl_vision", **vision},
        "image_seq_length": 4,
        **_ids(tokenizer, image_token_id="<IMG_CONTEXT>"),
    }


_CONFIGS: dict[str, Callable[[PreTrainedTokenizerFast], dict[str, Any]]] = {
    "smolvlm": _smolvlm,
    "qwen2_5_vl": _qwen2_5,
    "qwen3_vl": _qwen3,
    "llava_onevision": _llava,
    "internvl": _internvl,
}
_SQUARE = {"height": SIDE, "width": SIDE}
_PIXELS = {"shortest_edge": 16 * 16, "longest_edge": SIDE * SIDE}
_PROCESSORS: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "smolvlm": (
        lambda: SmolVLMImageProcessorPil(
            size={"longest_edge": 2 * SIDE}, max_image_size={"longest_edge": SIDE}
        ),
        {"processor_class": "SmolVLMProcessor", "image_seq_len": 4},
    ),
    "qwen2_5_vl": (
        lambda: Qwen2VLImageProcessorPil(size=_PIXELS, patch_size=4, merge_size=2),
        {"processor_class": "Qwen2_5_VLProcessor"},
    ),
    "qwen3_vl": (
        lambda: Qwen2VLImageProcessorPil(size=_PIXELS, patch_size=4, merge_size=2),
        {"processor_class": "Qwen3VLProcessor"},
    ),
    "llava_onevision": (
        lambda: LlavaOnevisionImageProcessorPil(
            size=_SQUARE,
            image_grid_pinpoints=[[SIDE, SIDE], [SIDE, 2 * SIDE], [2 * SIDE, SIDE]],
        ),
        {
            "processor_class": "LlavaOnevisionProcessor",
            "num_image_tokens": 16,
            "vision_feature_select_strategy": "full",
        },
    ),
    "internvl": (
        lambda: GotOcr2ImageProcessorPil(size=_SQUARE, max_patches=4),
        {"processor_class": "InternVLProcessor", "image_seq_length": 4},
    ),
}
