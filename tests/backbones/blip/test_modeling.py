"""What the backbone promises beyond parity: reuse of keys, masks, slots, decoding."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import BlipConfig

from aurora_vl.backbones.blip.modeling import (
    AnswerCache,
    BlipForQuestionAnswering,
    BlipForRetrieval,
    CrossKeys,
)

Fill = Callable[..., nn.Module]


assert_close = partial(torch.testing.assert_close, rtol=0, atol=1e-10)


class Gate(nn.Module):
    """A slot that mixes in the mean over the tokens it may look at, as the gated form does."""

    def forward(
        self, f: Tensor, s: Tensor, c: Tensor, token_mask: Tensor | None, causal: bool
    ) -> Tensor:
        seen = torch.ones_like(f[..., :1]) if token_mask is None else token_mask[..., None]
        states = (s + c) * seen
        if not causal:
            return f + states.sum(1, keepdim=True) / seen.sum(1, keepdim=True)
        return f + states.cumsum(1) / seen.cumsum(1)


def put_gates(model: nn.Module) -> None:
    for module in list(model.modules()):
        if hasattr(module, "query_slot"):
            module.query_slot = Gate()


@pytest.fixture
def retrieval(config: BlipConfig, fill: Fill) -> Any:
    return fill(BlipForRetrieval(config))


@pytest.fixture
def vqa(config: BlipConfig, fill: Fill) -> Any:
    return fill(BlipForQuestionAnswering(config))


# ------------------------------------------------------------------------------ cross keys


@torch.no_grad()
def test_keys_of_one_picture_serve_many_texts(
    retrieval: Any, pixels: Tensor, ids: Tensor, mask: Tensor
) -> None:
    states, _ = retrieval.encode_image(pixels)
    one = retrieval.cross_keys(states[:1])
    expected = retrieval.match(ids, mask, retrieval.cross_keys(states[:1].expand(3, -1, -1)))
    assert_close(retrieval.match(ids, mask, one), expected)
    assert_close(retrieval.match(ids, mask, one.expand(3)), expected)
    assert one.expand(3).keys[0].data_ptr() == one.keys[0].data_ptr()


@torch.no_grad()
def test_runs_of_texts_share_a_row(retrieval: Any, ids: Tensor, mask: Tensor) -> None:
    """Six texts on two pictures, of which the second has masked states."""
    texts, padding = torch.cat([ids, ids.flip(0)]), torch.cat([mask, mask.flip(0)])
    states = torch.randn(2, 5, 24, dtype=torch.float64)
    seen = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    cross = retrieval.cross_keys(states, seen)
    rows = torch.tensor([0, 0, 0, 1, 1, 1])
    repeated = retrieval.cross_keys(states[rows], seen[rows])
    assert_close(
        retrieval.match(texts, padding, cross),
        retrieval.match(texts, padding, repeated),
    )
    assert_close(
        retrieval.match(texts, padding, cross.select(rows)),
        retrieval.match(texts, padding, repeated),
    )


def test_rows_that_do_not_divide_are_refused(retrieval: Any, ids: Tensor) -> None:
    cross = retrieval.cross_keys(torch.randn(2, 5, 24, dtype=torch.float64))
    with pytest.raises(ValueError, match="3 texts cannot share 2 rows"):
        retrieval.match(ids, None, cross)
    with pytest.raises(ValueError, match="only one row"):
        cross.expand(4)


def test_scaling_touches_keys_alone() -> None:
    keys, values = torch.randn(1, 2, 3, 4), torch.randn(1, 2, 3, 4)
    scale = torch.rand(5, 3, dtype=torch.float64)
    scaled = CrossKeys((keys,), (values,), torch.ones(1, 3)).scaled(scale)
    assert scaled.rows == 5
    assert scaled.keys[0].dtype == torch.float32
    torch.testing.assert_close(scaled.keys[0][4, 1, 2], keys[0, 1, 2] * scale[4, 2].float())
    assert scaled.values[0].equal(values.expand(5, -1, -1, -1))
    assert scaled.mask is not None
    assert scaled.mask.shape == (5, 3)


@torch.no_grad()
def test_scaling_changes_attention_as_it_should(retrieval: Any, ids: Tensor) -> None:
    """A key scaled by 0 is seen as a zero key; a scale of 1 changes nothing."""
    states = torch.randn(3, 5, 24, dtype=torch.float64)
    cross = retrieval.cross_keys(states)
    assert_close(
        retrieval.match(ids, None, cross.scaled(torch.ones(3, 5))),
        retrieval.match(ids, None, cross),
    )
    scale = torch.ones(3, 5)
    scale[:, 2] = 0
    for key in cross.keys:
        key[:, :, 2] = 0
    assert_close(
        retrieval.match(ids, None, retrieval.cross_keys(states).scaled(scale)),
        retrieval.match(ids, None, cross),
    )


# ----------------------------------------------------------------------- padding and causality


@torch.no_grad()
@pytest.mark.parametrize("gated", [False, True])
def test_padding_a_text_changes_nothing(
    retrieval: Any, pixels: Tensor, ids: Tensor, mask: Tensor, gated: bool
) -> None:
    if gated:
        put_gates(retrieval)
    states, _ = retrieval.encode_image(pixels)
    cross = retrieval.cross_keys(states)
    short, row = ids[1:2, :3], torch.tensor([1])
    assert_close(retrieval.encode_text(ids, mask)[0][1:2], retrieval.encode_text(short)[0])
    assert_close(
        retrieval.match(ids, mask, cross)[1:2], retrieval.match(short, None, cross.select(row))
    )


@torch.no_grad()
@pytest.mark.parametrize("num_beams", [1, 3])
def test_padding_a_question_changes_nothing(
    vqa: Any, pixels: Tensor, ids: Tensor, mask: Tensor, num_beams: int
) -> None:
    answers = ids[:, :4]
    padded = vqa(pixels, ids, mask, answers)
    alone = vqa(pixels[1:2], ids[1:2, :3], None, answers[1:2])
    assert_close(padded[1:2], alone)
    generated = vqa.generate(pixels, ids, mask, max_new_tokens=5, num_beams=num_beams)
    single = vqa.generate(pixels[1:2], ids[1:2, :3], max_new_tokens=5, num_beams=num_beams)
    assert generated[1, : single.shape[1]].equal(single[0])


@torch.no_grad()
def test_padding_an_answer_changes_nothing(vqa: Any, pixels: Tensor, ids: Tensor) -> None:
    cross = vqa.question_keys(vqa.encode_question(pixels, ids))
    answers = ids.clone()
    answers[:, 4:] = 0
    mask = (answers != 0).long()
    assert_close(
        vqa.answer_logits(answers, mask, cross)[:, :4],
        vqa.answer_logits(answers[:, :4], None, cross),
    )


@torch.no_grad()
@pytest.mark.parametrize("gated", [False, True])
def test_later_tokens_change_nothing_in_the_decoder(
    vqa: Any, pixels: Tensor, ids: Tensor, gated: bool
) -> None:
    if gated:
        put_gates(vqa)
    cross = vqa.question_keys(vqa.encode_question(pixels, ids))
    changed = ids.clone()
    changed[:, 4:] = 7
    one, other = vqa.answer_logits(ids, None, cross), vqa.answer_logits(changed, None, cross)
    assert_close(one[:, :4], other[:, :4])
    assert not torch.allclose(one[:, 4:], other[:, 4:])


@torch.no_grad()
def test_several_answers_share_a_question(vqa: Any, pixels: Tensor, ids: Tensor) -> None:
    cross = vqa.question_keys(vqa.encode_question(pixels, ids))
    answers = torch.cat([ids, ids + 1])  # two each for questions 0, 1 and 2
    rows = torch.tensor([0, 0, 1, 1, 2, 2])
    assert_close(
        vqa.answer_logits(answers, None, cross),
        vqa.answer_logits(answers, None, cross.select(rows)),
    )


@torch.no_grad()
def test_masked_image_states_are_not_seen(vqa: Any, pixels: Tensor, ids: Tensor) -> None:
    states = vqa.vision_model(pixels)
    seen = torch.tensor([[1, 1, 1, 0, 0]] * 3)
    assert_close(
        vqa.encode_question(states, ids, None, seen), vqa.encode_question(states[:, :3], ids)
    )


# ------------------------------------------------------------------------------------- slots


@torch.no_grad()
def test_slot_is_called_with_the_layers_states(
    retrieval: Any, pixels: Tensor, ids: Tensor, mask: Tensor
) -> None:
    calls: list[tuple[Any, ...]] = []
    for layer in retrieval.text_encoder.encoder.layer:
        layer.query_slot.register_forward_hook(lambda _, inputs, out: calls.append((*inputs, out)))
    layer = retrieval.text_encoder.encoder.layer[0]
    attended: list[Tensor] = []
    for attention in (layer.attention, layer.crossattention):
        attention.register_forward_hook(lambda _, inputs, out: attended.append(out))
    retrieval.encode_text(ids, mask)
    assert not calls  # self-attention alone: no slot
    attended.clear()
    retrieval.match(ids, mask, retrieval.cross_keys(retrieval.encode_image(pixels)[0]))
    assert len(calls) == 2
    f, s, c, token_mask, causal, out = calls[0]
    assert s is attended[0]
    assert c is attended[1]
    assert f.equal(layer.output(layer.intermediate(c), c))
    assert token_mask is mask
    assert causal is False
    assert out is f


# --------------------------------------------------------------------------------- generation


@torch.no_grad()
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("num_beams", [1, 3])
def test_generation_with_and_without_cache(
    vqa: Any, pixels: Tensor, ids: Tensor, mask: Tensor, num_beams: int, gated: bool
) -> None:
    if gated:
        put_gates(vqa)
    lengths: list[int] = []
    vqa.text_decoder.bert.register_forward_hook(lambda _, inputs, out: lengths.append(out.shape[1]))
    keywords = {"max_new_tokens": 7, "num_beams": num_beams, "eos_token_id": None}
    keywords["no_repeat_ngram_size"] = 1  # for answers that vary
    cached = vqa.generate(pixels, ids, mask, **keywords)
    assert set(lengths) == {1}
    lengths.clear()
    plain = vqa.generate(pixels, ids, mask, use_cache=False, **keywords)
    assert max(lengths) == 7
    assert cached.shape == (3, 8)
    assert len(set(cached.flatten().tolist())) > 10
    assert cached.equal(plain)


@torch.no_grad()
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_decoding_in_pieces_equals_decoding_at_once(
    vqa: Any, pixels: Tensor, ids: Tensor, mask: Tensor, gated: bool, masked: bool
) -> None:
    """Two, three and one token at a time; padding stands in the midst of a row as well."""
    if gated:
        put_gates(vqa)
    padding = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 0, 1, 1, 0, 1], [1, 1, 0, 1, 1, 1]])
    cross = vqa.question_keys(vqa.encode_question(pixels, ids, mask), mask)
    whole = vqa.answer_logits(ids, padding if masked else None, cross)
    cache = AnswerCache()
    pieces = [
        vqa.text_decoder(
            ids[:, start:end], padding[:, :end] if masked else None, cross, cache
        ).logits
        for start, end in [(0, 2), (2, 5), (5, 6)]
    ]
    assert_close(torch.cat(pieces, dim=1), whole)


@torch.no_grad()
def test_greedy_is_the_argmax_rolled_out(
    vqa: Any, pixels: Tensor, ids: Tensor, mask: Tensor
) -> None:
    text_config = vqa.config.text_config
    cross = vqa.question_keys(vqa.encode_question(pixels, ids, mask), mask)
    rolled = torch.full((3, 1), text_config.bos_token_id)
    ended = torch.zeros(3, dtype=torch.bool)
    for _ in range(8):
        best = vqa.answer_logits(rolled, None, cross)[:, -1].argmax(-1)
        rolled = torch.cat([rolled, best.masked_fill(ended, 0)[:, None]], dim=1)
        ended |= best == text_config.sep_token_id
    generated = vqa.generate(pixels, ids, mask, max_new_tokens=8)
    assert rolled[:, : generated.shape[1]].equal(generated)
    assert (rolled[:, generated.shape[1] :] == 0).all()


# ----------------------------------------------------------------------- training, checkpointing


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable:FutureWarning")
@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_gives_the_same_gradients(
    vqa: Any, pixels: Tensor, ids: Tensor, mask: Tensor, reentrant: bool
) -> None:
    put_gates(vqa)
    vqa.train()  # all dropout is 0 in this configuration

    def gradients() -> dict[str, Tensor]:
        vqa.zero_grad()
        vqa(pixels, ids, mask, ids[:, :4]).square().sum().backward()
        return {name: p.grad.clone() for name, p in vqa.named_parameters() if p.grad is not None}

    plain = gradients()
    assert len(plain) > 50
    vqa.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    calls: list[int] = []
    layers = [*vqa.vision_model.encoder.layers, *vqa.text_encoder.encoder.layer]
    for layer in layers:
        part = layer.self_attn if hasattr(layer, "self_attn") else layer.attention
        part.register_forward_hook(lambda *_: calls.append(1))
    checkpointed = gradients()
    assert len(calls) == 2 * len(layers)  # each ran again in the backward pass
    assert checkpointed.keys() == plain.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient, rtol=1e-9, atol=1e-9)


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable:FutureWarning")
def test_input_hooks_do_not_meet_changes_in_place(
    retrieval: Any, pixels: Tensor, ids: Tensor
) -> None:
    """PEFT makes embeddings require gradients by a hook; changing them in place would fail."""
    retrieval.requires_grad_(False).train()
    retrieval.enable_input_require_grads()
    retrieval.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    layer = retrieval.text_encoder.encoder.layer[0].attention.self.query.requires_grad_(True)
    retrieval.match(
        ids, None, retrieval.cross_keys(retrieval.encode_image(pixels)[0])
    ).sum().backward()
    assert layer.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("part", "key"),
    [
        ("text_config", "hidden_dropout_prob"),
        ("text_config", "attention_probs_dropout_prob"),
        ("vision_config", "attention_dropout"),
    ],
)
def test_dropout_as_configured_and_only_in_training(
    config: BlipConfig, fill: Fill, pixels: Tensor, ids: Tensor, part: str, key: str
) -> None:
    setattr(getattr(config, part), key, 0.5)
    model: Any = fill(BlipForRetrieval(config))

    def logits() -> Tensor:
        return model.match(ids, None, model.cross_keys(model.encode_image(pixels)[0]))

    assert logits().equal(logits())
    model.train()
    assert not torch.allclose(logits(), logits())


def test_functional_call_reaches_every_part(
    retrieval: Any, pixels: Tensor, ids: Tensor, mask: Tensor
) -> None:
    """A shadow copy of the parameters, as the momentum model uses it."""
    shadow = {name: p.detach() * 1.1 for name, p in retrieval.named_parameters()}
    out = torch.func.functional_call(retrieval, shadow, (pixels, ids, mask))
    live = retrieval(pixels, ids, mask)
    retrieval.load_state_dict(shadow)
    expected = retrieval(pixels, ids, mask)
    for shadowed, own, tensor in zip(out[:4], live[:4], expected[:4], strict=True):
        assert_close(shadowed, tensor)
        assert not torch.allclose(own, tensor)


def test_temperature_divides(retrieval: Any) -> None:
    with torch.no_grad():
        retrieval.temperature.weight.fill_(0.5)
    assert retrieval.temperature(torch.tensor(3.0)).item() == 6.0


def test_pictures_of_another_size_are_refused(retrieval: Any) -> None:
    with pytest.raises(ValueError, match="24 x 16 pixels were given to a model for 16 x 16"):
        retrieval.encode_image(torch.zeros(1, 3, 24, 16))


def test_heads_must_divide_the_width(config: BlipConfig) -> None:
    config.text_config.num_attention_heads = 3
    with pytest.raises(ValueError, match="16 is not a multiple of 3 heads"):
        BlipForRetrieval(config)
