"""A family without a matcher: BLIP with its fusion taken away, under a model type of its own.

Imported by the tests and, through a sitecustomize.py, by the processes that a comparison starts.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tiny_blip import save_backbone
from torch import nn
from transformers import BlipConfig

from aurora_vl.backbones.base import DualEncoder, Task
from aurora_vl.backbones.blip.dual_encoder import BlipDualEncoder
from aurora_vl.backbones.blip.family import BlipFamily
from aurora_vl.backbones.blip.loading import resize
from aurora_vl.backbones.blip.modeling import BlipForRetrieval
from aurora_vl.backbones.blip.tokenizer import read_tokenizer
from aurora_vl.backbones.families import register_family
from aurora_vl.errors import UserError

TYPE = "dual_blip"


class DualFamily(BlipFamily):
    """The two encoders of BLIP."""

    name = "BLIP without fusion"
    model_types = frozenset({TYPE})
    heads = ("vision_proj", "text_proj", "temperature")

    def load(self, name: str, task: Task, image_size: int | None, dtype: torch.dtype) -> nn.Module:
        config = self.load_config(name, image_size)
        model = self.empty_model(task, config).to(dtype)
        model.load_state_dict(load_file(Path(name) / "model.safetensors"), strict=False)
        model.name_or_path = model.config._name_or_path = name
        return model.eval()

    def load_config(self, name: str, image_size: int | None) -> BlipConfig:
        given = json.loads((Path(name) / "config.json").read_text())
        config = BlipConfig.from_dict({**given, "model_type": "blip"})
        if image_size is not None:
            resize(config, {}, image_size, name)
        config.model_type = TYPE
        return config

    def empty_model(self, task: Task, config: BlipConfig) -> nn.Module:
        if task != "retrieval":
            raise UserError("BLIP without fusion cannot answer questions; choose retrieval.")
        model = BlipForRetrieval(config)
        del model.itm_head
        return model

    def tokenizer(self, name: str) -> Any:
        return read_tokenizer(Path(name))

    def trained_heads(self, task: Task, *, text_projection: bool, temperature: bool) -> list[str]:
        heads = super().trained_heads(
            task, text_projection=text_projection, temperature=temperature
        )
        return [head for head in heads if head != "itm_head"]

    def dual_encoder(self, model: nn.Module) -> DualEncoder:
        encoder: DualEncoder = BlipDualEncoder(model)
        encoder.matcher = None
        return encoder

    def save_merged(self, model: nn.Module, task: Task, name: str, folder: Path) -> str:
        whole: Any = model
        whole.save_pretrained(folder)
        self.tokenizer(name).save_pretrained(folder)
        return type(whole).__name__


def save_dual_backbone(folder: Path) -> Path:
    """Write a backbone of this type."""
    save_backbone(folder)
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_type": TYPE}))
    return folder


register_family(DualFamily())
