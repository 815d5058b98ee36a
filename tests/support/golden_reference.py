"""Golden files by another way: transformers' BLIP, plain formulas, nothing of ours.

The released model is put together from transformers' modules, whose linear maps get their updates
and whose text layers get their gates by hooks, written down from tests/golden/README.md. `golden`
makes every tensor of a golden file for any prefix; with the empty one it must give the stored file.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BlipTextConfig, BlipVisionConfig
from transformers.models.blip.modeling_blip import BlipVisionModel
from transformers.models.blip.modeling_blip_text import BlipTextLMHeadModel, BlipTextModel

Tensors = dict[str, Tensor]
D, R, LAYERS = 768, 8, 2
ENC, BOS, SEP = 199, 198, 102
VISION = (
    ("visual_encoder.cls_token", "embeddings.class_embedding"),
    ("visual_encoder.pos_embed", "embeddings.position_embedding"),
    ("visual_encoder.patch_embed.proj.", "embeddings.patch_embedding."),
    ("visual_encoder.blocks.", "encoder.layers."),
    ("visual_encoder.norm.", "post_layernorm."),
    (".attn.qkv.", ".self_attn.qkv."),
    (".attn.proj.", ".self_attn.projection."),
    (".norm1.", ".layer_norm1."),
    (".norm2.", ".layer_norm2."),
)


def normal(prefix: str, name: str, *shape: int) -> Tensor:
    seed = zlib.crc32((prefix + name).encode())
    numbers = np.random.Generator(np.random.PCG64(seed)).standard_normal(
        int(np.prod(shape)), dtype=np.float32
    )
    return torch.from_numpy(numbers.reshape(shape).astype(np.float64))


def parameter(prefix: str, name: str, shape: list[int]) -> Tensor:
    if name == "temp":
        return torch.tensor(0.07, dtype=torch.float64)
    f = normal(prefix, name, *shape)
    if re.search(r"(LayerNorm|norm1|norm2|visual_encoder(_m)?\.norm)\.weight$", name):
        return 1 + 0.02 * f
    if name in ("CP_U.weight", "CP_V.weight"):
        return 0.05 * f
    wide = name == "CP_C" or re.search(
        r"(CP_attention|mlp_CP|[qkv]_CP|CP_(scale|shift)(self|cross))$", name
    )
    return (0.5 if wide else 0.02) * f


class Reference:
    """The released model over transformers' modules.

    Args:
        prefix: of every name that seeds numbers.
        shapes: the reference's parameters, momentum copies included.
    """

    def __init__(self, prefix: str, shapes: Mapping[str, list[int]]) -> None:
        self.prefix = prefix
        self.shapes = {n: s for n, s in shapes.items() if "_m." not in n}
        self.p = {n: parameter(prefix, n, s) for n, s in self.shapes.items()}
        for name, tensor in self.p.items():
            tensor.requires_grad_("CP" in name or name.startswith(("vision_proj", "itm_head")))
        self.updates = self.gates = True
        self.key_scale: Tensor | None = None
        self.vision = self._vision()
        self.text = self._text("text_encoder", BlipTextModel)
        if any(name.startswith("text_decoder") for name in shapes):
            self.decoder = self._text("text_decoder", BlipTextLMHeadModel)

    @property
    def trained(self) -> Tensors:
        return {name: tensor for name, tensor in self.p.items() if tensor.requires_grad}

    # ------------------------------------------------------------------ the updates

    def core(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.p["CP_U.weight"], self.p["CP_V.weight"], self.p["CP_C"]

    def square(self, mode: Tensor) -> Tensor:
        u, v, c = self.core()
        return v @ torch.einsum("abk,k->ba", c, mode) @ u

    def mlp(self, modes: Tensor, second: bool) -> Tensor:
        """fc1 (3072, 768) or fc2 (768, 3072) from modes (R, 8), columns interleaved."""
        u, v, c = self.core()
        whole = torch.einsum("abk,kc->abc", c, modes[:, 4:] if second else modes[:, :4])
        parts = whole.reshape(R, 4 * R).split(R, dim=1)
        if second:
            return torch.cat([v @ part @ u for part in parts], dim=1)
        return torch.cat([v @ part.T @ u for part in parts], dim=0)

    def delta(self, kind: str, layer: int, name: str) -> Tensor:
        """By the file's names: of a layer of the vision encoder ("vit") or of a text model."""
        block, part = name.split(".")
        if kind == "vit":
            root = f"visual_encoder.blocks.{layer}"
            if block == "mlp":
                return self.mlp(self.p[f"{root}.mlp.mlp_CP"], part == "fc2")
            column = ("q", "k", "v", "proj").index(part)
            return self.square(self.p[f"{root}.attn.CP_attention"][:, column])
        attention = {"self": "attention", "cross": "crossattention"}[block]
        return self.square(self.p[f"{kind}.encoder.layer.{layer}.{attention}.self.{part}_CP"][:, 0])

    def _vision(self) -> nn.Module:
        config = BlipVisionConfig(
            hidden_size=D,
            intermediate_size=4 * D,
            num_hidden_layers=LAYERS,
            num_attention_heads=12,
            image_size=32,
            patch_size=16,
            layer_norm_eps=1e-6,
        )
        model = BlipVisionModel(config).double().eval()
        state = {}
        for name, tensor in self.p.items():
            if name.startswith("visual_encoder") and "CP" not in name:
                for theirs, ours in VISION:
                    name = name.replace(theirs, ours)
                state[name] = tensor
        model.load_state_dict(state)
        for i, layer in enumerate(model.encoder.layers):
            places = {
                layer.self_attn.qkv: ("attn.q", "attn.k", "attn.v"),
                layer.self_attn.projection: ("attn.proj",),
                layer.mlp.fc1: ("mlp.fc1",),
                layer.mlp.fc2: ("mlp.fc2",),
            }
            for linear, names in places.items():
                linear.register_forward_hook(self._updated("vit", i, names))
        return model

    def _text(self, root: str, kind: type[nn.Module]) -> Any:
        config = BlipTextConfig(
            vocab_size=200,
            hidden_size=D,
            encoder_hidden_size=D,
            intermediate_size=4 * D,
            num_hidden_layers=LAYERS,
            num_attention_heads=12,
            max_position_embeddings=64,
            layer_norm_eps=1e-12,
            hidden_act="gelu",
            is_decoder=True,
        )
        decodes = kind is BlipTextLMHeadModel
        given: dict[str, Any] = {} if decodes else {"add_pooling_layer": False}
        model = kind(config, **given).double().eval()
        names = [n for n in self.p if n.startswith(f"{root}.") and "CP" not in n]
        state = {name.removeprefix(f"{root}."): self.p[name] for name in names}
        missing, unexpected = model.load_state_dict(state, strict=False)
        assert not unexpected
        assert set(missing) <= {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}
        if decodes:
            model.cls.predictions.decoder.weight = model.bert.embeddings.word_embeddings.weight
            model.cls.predictions.decoder.bias = model.cls.predictions.bias
        inner, path = (model.bert, f"{root}.bert") if decodes else (model, root)
        for i, layer in enumerate(inner.encoder.layer):
            for short, block in (("self", layer.attention), ("cross", layer.crossattention)):
                maps = {"q": block.self.query, "k": block.self.key, "v": block.self.value}
                for name, linear in maps.items():
                    linear.register_forward_hook(self._updated(path, i, (f"{short}.{name}",)))
            layer.crossattention.self.key.register_forward_hook(self._scaled)
            self._gate(layer, f"{path}.encoder.layer.{i}")
        return model

    def _updated(self, kind: str, layer: int, names: tuple[str, ...]) -> Any:
        def hook(_module: nn.Module, inputs: tuple[Tensor], out: Tensor) -> Tensor | None:
            if not self.updates:
                return None
            deltas = [self.delta(kind, layer, name) for name in names]
            return out + inputs[0] @ torch.cat(deltas).T

        return hook

    def _scaled(self, _module: nn.Module, _inputs: Any, out: Tensor) -> Tensor | None:
        return None if self.key_scale is None else out * self.key_scale[..., None]

    def _gate(self, layer: Any, root: str) -> None:
        seen: Tensors = {}

        def keep(name: str) -> Any:
            return lambda _m, _i, out: seen.update({name: out})

        layer.attention.output.register_forward_hook(keep("self"))
        layer.crossattention.output.register_forward_hook(keep("cross"))

        def hook(_module: nn.Module, _inputs: Any, out: Tensor) -> Tensor | None:
            if "cross" not in seen or not self.gates:
                seen.clear()
                return None
            for name in ("self", "cross"):
                scale, shift = (self.p[f"{root}.CP_{what}{name}"] for what in ("scale", "shift"))
                out = out + 0.1 * (seen[name] * scale + shift)
            seen.clear()
            return out

        layer.register_forward_hook(hook)

    @contextmanager
    def using(self, **changes: Any) -> Iterator[None]:
        before = {name: getattr(self, name) for name in changes}
        for name, value in changes.items():
            setattr(self, name, value)
        try:
            yield
        finally:
            for name, value in before.items():
                setattr(self, name, value)

    # ------------------------------------------------------------------ states and features

    def images(self, pixels: Tensor) -> Tensor:
        """States (B, T, N, d); a picture is a video of one frame."""
        frames = pixels if pixels.ndim == 5 else pixels[:, None]
        states = self.vision(frames.flatten(0, 1)).last_hidden_state
        return states.unflatten(0, frames.shape[:2])

    def words(self, ids: Tensor, mask: Tensor, states: Tensor | None = None) -> Tensor:
        found: Tensor = self.text(
            ids, attention_mask=mask, encoder_hidden_states=states
        ).last_hidden_state
        return found

    def projected(self, name: str, x: Tensor) -> Tensor:
        return F.normalize(F.linear(x, self.p[f"{name}.weight"], self.p[f"{name}.bias"]), dim=-1)

    def features(self, pixels: Tensor, ids: Tensor, mask: Tensor) -> Tensors:
        states = self.images(pixels)
        cls = self.words(ids, mask)[:, 0]
        return {
            "states": states,
            "text_cls": cls,
            "image": self.projected("vision_proj", states[:, :, 0].mean(1)),
            "frames": self.projected("vision_proj", states[:, :, 0]),
            "text": self.projected("text_proj", cls),
        }

    def match(self, ids: Tensor, mask: Tensor, states: Tensor) -> Tensor:
        ids = torch.cat([torch.full_like(ids[:, :1], ENC), ids[:, 1:]], dim=1)
        return self.words(ids, mask, states.flatten(1, 2))[:, 0]

    def logits(self, fused: Tensor) -> Tensor:
        return F.linear(fused, self.p["itm_head.weight"], self.p["itm_head.bias"])


def key_scale(similarity: Tensor, tokens: int) -> Tensor:
    """(B, T tokens): T softmax(sim / 4) for patches, 1 for each frame's [CLS]."""
    frames = similarity.shape[1]
    each = (frames * (similarity.detach() / 4).softmax(1))[..., None].repeat(1, 1, tokens)
    each[..., 0] = 1
    return each.flatten(1)


class Batches:
    """Retrieval batches with queue and momentum copy."""

    def __init__(self, model: Reference, inputs: Tensors, drawn: Mapping[str, list[int]]) -> None:
        self.model, self.inputs = model, inputs
        self.queues = {k: inputs[f"{k}_queue"].clone() for k in ("image", "text")}
        self.index, self.start = torch.full((8,), -100), 0
        self.average = {name: tensor.detach().clone() for name, tensor in model.p.items()}
        for name, shape in drawn.items():
            live = re.sub(r"^(visual_encoder|text_encoder|vision_proj)_m", r"\1", name)
            self.average[live] = parameter(model.prefix, name, shape)

    def momentum(self, *given: Tensor) -> Tensors:
        live = self.model.p
        shared = ("CP_U.weight", "CP_V.weight", "CP_C")
        for name, average in self.average.items():
            average.mul_(0.995).add_(0.005 * live[name].detach())
        used = {**self.average, **{name: live[name] for name in shared}}
        with torch.no_grad(), self.model.using(p=used):
            return self.model.features(*given)

    def step(self, pixels: Tensor, index: Tensor, float32: bool = False) -> Tensors:
        model, temperature = self.model, self.model.p["temp"]
        ids, mask = self.inputs["train_text_ids"], self.inputs["train_text_mask"]
        live, slow = model.features(pixels, ids, mask), self.momentum(pixels, ids, mask)
        every = {k: torch.cat([slow[k].T, self.queues[k]], 1) for k in self.queues}
        same = index[:, None] == torch.cat([index, self.index])[None]
        same = same.float() if float32 else same.double()
        losses = []
        for one, other in (("image", "text"), ("text", "image")):
            soft = (slow[one] @ every[other] / temperature).softmax(1)
            target = 0.4 * soft + 0.6 * (same / same.sum(1, keepdim=True))
            found = (live[one] @ every[other] / temperature).log_softmax(1)
            losses.append(-(found * target).sum(1).mean())
        self.enqueue(slow, index)
        with torch.no_grad():
            alike = index[:, None] == index[None]
            sims = (live["text"] @ live["image"].T / temperature).softmax(1)
            image = sims.masked_fill(alike, 0).argmax(1)
            sims = (live["image"] @ live["text"].T / temperature).softmax(1)
            text = sims.masked_fill(alike, 0).argmax(1)
        logits = self.matching(live, ids, mask, image, text)
        labels = torch.tensor([1] * 4 + [0] * 8)
        return {
            "loss_ita": (losses[0] + losses[1]) / 2,
            "loss_itm": F.cross_entropy(logits, labels),
            "itm_logits": logits,
            "neg_image_idx": image,
            "neg_text_idx": text,
            "image_queue_after": self.queues["image"],
            "text_queue_after": self.queues["text"],
            "idx_queue_after": self.index[None],
            "ptr_after": torch.tensor([self.start]),
        }

    def matching(
        self, live: Tensors, ids: Tensor, mask: Tensor, image: Tensor, text: Tensor
    ) -> Tensor:
        own = torch.arange(4)
        texts, media = torch.cat([own, own, text]), torch.cat([own, image, own])
        states = live["states"][media]
        scale = None
        if states.shape[1] > 1:
            similarity = torch.einsum("rd,rtd->rt", live["text"][texts], live["frames"][media])
            scale = key_scale(similarity, states.shape[2])
        with self.model.using(key_scale=scale):
            fused = self.model.match(ids[texts], mask[texts], states)
        context = 0.1 * live["text_cls"].mean(0)
        return self.model.logits(torch.cat([fused[:4] + context, fused[4:]]))

    def enqueue(self, slow: Tensors, index: Tensor) -> None:
        places = slice(self.start, self.start + 4)
        for kind, queue in self.queues.items():
            queue[:, places] = slow[kind].T
        self.index[places] = index
        self.start = (self.start + 4) % 8


def gradients(loss: Tensor, model: Reference) -> Tensors:
    found = torch.autograd.grad(loss, list(model.trained.values()))
    grads = dict(zip(model.trained, found, strict=True))
    return {f"grad/{n}": g for n, g in grads.items()} | {
        f"grad_norm/{n}": g.norm() for n, g in grads.items()
    }


def states_and_features(model: Reference, x: Tensors) -> Tensors:
    """The groups vit, text, multimodal, frame_aware, itc and itm."""
    found: Tensors = {}
    blocks: list[Tensor] = []
    layer = model.text.encoder.layer[0]
    handles = [
        b.register_forward_hook(lambda _m, _i, o: blocks.append(o))
        for b in model.vision.encoder.layers
    ]
    handles.append(layer.register_forward_hook(lambda _m, _i, o: blocks.append(o)))

    def both(group: str, ids: Tensor, pictures: bool) -> Tensor:
        states = model.images(x["images"]).flatten(1, 2) if pictures else None
        blocks.clear()
        last = model.words(ids, x["text_mask"], states)
        found[f"{group}/layer0_out"] = blocks[0]
        return last

    found["vit/last_hidden_state"] = model.images(x["images"])[:, 0]
    found |= {f"vit/block{i}_out": block for i, block in enumerate(blocks)}
    found["text/last_hidden_state"] = both("text", x["text_ids"], False)
    found["multimodal/last_hidden_state"] = both("multimodal", x["enc_text_ids"], True)
    for handle in handles:
        handle.remove()

    def fused() -> Tensor:
        states = model.images(x["images"]).flatten(1, 2)
        return model.words(x["enc_text_ids"], x["text_mask"], states)

    with model.using(updates=False):
        found["vit/last_hidden_state_nocp"] = model.images(x["images"])[:, 0]
        found["text/last_hidden_state_nocp"] = model.words(x["text_ids"], x["text_mask"])
        found["multimodal/gqt_only_last_hidden_state"] = fused()
        with model.using(gates=False):
            found["multimodal/last_hidden_state_nocp_nogqt"] = fused()
    states = model.images(x["frames"])
    given = (x["enc_text_ids"], x["text_mask"], states.flatten(1, 2))
    found["frame_aware/video_embeds"] = states.flatten(1, 2)
    found["frame_aware/last_hidden_state_without_weight"] = model.words(*given)
    with model.using(key_scale=key_scale(x["frame_aware_attention_weight"], states.shape[2])):
        found["frame_aware/last_hidden_state"] = model.words(*given)
    pictures = model.features(x["images"], x["text_ids"], x["text_mask"])
    videos = model.features(x["frames"], x["text_ids"], x["text_mask"])
    found |= {"itc/image_feat": pictures["image"], "itc/text_feat": pictures["text"]}
    found |= {"itc/video_feat": videos["image"], "itc/frame_feat": videos["frames"]}
    fused_cls = model.match(x["text_ids"], x["text_mask"], pictures["states"])
    return found | {"itm/logits": model.logits(fused_cls)}


def updates(model: Reference) -> Tensors:
    """The group deltaw."""
    found = {}
    vision = [*(f"attn.{name}" for name in ("q", "k", "v", "proj")), "mlp.fc1", "mlp.fc2"]
    text = [f"{block}.{name}" for block in ("self", "cross") for name in "qkv"]
    for kind, short, places in (("vit", "vit", vision), ("text_encoder", "text", text)):
        for place in places:
            delta = model.delta(kind, 0, place)  # the file has the first layers
            out, inner = delta.shape
            steps = [48 if size == 4 * D else 16 for size in delta.shape]
            key = f"deltaw/{short}.0.{place}"
            found[f"{key}/sub"] = delta[:: steps[0], :: steps[1]]
            found[f"{key}/fro"] = delta.norm()
            found[f"{key}/right"] = delta @ normal(model.prefix, "probe.in", inner)
            found[f"{key}/left"] = normal(model.prefix, "probe.out", out) @ delta
    return found


def retrieval(prefix: str, shapes: Mapping[str, list[int]], x: Tensors) -> Tensors:
    """The groups of retrieval losses and of training."""
    model = Reference(prefix, shapes)
    own = re.compile(r"(visual_encoder_m|text_encoder_m).*CP|vision_proj_m")
    drawn = {name: shape for name, shape in shapes.items() if own.match(name)}
    repeated = x["train_idx"].clone()
    repeated[2] = repeated[0]
    cases: dict[str, tuple[Any, str, Tensor, bool]] = {
        "retrieval_a": ({}, "train_images", x["train_idx"], False),
        "retrieval_a_f32targets": ({}, "train_images", x["train_idx"], True),
        "retrieval_b": (drawn, "train_images", x["train_idx"], False),
        "retrieval_dupidx": ({}, "train_images", repeated, False),
        "retrieval_video": ({}, "train_videos", x["train_idx"], False),
    }
    found: Tensors = {}
    for case, (copies, pixels, index, float32) in cases.items():
        batches = Batches(model, x, copies)
        step = batches.step(x[pixels], index, float32)
        step |= gradients(step["loss_ita"] + step["loss_itm"], model)
        for name, average in batches.average.items():
            slow = re.sub(r"^(visual_encoder|text_encoder|vision_proj)\.", r"\1_m.", name)
            step[f"momentum_after/{slow}"] = average
        found |= {f"{case}/{name}": tensor for name, tensor in step.items()}
    return found | train3(model, x)


def train3(model: Reference, x: Tensors) -> Tensors:
    """Changes the model."""
    batches = Batches(model, x, {})
    optimizer = torch.optim.AdamW(model.trained.values(), lr=1e-3, weight_decay=0.05)
    losses, negatives = [], []
    for number in range(3):
        step = batches.step(x["train_images"], x["train_idx"] + 4 * number)
        optimizer.zero_grad()
        (step["loss_ita"] + step["loss_itm"]).backward()
        optimizer.step()
        losses.append(torch.stack([step["loss_ita"], step["loss_itm"]]).detach())
        negatives.append(torch.cat([step["neg_image_idx"], step["neg_text_idx"]]))
    final = {f"train3/final/{name}": tensor.detach() for name, tensor in model.trained.items()}
    return {
        "train3/losses": torch.stack(losses),
        "train3/neg_idx": torch.stack(negatives),
        **final,
    }


def answering(prefix: str, shapes: Mapping[str, list[int]], x: Tensors) -> Tensors:
    """The groups of question answering; padded states are cut off, row by row."""
    model = Reference(prefix, shapes)
    ids, mask = x["vqa_question_ids"], x["vqa_question_mask"]
    owners = torch.arange(2).repeat_interleave(x["vqa_n"])

    def decoded(answers: Tensor, given: Tensor | None, states: Tensor, rows: Tensor) -> Tensor:
        parts = []
        for row, owner in enumerate(rows.tolist()):
            told = states[owner : owner + 1, : int(mask[owner].sum())]
            padding = None if given is None else given[row : row + 1]
            parts.append(
                model.decoder(
                    answers[row : row + 1], attention_mask=padding, encoder_hidden_states=told
                ).logits
            )
        return torch.cat(parts)

    def negative(logits: Tensor, answers: Tensor, given: Tensor) -> Tensor:
        told = logits[:, :-1].log_softmax(-1).gather(2, answers[:, 1:, None])[..., 0]
        return -(told * given[:, 1:]).sum(1)

    def loss(pixels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        states = model.words(ids, mask, model.images(pixels).flatten(1, 2))
        answers, given = x["vqa_answer_ids"], x["vqa_answer_mask"]
        logits = decoded(answers, given, states, owners)
        each = negative(logits, answers, given)
        count = len(pixels) * (pixels.shape[1] if pixels.ndim == 5 else 1)
        return (x["vqa_weights"] * each).sum() / count, states, logits, each

    whole, states, logits, each = loss(x["images"])
    found = {"loss": whole, "question_states": states, "answer_logits": logits}
    found |= {"per_answer_loss": each, **gradients(whole, model)}
    with torch.no_grad():
        start = torch.full((2, 1), BOS)
        first = decoded(start, None, states, torch.arange(2))[:, 0]
        chances = first.softmax(1)[:, x["vqa_candidate_ids"][:, 1]]
        top, chosen = chances.topk(3, dim=1)
        rows = chosen.flatten()
        answers, given = x["vqa_candidate_ids"][rows], x["vqa_candidate_mask"][rows]
        told = decoded(answers, given, states, torch.arange(2).repeat_interleave(3))
        scores = -negative(told, answers, given).view(2, 3)
        best = chosen.gather(1, scores.argmax(1, keepdim=True))[:, 0]
        found |= {"rank_first_token_logits": first, "rank_topk_ids": chosen}
        found |= {"rank_topk_probs": top, "rank_log_probs_sum": scores, "rank_max_ids_k3": best}
        ended = torch.zeros(2, dtype=torch.bool)
        while start.shape[1] < 10 and not ended.all():
            words = model.decoder(start, encoder_hidden_states=states).logits[:, -1].argmax(-1)
            start = torch.cat([start, words.masked_fill(ended, 0)[:, None]], 1)
            ended |= words == SEP
        found["generate_ids_as_released_enc_mask_ones"] = start
        video = loss(x["frames"])[0]
    return {f"vqa/{name}": tensor for name, tensor in found.items()} | {
        "vqa_video/loss_as_released": video
    }


def drawn_inputs(prefix: str, stored: Tensors) -> Tensors:
    """A file's `input/*`: drawn by the rule where it has one, else as stored."""
    given = {name: t for name, t in stored.items() if name.startswith("input/")}
    for name, tensor in given.items():
        short = name.removeprefix("input/")
        if short.endswith(("images", "frames", "videos")):
            given[name] = normal(prefix, f"input.{short}", *tensor.shape).float()
        elif short.endswith("queue"):
            given[name] = F.normalize(normal(prefix, short, *tensor.shape), dim=0)
    return given


def golden(prefix: str, names: Mapping[str, Mapping[str, list[int]]], stored: Tensors) -> Tensors:
    """Everything that a golden file holds, under the stored file's names.

    Args:
        prefix: of every name that seeds numbers.
        names: param_names.json.
        stored: the file whose layout (and integers among the inputs) is kept; no result is read.
    """
    inputs = drawn_inputs(prefix, stored)
    x = {
        name.removeprefix("input/"): t.double() if t.is_floating_point() else t
        for name, t in inputs.items()
    }
    model = Reference(prefix, names["retrieval"])
    with torch.no_grad():
        found = updates(model) | states_and_features(model, x)
    if any(name.startswith(("retrieval_", "train3/")) for name in stored):
        found |= retrieval(prefix, names["retrieval"], x)
    found |= answering(prefix, names["vqa"], x)
    for name in stored:
        group, _, rest = name.partition("/")
        if group == "fill_check":
            found[name] = normal(prefix, rest, 8).float()
    found |= inputs
    return {name: found[name].detach().contiguous().clone() for name in stored}
