"""Every group of a golden file, computed by our own models.

A group's function gives its tensors by the names they have in the file. They are computed from the
parameters that the fill rule draws and from the file's inputs, never from its stored results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor

from aurora_vl.backbones.blip.frame_attention import frame_key_scale
from golden_losses import retrieval_case, train3, vqa, vqa_video
from golden_model import WIDTH, Golden, outputs_of

Tensors = dict[str, Tensor]


@contextmanager
def without_updates(model: PeftModel) -> Iterator[None]:
    """Every update zero inside the block, the query gates in force."""
    factors = [p for name, p in model.named_parameters() if ".aurora_V_" in name]
    kept = [factor.detach().clone() for factor in factors]
    with torch.no_grad():
        for factor in factors:
            factor.zero_()
        yield
        for factor, value in zip(factors, kept, strict=True):
            factor.copy_(value)


def fill_check(g: Golden, names: list[str]) -> Tensors:
    """The first numbers drawn for some names."""
    return {name: torch.from_numpy(g.fill.normal(name, 8)) for name in names}


@torch.no_grad()
def vit(g: Golden, _names: list[str]) -> Tensors:
    """The vision encoder, with and without the adapter."""
    vision, images = g.backbone.vision_model, g.input("images")
    with outputs_of(*vision.encoder.layers) as blocks:
        last = vision(images)
    with g.retrieval.disable_adapter():
        plain = vision(images)
    found = {f"block{i}_out": block for i, block in enumerate(blocks)}
    return {**found, "last_hidden_state": last, "last_hidden_state_nocp": plain}


@torch.no_grad()
def text(g: Golden, _names: list[str]) -> Tensors:
    """The text encoder by itself, with and without the adapter."""
    encoder, given = g.backbone.text_encoder, (g.input("text_ids"), g.input("text_mask"))
    with outputs_of(encoder.encoder.layer[0]) as layers:
        last = encoder(*given)
    with g.retrieval.disable_adapter():
        plain = encoder(*given)
    return {"layer0_out": layers[0], "last_hidden_state": last, "last_hidden_state_nocp": plain}


@torch.no_grad()
def multimodal(g: Golden, _names: list[str]) -> Tensors:
    """The text encoder with pictures: everything, the query gates alone, neither."""
    encoder, images = g.backbone.text_encoder, g.input("images")
    given = (g.input("enc_text_ids"), g.input("text_mask"))

    def fused() -> Tensor:
        return encoder(*given, encoder.cross_keys(g.backbone.vision_model(images)))

    with outputs_of(encoder.encoder.layer[0]) as layers:
        last = fused()
    with without_updates(g.retrieval):
        gates = fused()
    with g.retrieval.disable_adapter():
        plain = fused()
    return {
        "layer0_out": layers[0],
        "last_hidden_state": last,
        "gqt_only_last_hidden_state": gates,
        "last_hidden_state_nocp_nogqt": plain,
    }


@torch.no_grad()
def frame_aware(g: Golden, _names: list[str]) -> Tensors:
    """Fusion with videos, keys scaled by given weights and not."""
    encoder, given = g.backbone.text_encoder, (g.input("enc_text_ids"), g.input("text_mask"))
    states = g.backbone.vision_model(g.input("frames"))
    keys = encoder.cross_keys(states)
    scale = frame_key_scale(g.input("frame_aware_attention_weight"), states.shape[1])
    return {
        "video_embeds": states,
        "last_hidden_state": encoder(*given, keys.scaled(scale)),
        "last_hidden_state_without_weight": encoder(*given, keys),
    }


@torch.no_grad()
def itc(g: Golden, _names: list[str]) -> Tensors:
    """Features of pictures, videos, frames and texts."""
    backbone, frames = g.backbone, g.input("frames")
    states, video = backbone.encode_image(frames)
    return {
        "image_feat": backbone.encode_image(g.input("images"))[1],
        "video_feat": video,
        "frame_feat": backbone.frame_features(states, frames.shape[1]),
        "text_feat": backbone.encode_text(g.input("text_ids"), g.input("text_mask"))[1],
    }


@torch.no_grad()
def itm(g: Golden, _names: list[str]) -> Tensors:
    """Matching logits at inference."""
    keys = g.backbone.cross_keys(g.backbone.encode_image(g.input("images"))[0])
    return {"logits": g.backbone.match(g.input("text_ids"), g.input("text_mask"), keys)}


@torch.no_grad()
def deltaw(g: Golden, _names: list[str]) -> Tensors:
    """Every map's change of its weight: a part of it, its norm and two products."""
    found = {}
    for name, delta in _deltas(g.backbone):
        steps = [48 if size == 4 * WIDTH else 16 for size in delta.shape]
        out, inner = (
            torch.from_numpy(g.fill.normal(f"probe.{side}", size)).double()
            for side, size in zip(("out", "in"), delta.shape, strict=True)
        )
        found[f"{name}/sub"] = delta[:: steps[0], :: steps[1]]
        found[f"{name}/fro"] = delta.norm()
        found[f"{name}/right"] = delta @ inner
        found[f"{name}/left"] = out @ delta
    return found


def _deltas(backbone: Any) -> Iterator[tuple[str, Tensor]]:
    for i, layer in enumerate(backbone.vision_model.encoder.layers):
        fused = layer.self_attn.qkv.get_delta_weight("default")
        for name, part in zip("qkv", fused.chunk(3), strict=True):
            yield f"vit.{i}.attn.{name}", part
        yield f"vit.{i}.attn.proj", layer.self_attn.projection.get_delta_weight("default")
        yield f"vit.{i}.mlp.fc1", layer.mlp.fc1.get_delta_weight("default")
        yield f"vit.{i}.mlp.fc2", layer.mlp.fc2.get_delta_weight("default")
    for i, layer in enumerate(backbone.text_encoder.encoder.layer):
        for kind, maps in (("self", layer.attention.self), ("cross", layer.crossattention.self)):
            for name in ("query", "key", "value"):
                delta = getattr(maps, name).get_delta_weight("default")
                yield f"text.{i}.{kind}.{name[0]}", delta


GROUPS: dict[str, Callable[[Golden, list[str]], Tensors]] = {
    "fill_check": fill_check,
    "deltaw": deltaw,
    "vit": vit,
    "text": text,
    "multimodal": multimodal,
    "frame_aware": frame_aware,
    "itc": itc,
    "itm": itm,
    "retrieval_a": lambda g, _: retrieval_case(g),
    "retrieval_a_f32targets": lambda g, _: retrieval_case(g, float32_targets=True),
    "retrieval_b": lambda g, _: retrieval_case(g, drawn_momentum=True),
    "retrieval_dupidx": lambda g, _: retrieval_case(g, repeated=True),
    "retrieval_video": lambda g, _: retrieval_case(g, "train_videos"),
    "train3": train3,
    "vqa": vqa,
    "vqa_video": vqa_video,
}
