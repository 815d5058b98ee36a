"""Small random models of every family the tuner is tested on, and what is true of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertModel,
    BlipConfig,
    CLIPConfig,
    CLIPModel,
    LlamaConfig,
    LlamaForCausalLM,
    ViTConfig,
    ViTForImageClassification,
)

from aurora_vl import AuroraConfig
from aurora_vl.backbones.blip.modeling import BlipForQuestionAnswering, BlipForRetrieval

Maps = list[tuple[int, int]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # peft asks transformers for an attribute that transformers is about to rename.
    ignored = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")
    for item in items:
        if "tests/tuner" in item.path.as_posix():
            item.add_marker(ignored)


@dataclass(frozen=True)
class Family:
    """A kind of model.

    Attributes:
        build: makes the model, random, float64, in evaluation mode.
        call: runs a model (wrapped or not) on fixed inputs; the first axis is rows.
        maps: (in, out) of every map adapted by default.
        widths: the listed widths expected.
        slots: width of every query slot.
        targets: `target_modules` where the family has no default.
        heads: `modules_to_save` that fit.
        unfit: name of a module that Aurora cannot adapt.
    """

    name: str
    build: Callable[[], nn.Module]
    call: Callable[[nn.Module], Tensor]
    maps: Maps
    widths: list[int]
    slots: list[int] = field(default_factory=list)
    targets: list[str] | None = None
    heads: list[str] = field(default_factory=list)
    unfit: str = ""

    def config(self, **changes: Any) -> AuroraConfig:
        return AuroraConfig(**{"r": 4, "target_modules": self.targets, **changes})

    def changed(self, model: nn.Module | None = None, **changes: Any) -> PeftModel:
        """A model with an adapter that changes its output."""
        torch.manual_seed(1)
        changes = {"init_weights": False, **changes}
        return get_peft_model(model or self.build(), self.config(**changes)).eval()


def filled(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    model = model.double().eval()
    for name, parameter in sorted(model.named_parameters()):
        centre = 1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.data = centre + 0.3 * noise
    return model


def inner(model: nn.Module) -> Any:
    return model.get_base_model() if isinstance(model, PeftModel) else model


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


IDS = torch.tensor([[4, 7, 9, 3, 0], [4, 8, 11, 12, 3], [4, 5, 3, 0, 0]])
MASK = (IDS != 0).long()


class MLP(nn.Module):
    """Two adapted layers and a head, without a config."""

    def __init__(self) -> None:
        super().__init__()
        self.lin0 = nn.Linear(10, 20)
        self.lin1 = nn.Linear(20, 20)
        self.act = nn.ReLU()
        self.conv = nn.Conv1d(1, 1, 1)
        self.head = nn.Linear(20, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.act(self.lin1(self.act(self.lin0(x)))))


def dtype_of(model: nn.Module) -> torch.dtype:
    return next(model.parameters()).dtype


def call_mlp(model: nn.Module) -> Tensor:
    return model(noise(3, 10).to(dtype_of(model)))


def blip_config(layers: int) -> BlipConfig:
    text = {
        "vocab_size": 50,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "max_position_embeddings": 20,
        "bos_token_id": 48,
        "sep_token_id": 3,
        "enc_token_id": 49,
    }
    vision = {
        "hidden_size": 24,
        "intermediate_size": 96,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 8,
    }
    return BlipConfig(text_config=text, vision_config=vision, image_text_hidden_size=8)


# Of one layer. Text: self q, k, v; cross q; cross k and v, which read the picture (24) or, in
# the decoder, the question (16).
BLIP_VISION: Maps = [(24, 72), (24, 24), (24, 96), (96, 24)]
BLIP_TEXT: Maps = [(16, 16)] * 4 + [(24, 16)] * 2
BLIP_DECODER: Maps = [(16, 16)] * 6


def call_blip(model: nn.Module) -> Tensor:
    blip = inner(model)
    states, features = blip.encode_image(noise(3, 3, 16, 16).to(dtype_of(blip)))
    _, texts = blip.encode_text(IDS, MASK)
    return torch.cat([features, texts, blip.match(IDS, MASK, blip.cross_keys(states))], 1)


def call_blip_vqa(model: nn.Module) -> Tensor:
    blip = inner(model)
    answers = torch.tensor([[48, 9, 3], [48, 6, 7], [48, 5, 3]])
    return blip(noise(3, 3, 16, 16).to(dtype_of(blip)), IDS, MASK, answers)


def two_towers() -> CLIPConfig:
    def tower(size: int) -> dict[str, int]:
        return {
            "hidden_size": size,
            "intermediate_size": 4 * size,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "projection_dim": 8,
        }

    text = {**tower(32), "vocab_size": 50, "max_position_embeddings": 12, "eos_token_id": 3}
    vision = {**tower(48), "image_size": 16, "patch_size": 8}
    return CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)


def call_clip(model: nn.Module) -> Tensor:
    pixels = noise(3, 3, 16, 16).to(dtype_of(model))
    out = model(input_ids=IDS, attention_mask=MASK, pixel_values=pixels)
    return torch.cat([out.image_embeds, out.text_embeds], 1)


SMALL = {
    "hidden_size": 16,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}


def call_vit(model: nn.Module) -> Tensor:
    return model(pixel_values=noise(3, 3, 16, 16).to(dtype_of(model))).logits


def call_bert(model: nn.Module) -> Tensor:
    return model(input_ids=IDS, attention_mask=MASK).last_hidden_state[:, 0]


def call_llama(model: nn.Module) -> Tensor:
    return model(input_ids=IDS).logits[:, -1]


def llama() -> nn.Module:
    config = LlamaConfig(
        **SMALL,
        num_key_value_heads=1,
        vocab_size=50,
        bos_token_id=1,
        eos_token_id=3,
        tie_word_embeddings=False,
    )
    return LlamaForCausalLM(config)


FAMILIES = [
    Family(
        "mlp",
        lambda: filled(MLP()),
        call_mlp,
        [(10, 20), (20, 20)],
        [20],
        targets=["lin0", "lin1"],
        heads=["head"],
        unfit="conv",
    ),
    Family(
        "blip",
        lambda: filled(BlipForRetrieval(blip_config(2))),
        call_blip,
        2 * (BLIP_VISION + BLIP_TEXT),
        [24, 16],
        slots=[16, 16],
        heads=["itm_head"],
        unfit="patch_embedding",
    ),
    Family(
        "blip-vqa",
        lambda: filled(BlipForQuestionAnswering(blip_config(1))),
        call_blip_vqa,
        BLIP_VISION + BLIP_TEXT + BLIP_DECODER,
        [24, 16],
        slots=[16] * 2,
        unfit="patch_embedding",
    ),
    Family(
        "clip",
        lambda: filled(CLIPModel(two_towers())),
        call_clip,
        [(48, 48)] * 4 + [(48, 192), (192, 48)] + [(32, 32)] * 3,
        [48, 32],
        heads=["visual_projection"],
        unfit="patch_embedding",
    ),
    Family(
        "vit",
        lambda: filled(
            ViTForImageClassification(ViTConfig(**SMALL, image_size=16, patch_size=8, num_labels=5))
        ),
        call_vit,
        [(16, 16)] * 8 + [(16, 64), (64, 16)] * 2,
        [16],
        heads=["classifier"],
        unfit="projection",
    ),
    Family(
        "bert",
        lambda: filled(BertModel(BertConfig(**SMALL, vocab_size=50, max_position_embeddings=12))),
        call_bert,
        [(16, 16)] * 6,
        [16],
        unfit="word_embeddings",
    ),
    Family(
        "llama",
        lambda: filled(llama()),
        call_llama,
        [(16, 16), (16, 4), (16, 4)] * 2,
        [16],
        unfit="embed_tokens",
    ),
]


@pytest.fixture(params=FAMILIES, ids=lambda family: family.name)
def family(request: pytest.FixtureRequest) -> Family:
    """Every family in turn."""
    return request.param


@pytest.fixture
def families() -> dict[str, Family]:
    """The families by name."""
    return {family.name: family for family in FAMILIES}


@pytest.fixture(params=["cp", "tucker"])
def core(request: pytest.FixtureRequest) -> str:
    """Both cores in turn."""
    return request.param


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
