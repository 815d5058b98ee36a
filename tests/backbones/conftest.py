"""Tiny random BLIP configurations and weights, shared by the tests of the backbone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from transformers import BlipConfig

ENC, DEC, SEP = 49, 48, 3


def make_config(text_width: int = 16, vision_width: int = 24) -> BlipConfig:
    text = {
        "vocab_size": 50,
        "hidden_size": text_width,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 20,
        "bos_token_id": DEC,
        "sep_token_id": SEP,
        "enc_token_id": ENC,
    }
    vision = {
        "hidden_size": vision_width,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 16,
        "patch_size": 8,
        "layer_norm_eps": 1e-3,  # unlike the default, so that ignoring it is seen
    }
    return BlipConfig(text_config=text, vision_config=vision, image_text_hidden_size=8)


@pytest.fixture
def config() -> BlipConfig:
    """Vision wider than text."""
    return make_config()


@pytest.fixture
def even_config() -> BlipConfig:
    """Equal widths, which transformers' question answering needs."""
    return make_config(16, 16)


def _fill(module: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    module = module.double().eval()
    for name, parameter in sorted(module.named_parameters()):
        centre = 1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0
        noise = torch.randn(parameter.shape, generator=generator).double()
        with torch.no_grad():
            parameter.copy_(centre + 0.4 * noise)
    return module


@pytest.fixture
def fill() -> Callable[..., nn.Module]:
    """Give a module large random float64 weights, the same for the same seed and names."""
    return _fill


@pytest.fixture
def pixels() -> Tensor:
    return torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1)).double()


@pytest.fixture
def ids() -> Tensor:
    """Three texts of six tokens, [CLS]-like id 2 first."""
    ids = torch.randint(5, 48, (3, 6), generator=torch.Generator().manual_seed(2))
    ids[:, 0] = 2
    return ids


@pytest.fixture
def mask() -> Tensor:
    """Lengths 6, 3 and 4."""
    return torch.tensor([[1] * 6, [1] * 3 + [0] * 3, [1] * 4 + [0] * 2])
