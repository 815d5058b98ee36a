"""Adapters of the mini foundation with random weights."""

from __future__ import annotations

from pathlib import Path

import torch
from peft import get_peft_model

import aurora_vl
from aurora_vl.inference.settings import AdapterSettings, save_tuned

HEADS = ["vision_proj", "text_proj", "itm_head"]


def save_adapter(folder: Path, task: str, seed: int, **settings: object) -> Path:
    """An Aurora adapter of mini with random weights, as train writes one."""
    torch.manual_seed(seed)
    backbone = aurora_vl.load("mini", task="vqa" if task.endswith("qa") else "retrieval")
    heads = None if task.endswith("qa") else HEADS
    config = aurora_vl.AuroraConfig(r=2, init_weights=False, modules_to_save=heads)
    model = get_peft_model(backbone, config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "modules_to_save" in name:
                parameter += 0.05 * torch.randn_like(parameter)
    used = AdapterSettings.model_validate({"task": task, "backbone": "mini", **settings})
    save_tuned(model, folder, used, None)
    return folder
