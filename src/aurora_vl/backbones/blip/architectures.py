"""The published BLIP architectures by name, for counting and sizing without a checkpoint.

Widths and depths are those of BLIP (Li et al., 2022, arXiv:2201.12086, section 4.1): ViT-B/16 or
ViT-L/16 beside a BERT-base text encoder. They name shapes only; there are no weights behind them.
"""

from __future__ import annotations

from typing import Any

from transformers import BlipConfig

_TEXT: dict[str, Any] = {
    "vocab_size": 30524,  # bert-base-uncased, [DEC], [ENC]
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 512,
    "bos_token_id": 30522,
}
_VISION: dict[str, dict[str, Any]] = {
    "blip-base": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
    },
    "blip-large": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
    },
}
# Checkpoints of these shapes, by hub id and by the name of the authors' own file.
_CHECKPOINTS = {
    "Salesforce/blip-itm-base-coco": "blip-base",
    "Salesforce/blip-itm-base-flickr": "blip-base",
    "Salesforce/blip-itm-large-coco": "blip-large",
    "Salesforce/blip-itm-large-flickr": "blip-large",
    "model_base.pth": "blip-base",
    "model_large.pth": "blip-large",
}

ARCHITECTURES: tuple[str, ...] = tuple(_VISION)
"""Names that stand for shapes alone."""


def published_config(name: str) -> BlipConfig | None:
    """The configuration of a published architecture or checkpoint.

    Args:
        name: one of `ARCHITECTURES`, a hub id, or the name of a file the authors published.

    Returns:
        A fresh configuration at 384 pixels, or None if the name is not known.
    """
    vision = _VISION.get(_CHECKPOINTS.get(name, name))
    if vision is None:
        return None
    return BlipConfig(
        text_config=dict(_TEXT),
        vision_config={**vision, "patch_size": 16, "image_size": 384, "layer_norm_eps": 1e-6},
        image_text_hidden_size=256,
    )
