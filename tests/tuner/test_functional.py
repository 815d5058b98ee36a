"""The algebra against explicit dense constructions and the released arithmetic's values."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from aurora_vl.tuner import functional

RELEASED = Path(__file__).parent / "data" / "released_deltas.safetensors"


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def parts(
    core: str, out_blocks: int, in_blocks: int, r: int = 4, d_in: int = 5, d_out: int = 3
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """U, V, core and P of a small map."""
    return (
        draw(r, d_in, seed=1),
        draw(d_out, r, seed=2),
        draw(r, seed=3) if core == "cp" else draw(r, r, r, seed=3),
        draw(out_blocks, in_blocks, r, seed=4),
    )


def dense(u: Tensor, v: Tensor, core: Tensor, modes: Tensor) -> Tensor:
    """delta W block by block, as docs/method.md writes it."""
    rows = []
    for row in modes:
        blocks = []
        for p in row:
            if core.dim() == 1:
                blocks.append(v @ torch.diag(core * p) @ u)
            else:
                m = sum(core[:, :, k] * p[k] for k in range(len(p)))
                blocks.append(v @ m.T @ u)
        rows.append(torch.cat(blocks, 1))
    return torch.cat(rows, 0)


SHAPES = [(1, 1), (3, 1), (1, 4), (2, 3), (3, 2)]


@pytest.mark.parametrize(("out_blocks", "in_blocks"), SHAPES)
@pytest.mark.parametrize("core", ["cp", "tucker"])
def test_delta_is_the_sum_of_its_blocks(core: str, out_blocks: int, in_blocks: int) -> None:
    tensors = parts(core, out_blocks, in_blocks)
    expected = dense(*tensors)
    torch.testing.assert_close(functional.delta_weight(*tensors), expected)
    down, up = functional.low_rank_factors(*tensors)
    assert down.shape[0] == 4 * min(out_blocks, in_blocks)
    torch.testing.assert_close(up @ down, expected)


@pytest.mark.parametrize(("out_blocks", "in_blocks"), SHAPES)
@pytest.mark.parametrize("core", ["cp", "tucker"])
def test_forward_adds_what_the_dense_delta_adds(core: str, out_blocks: int, in_blocks: int) -> None:
    u, v, c, modes = (t.requires_grad_() for t in parts(core, out_blocks, in_blocks))
    x = draw(2, 7, 5 * in_blocks, seed=5).requires_grad_()
    base = draw(2, 7, 3 * out_blocks, seed=6)
    weight = draw(2, 7, 3 * out_blocks, seed=7)
    direct = base + 0.5 * x @ dense(u, v, c, modes).T
    wanted = torch.autograd.grad((direct * weight).sum(), [x, u, v, c, modes])
    result = functional.add_delta(base, x, u, v, c, modes, scaling=0.5)
    torch.testing.assert_close(result, direct)
    found = torch.autograd.grad((result * weight).sum(), [x, u, v, c, modes])
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 6), st.integers(1, 5), st.booleans())
@settings(max_examples=25, deadline=None)
def test_any_sizes(out_blocks: int, in_blocks: int, r: int, width: int, tucker: bool) -> None:
    tensors = parts("tucker" if tucker else "cp", out_blocks, in_blocks, r, width, width + 1)
    x = draw(3, width * in_blocks, seed=8)
    result = functional.add_delta(torch.zeros(3, (width + 1) * out_blocks).double(), x, *tensors)
    torch.testing.assert_close(result, x @ dense(*tensors).T)


def released_fc1(u: Tensor, v: Tensor, core: Tensor, modes: Tensor) -> Tensor:
    """delta W of fc1 by the released code's index formula; modes (4, 1, R)."""
    r, width = u.shape
    mixed = torch.einsum("abk,ck->abc", core, modes[:, 0])
    g = torch.zeros(r, 4 * r).double()
    for b in range(r):
        for c in range(4):
            g[:, 4 * b + c] = mixed[:, b, c]
    delta = torch.zeros(4 * v.shape[0], width).double()
    for p in range(4):
        delta[p * v.shape[0] : (p + 1) * v.shape[0]] = v @ g[:, p * r : (p + 1) * r].T @ u
    return delta


def released_fc2(u: Tensor, v: Tensor, core: Tensor, modes: Tensor) -> Tensor:
    """delta W of fc2 by the released code's index formula; modes (1, 4, R)."""
    r, width = u.shape
    mixed = torch.einsum("abk,ck->abc", core, modes[0])
    g = torch.zeros(r, 4 * r).double()
    for b in range(r):
        for c in range(4):
            g[:, 4 * b + c] = mixed[:, b, c]
    delta = torch.zeros(v.shape[0], 4 * width).double()
    for p in range(4):
        delta[:, p * width : (p + 1) * width] = v @ g[:, p * r : (p + 1) * r] @ u
    return delta


@pytest.mark.parametrize(
    ("shape", "formula"), [((4, 1), released_fc1), ((1, 4), released_fc2)], ids=["fc1", "fc2"]
)
def test_interleaved_follows_the_released_indices(shape: tuple[int, int], formula: object) -> None:
    tensors = parts("tucker", *shape, r=6)
    expected = formula(*tensors)
    torch.testing.assert_close(functional.delta_weight(*tensors, interleaved=True), expected)
    assert not torch.allclose(functional.delta_weight(*tensors), expected)
    x = draw(9, expected.shape[1], seed=5)
    zero = torch.zeros(9, expected.shape[0]).double()
    result = functional.add_delta(zero, x, *tensors, interleaved=True)
    torch.testing.assert_close(result, x @ expected.T)


def filled(name: str, *shape: int, scale: float = 1.0) -> Tensor:
    """Weights by the golden file's rule: a generator seeded with the name's crc32."""
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    values = generator.standard_normal(int(np.prod(shape)), dtype=np.float32).reshape(shape)
    return torch.from_numpy(values.astype(np.float64)) * scale


def released_modes(key: str) -> tuple[Tensor, bool]:
    """The (o, i, R) rows of one map of the golden model, and whether they are interleaved."""
    vision, r = "visual_encoder.blocks.0", 8
    kind = key.split(".")[-1]
    if key.startswith("text"):
        layer, part, one = key.split(".")[1:]
        attention = {"self": "attention", "cross": "crossattention"}[part]
        name = f"text_encoder.encoder.layer.{layer}.{attention}.self.{one}_CP"
        return filled(name, r, 1, scale=0.5).T.reshape(1, 1, r), False
    if kind in ("fc1", "fc2"):
        rows = filled(f"{vision}.mlp.mlp_CP", r, 8, scale=0.5).T
        return (rows[:4, None], True) if kind == "fc1" else (rows[None, 4:], True)
    rows = filled(f"{vision}.attn.CP_attention", r, 4, scale=0.5).T
    return rows[["q", "k", "v", "proj"].index(kind)].reshape(1, 1, r), False


def test_deltas_equal_the_released_codes() -> None:
    stored = load_file(RELEASED)
    u = filled("CP_U.weight", 8, 768, scale=0.05)
    v = filled("CP_V.weight", 768, 8, scale=0.05)
    core = filled("CP_C", 8, 8, 8, scale=0.5)
    keys = sorted({name.rpartition("/")[0] for name in stored})
    assert len(keys) == 12
    for key in keys:
        modes, interleaved = released_modes(key)
        delta = functional.delta_weight(u, v, core, modes, interleaved=interleaved)
        rows, columns = delta.shape
        right = delta @ filled("probe.in", columns)
        left = filled("probe.out", rows) @ delta
        found = {"fro": delta.norm().reshape(1), "right": right[::16], "left": left[::16]}
        for what, value in found.items():
            expected = stored[f"{key}/{what}"]
            assert (value - expected).abs().max() <= 1e-12 * expected.abs().max(), f"{key}/{what}"


def test_dropout_before_or_behind_the_core() -> None:
    u, v, core, modes = parts("cp", 3, 1)
    x, base = draw(1, 5, seed=5), torch.zeros(1, 9).double()
    core, modes = torch.ones_like(core), torch.ones_like(modes)
    masks = []
    for after in (False, True):
        torch.manual_seed(3)
        result = functional.add_delta(
            base, x, u, v[:3], core, modes, dropout=0.5, dropout_after_core=after
        )
        masks.append(result.view(3, 3))
    before, behind = masks
    torch.testing.assert_close(before[0], before[1])  # one mask, read by all three slices
    assert not torch.allclose(behind[0], behind[1])  # a mask for every slice


def test_dropout_keeps_the_mean() -> None:
    tensors = parts("tucker", 1, 2)
    x = draw(1, 10, seed=5).expand(20_000, -1)
    zero = torch.zeros(20_000, 3).double()
    torch.manual_seed(0)
    for after in (False, True):
        mean = functional.add_delta(zero, x, *tensors, dropout=0.3, dropout_after_core=after).mean(
            0
        )
        torch.testing.assert_close(mean, x[0] @ dense(*tensors).T, rtol=0.05, atol=0.3)


def test_no_rows() -> None:
    tensors = parts("cp", 3, 1)
    assert functional.add_delta(torch.zeros(0, 9).double(), draw(0, 5), *tensors).shape == (0, 9)


def test_lower_precision_result_keeps_its_type() -> None:
    tensors = [t.float() for t in parts("cp", 3, 1)]
    x = draw(4, 5, seed=5).float()
    base = draw(4, 9, seed=6).bfloat16()
    result = functional.add_delta(base, x, *tensors)
    assert result.dtype == torch.bfloat16
    exact = base.float() + x @ functional.delta_weight(*tensors).T
    torch.testing.assert_close(result, exact.bfloat16())


def gates() -> tuple[Tensor, ...]:
    return tuple(draw(2, 6, 4, seed=s) for s in (1, 2, 3)) + tuple(
        draw(4, seed=s) for s in (4, 5, 6, 7)
    )


def test_query_shift_is_the_released_formula() -> None:
    f, s, c, s1, b1, s2, b2 = gates()
    expected = f + 0.1 * (s1 * s + b1) + 0.1 * (s2 * c + b2)
    torch.testing.assert_close(functional.query_shift(f, s, c, s1, b1, s2, b2), expected)


def spelled_gate(f: Tensor, s: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """One sequence's gate (L, d), the sums written out."""
    t = scale * s + shift
    g = torch.softmax((f @ t.T).sum(1), 0)[:, None]
    return g * f + (1 - g) * t


def test_query_gate_is_the_formula() -> None:
    f, s, _, s1, b1, _, _ = gates()
    expected = torch.stack([spelled_gate(f[n], s[n], s1, b1) for n in range(2)])
    torch.testing.assert_close(functional.query_gate(f, s, s1, b1, None, False), expected)


@pytest.mark.parametrize("where", [slice(4, 6), slice(0, 2)], ids=["right", "left"])
def test_query_gate_leaves_padding_out(where: slice) -> None:
    f, s, _, s1, b1, _, _ = gates()
    mask = torch.ones(2, 6)
    mask[1, where] = 0
    kept = mask[1].bool()
    for causal in (False, True):
        padded = functional.query_gate(f, s, s1, b1, mask, causal)
        alone = functional.query_gate(f[1:, kept], s[1:, kept], s1, b1, None, causal)
        torch.testing.assert_close(padded[1:, kept], alone)
        torch.testing.assert_close(padded[1, ~kept], f[1, ~kept])


def test_causal_query_gate_does_not_see_later_tokens() -> None:
    f, s, _, s1, b1, _, _ = gates()
    whole = functional.query_gate(f, s, s1, b1, torch.ones(2, 6), True)
    for length in range(1, 7):
        torch.testing.assert_close(
            whole[:, :length],
            functional.query_gate(f[:, :length], s[:, :length], s1, b1, None, True),
        )
    # Its last position's own weight is that of the plain softmax over rows that end there.
    t = s1 * s + b1
    rows = (f * t.cumsum(1)).sum(-1)
    g = rows.softmax(1)[:, -1:, None]
    torch.testing.assert_close(whole[:, -1:], g * f[:, -1:] + (1 - g) * t[:, -1:])


def test_query_gate_of_padding_alone_is_finite() -> None:
    f, s, _, s1, b1, _, _ = (t.requires_grad_() for t in gates())
    for causal in (False, True):
        out = functional.query_gate(f, s, s1, b1, torch.zeros(2, 6), causal)
        torch.testing.assert_close(out, f)
        for gradient in torch.autograd.grad(out.sum(), [f, s, s1], retain_graph=True):
            assert torch.isfinite(gradient).all()
