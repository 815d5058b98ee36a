"""Inference: what an adapter costs when merged, unmerged, switched and mixed.

One run scores a batch of pairs: pictures encoded, captions read with them, the matching head.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import BlipForImageTextRetrieval

from aurora_vl.backbones.blip.dual_encoder import retrieval_backbone
from aurora_vl.tuner.layer import AuroraLayer
from aurora_vl.tuner.rows import BASE_ROWS
from benchmarks.measuring import Row, rows_of, time_in_turn
from benchmarks.memory import peaks_of
from benchmarks.setup import Setup

JOB = "inference"
FROZEN = "frozen"
CONTENDERS = (
    FROZEN,
    "merged",
    "unmerged",
    "unmerged with query gates",
    "mixed adapters",
    "transformers",
)
SWITCH = "switch of adapters"


def contender(name: str, setup: Setup) -> Callable[[], Tensor]:
    """Scores of a batch of pairs, (B,), by one of `CONTENDERS`."""
    batch = setup.pairs()
    pixels = batch["media"]["pixel_values"]
    ids, mask = (batch["texts"][key] for key in ("input_ids", "attention_mask"))
    if name == "transformers":
        return _transformers(setup, pixels, ids, mask)
    if name == FROZEN:
        model: Any = setup.model()
    else:
        model = setup.with_aurora(
            gqt="off" if name in ("merged", "unmerged") else "released", heads=False, start=False
        )
    if name == "merged":
        model = model.merge_and_unload()
        if any(isinstance(module, AuroraLayer) for module in model.modules()):
            raise RuntimeError("merging left an adapter's layer in the model")
    backbone = retrieval_backbone(model)

    @torch.inference_mode()
    def score() -> Tensor:
        cross = backbone.cross_keys(backbone.encode_image(pixels)[0])
        return backbone.match(ids, mask, cross)[:, 1]

    if name != "mixed adapters":
        return score
    model.add_adapter("other", model.peft_config["default"])
    names = [("default", "other", BASE_ROWS)[row % 3] for row in range(len(ids))]

    def mixed() -> Tensor:
        with model.base_model.adapter_rows(names):
            return score()

    return mixed


def switching(setup: Setup) -> Callable[[], None]:
    """There and back again between two adapters of a model, gates and heads included."""
    model: Any = setup.with_aurora(start=False)
    model.add_adapter("other", model.peft_config["default"])

    def switch() -> None:
        model.set_adapter("other")
        model.set_adapter("default")

    return switch


def compare(setup: Setup, repeats: int, *, memory: bool = True) -> list[Row]:
    """Time all forms in turn, ratios against the frozen backbone; then switching, per switch."""
    forms = {name: contender(name, setup) for name in CONTENDERS}
    if not torch.allclose(forms[FROZEN](), forms["transformers"](), atol=1e-4):
        raise RuntimeError("transformers' BLIP scores the pairs otherwise than ours")
    seconds = time_in_turn(forms, repeats, setup.torch_device)
    peaks = peaks_of(JOB, CONTENDERS, setup)[0] if memory else None
    pairs = dict.fromkeys(forms, setup.batch)
    rows = rows_of(JOB, seconds, reference=FROZEN, items=pairs, peak_mb=peaks)
    del forms
    twice = time_in_turn({SWITCH: switching(setup)}, repeats, setup.torch_device)
    return rows + rows_of(JOB, {SWITCH: [value / 2 for value in twice[SWITCH]]})


def _transformers(setup: Setup, pixels: Tensor, ids: Tensor, mask: Tensor) -> Callable[[], Tensor]:
    """The same pairs by transformers' own class with the same weights."""
    ours = setup.model()
    with torch.device("meta"):
        model = BlipForImageTextRetrieval(setup.config())
    state = {k: v for k, v in ours.state_dict().items() if not k.startswith("temperature")}
    model.load_state_dict(state, assign=True)
    embeddings = model.text_encoder.embeddings
    positions = torch.arange(embeddings.position_ids.shape[-1], device=setup.torch_device)
    embeddings.position_ids = positions[None]  # no part of its state
    model.eval()
    ids = ids.clone()
    ids[:, 0] = ours.enc_token_id  # which transformers leaves to its caller

    @torch.inference_mode()
    def score() -> Tensor:
        return model(input_ids=ids, pixel_values=pixels, attention_mask=mask).itm_score[:, 1]

    return score
