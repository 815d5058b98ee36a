"""Adapters over a base that bitsandbytes holds in 8 or 4 bit, prepared as PEFT's users do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model, prepare_model_for_kbit_training
from torch import Tensor, nn
from transformers import BitsAndBytesConfig, BlipForImageTextRetrieval

from aurora_vl import AuroraConfig
from aurora_vl.backbones.blip.modeling import BlipForRetrieval

pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: no 8 or 4 bit to test")
pytestmark = [
    pytest.mark.filterwarnings("ignore:MatMul8bitLt:UserWarning"),  # says that it rounds
    # What PEFT asks of transformers under its older names.
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning"),
]
HEADS = ["vision_proj", "text_proj", "itm_head"]
WHOLE = [*HEADS, "lm_head"]
IDS = torch.tensor([[4, 7, 9, 3], [5, 6, 7, 8]])


@pytest.fixture(params=[8, 4])
def bits(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def quantized(kind: Any, folder: Path, bits: int) -> Any:
    given: dict[str, Any] = {f"load_in_{bits}bit": True, "llm_int8_skip_modules": WHOLE}
    if bits == 4:
        given |= {"bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.float32}
    settings = BitsAndBytesConfig(**given)
    model = kind.from_pretrained(folder, quantization_config=settings, device_map="cpu")
    # With checkpointing PEFT marks the embeddings' output, which transformers' BLIP writes into.
    return prepare_model_for_kbit_training(
        model,
        use_gradient_checkpointing=kind is not BlipForImageTextRetrieval,
        gradient_checkpointing_kwargs={"use_reentrant": False},
    )


def held(model: nn.Module) -> dict[str, Tensor]:
    """What is stored in 8 or 4 bit."""
    return {
        name: parameter.detach().clone()
        for name, parameter in model.named_parameters()
        if parameter.dtype in (torch.int8, torch.uint8)
    }


def test_a_language_model(families: dict[str, Any], tmp_path: Path, bits: int) -> None:
    tiny = families["llama"].build().float()
    kind = type(tiny)
    tiny.save_pretrained(tmp_path / "base")
    base = quantized(kind, tmp_path / "base", bits)
    frozen = base(input_ids=IDS).logits.detach()
    model = get_peft_model(base, AuroraConfig(r=4))
    stored = held(model)
    assert len(stored) == 14  # the maps of two layers; the head stays as it is
    torch.testing.assert_close(model(input_ids=IDS).logits, frozen)

    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert all("aurora_" in name and p.dtype == torch.float32 for name, p in trained.items())
    optimizer = torch.optim.AdamW(trained.values(), lr=1e-2)
    losses = []
    for _ in range(8):
        loss = model(input_ids=IDS, labels=IDS).loss
        loss.backward()
        losses.append(loss.item())
        assert all(p.grad is not None for p in trained.values())
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < losses[0] - 0.1
    assert all(torch.equal(held(model)[name], tensor) for name, tensor in stored.items())

    tuned = model.eval()(input_ids=IDS).logits.detach()
    with model.disable_adapter():
        torch.testing.assert_close(model(input_ids=IDS).logits, frozen)
    model.save_pretrained(str(tmp_path / "adapter"), save_embedding_layers=False)
    again = PeftModel.from_pretrained(
        quantized(kind, tmp_path / "base", bits), str(tmp_path / "adapter")
    ).eval()
    torch.testing.assert_close(again(input_ids=IDS).logits, tuned)

    merged = again.merge_and_unload()  # the sum is rounded to as few bits again
    assert not any("aurora" in name for name, _ in merged.named_modules())
    change, rounding = tuned - frozen, merged(input_ids=IDS).logits - tuned
    assert rounding.norm() < 0.3 * change.norm()


def test_blip(families: dict[str, Any], tmp_path: Path, bits: int) -> None:
    """Vision, text and fusion all learn through the rounded weights; so does transformers' own."""
    families["blip"].build().float().save_pretrained(tmp_path / "base")
    for kind in (BlipForRetrieval, BlipForImageTextRetrieval):
        model = get_peft_model(
            quantized(kind, tmp_path / "base", bits), AuroraConfig(r=4, modules_to_save=HEADS)
        ).train()
        stored = held(model)
        pixels = torch.randn(2, 3, 16, 16)
        if kind is BlipForRetrieval:
            blip = model.get_base_model()
            states, _ = blip.encode_image(pixels)
            scores = blip.match(IDS, torch.ones_like(IDS), blip.cross_keys(states))
        else:
            scores = model(input_ids=IDS, pixel_values=pixels).itm_score
        nn.functional.cross_entropy(scores, torch.tensor([0, 1])).backward()
        unused = [
            name
            for name, parameter in model.named_parameters()
            if parameter.requires_grad and parameter.grad is None
        ]
        assert all("vision_proj" in name or "text_proj" in name for name in unused)  # ITC's heads
        assert len(unused) == 4
        assert len(stored) == 2 * (4 + 6 + 4)
