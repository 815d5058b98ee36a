"""The mathematics of one adapted map as pure functions of tensors.

Shapes: U (R, d_in), V (d_out, R), modes (o, i, R) for o output by i input slices; core (R,) for cp,
(R, R, R) for tucker. A row vector x of one input slice contributes x U^T M V^T to an output slice,
M = diag(core * p) for cp and M[a, b] = sum_k core[a, b, k] p[k] for tucker.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def autocasting(x: Tensor) -> bool:
    """Tell whether autocast is on where x is; on the meta device there is none to ask for."""
    kind = x.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def mixing_matrix(core: Tensor, modes: Tensor, *, interleaved: bool = False) -> Tensor:
    """Return all blocks' M as one matrix (i*R, o*R), from the ranks of x to those of y.

    `interleaved` is the released code's MLP (fc1 and fc2): the columns of all blocks are mixed, and
    where the input is cut the core is transposed besides.
    """
    out_blocks, in_blocks, r = modes.shape
    if core.dim() == 1:
        blocks = torch.diag_embed(core * modes)  # (o, i, R, R)
        return blocks.permute(1, 2, 0, 3).reshape(in_blocks * r, out_blocks * r)
    if not interleaved:
        blocks = torch.einsum("abk,oik->iaob", core, modes)
        return blocks.reshape(in_blocks * r, out_blocks * r)
    # One of o and i is 1. C P with the mode columns innermost is read as R by (slices * R).
    mixed = torch.einsum("abk,ck->abc", core, modes.reshape(-1, r)).reshape(r, -1)
    return mixed if in_blocks == 1 else mixed.t()


def low_rank_factors(
    u: Tensor, v: Tensor, core: Tensor, modes: Tensor, *, interleaved: bool = False
) -> tuple[Tensor, Tensor]:
    """Return (down, up), exact: delta W = up @ down, in nn.Linear's (out, in) layout.

    Their inner size is R where one side is not cut, else R * min(o, i). This is what an export to
    LoRA stores as A and B.
    """
    out_blocks, in_blocks, r = modes.shape
    mix = mixing_matrix(core, modes, interleaved=interleaved)
    if in_blocks <= out_blocks:
        up = torch.einsum("db,xob->odx", v, mix.reshape(-1, out_blocks, r)).flatten(0, 1)
        return torch.block_diag(*[u] * in_blocks), up
    down = torch.einsum("iay,ae->yie", mix.reshape(in_blocks, r, -1), u).flatten(1)
    return down, torch.block_diag(*[v] * out_blocks)


def delta_weight(
    u: Tensor, v: Tensor, core: Tensor, modes: Tensor, *, interleaved: bool = False
) -> Tensor:
    """Return the change of the map's weight, (o * d_out, i * d_in)."""
    down, up = low_rank_factors(u, v, core, modes, interleaved=interleaved)
    return up @ down


def mix_ranks(z: Tensor, core: Tensor, modes: Tensor, *, interleaved: bool = False) -> Tensor:
    """Carry rank activations through the blocks.

    Args:
        z: (..., i, R), the product of every input slice with U^T.
        core: (R,) or (R, R, R).
        modes: (o, i, R).
        interleaved: see `mixing_matrix`; tucker only.

    Returns:
        (n, o, R), n the product of z's leading sizes.
    """
    out_blocks, in_blocks, r = modes.shape
    if core.dim() == 3:
        mix = mixing_matrix(core, modes, interleaved=interleaved)
        return (z.reshape(-1, in_blocks * r) @ mix).view(-1, out_blocks, r)
    weights = (core * modes).to(z.dtype)  # autocast has z in less than they are kept in
    rows = z.reshape(-1, in_blocks, r)
    if in_blocks == 1:
        return rows * weights[:, 0]
    if out_blocks == 1:
        return (rows * weights[0]).sum(1, keepdim=True)
    return torch.einsum("nir,oir->nor", rows, weights)


def add_delta(
    result: Tensor,
    x: Tensor,
    u: Tensor,
    v: Tensor,
    core: Tensor,
    modes: Tensor,
    *,
    interleaved: bool = False,
    scaling: float = 1.0,
    dropout: float = 0.0,
    dropout_after_core: bool = False,
    in_place: bool = False,
) -> Tensor:
    """Return result + scaling * x dW^T without ever forming dW.

    x U^T is computed once, whatever number of output slices read it.

    Args:
        result: the frozen map's output (..., o * d_out).
        x: its input (..., i * d_in).
        u: factor of the input width (R, d_in).
        v: factor of the output width (d_out, R).
        core: (R,) or (R, R, R).
        modes: the map's mode rows (o, i, R).
        interleaved: see `mixing_matrix`.
        scaling: factor of the whole change.
        dropout: probability on the rank activations; 0 outside training.
        dropout_after_core: drop after the core, with a mask for every output slice, instead of
            before it.
        in_place: write into `result`, a contiguous tensor that nothing else uses and that is no
            view.
    """
    z = F.linear(x.reshape(-1, u.shape[1]), u)
    if dropout and not dropout_after_core:
        z = F.dropout(z, dropout)
    t = mix_ranks(z, core, modes if scaling == 1.0 else modes * scaling, interleaved=interleaved)
    if dropout and dropout_after_core:
        t = F.dropout(t, dropout)
    t = t.reshape(-1, v.shape[1])
    if result.dtype == t.dtype or autocasting(result):
        if in_place:
            return _AddProduct.apply(result, t.to(result.dtype), v.to(result.dtype))
        return torch.addmm(result.reshape(-1, v.shape[0]), t, v.t()).view_as(result)
    return (result + F.linear(t, v).view_as(result)).to(result.dtype)


class _AddProduct(torch.autograd.Function):
    """y += t V^T in y's own memory, for all output slices at once.

    Autograd's own in-place sum on slices would copy the gradient of the whole output.
    """

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, y: Tensor, t: Tensor, v: Tensor
    ) -> Tensor:
        ctx.mark_dirty(y)
        ctx.save_for_backward(t, v)
        y.view(-1, v.shape[0]).addmm_(t, v.t())
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        t, v = ctx.saved_tensors
        rows = gradients[0].reshape(-1, v.shape[0])
        return gradients[0], rows @ v, rows.t() @ t


def query_shift(
    layer_output: Tensor,
    self_states: Tensor,
    cross_states: Tensor,
    self_scale: Tensor,
    self_shift: Tensor,
    cross_scale: Tensor,
    cross_shift: Tensor,
) -> Tensor:
    """Return f + 0.1 (s1 * s + b1) + 0.1 (s2 * c + b2), the query gate as released."""
    shifted = layer_output + 0.1 * (self_shift + cross_shift)
    shifted = torch.addcmul(shifted, self_states, self_scale, value=0.1)
    return torch.addcmul(shifted, cross_states, cross_scale, value=0.1)


def query_gate(
    layer_output: Tensor,
    self_states: Tensor,
    self_scale: Tensor,
    self_shift: Tensor,
    token_mask: Tensor | None,
    causal: bool,
) -> Tensor:
    """Return g f + (1 - g) t, the query gate as its author explains it.

    t = s1 * s + b1 and g = softmax over the tokens of the row sums of f t^T. Padding is left out of
    both the row sum and the softmax, and padded rows stay as they are; with `causal` both run over
    the current and earlier positions only. Shapes as in `QuerySlot.forward`.
    """
    target = self_states * self_scale + self_shift
    summed = target if token_mask is None else target * token_mask.to(target.dtype).unsqueeze(-1)
    summed = summed.cumsum(1) if causal else summed.sum(1, keepdim=True)
    score = (layer_output.float() if layer_output.dtype.itemsize < 4 else layer_output) * summed
    logits = score.sum(-1)  # (B, L), row i of f t^T summed
    if token_mask is not None:
        # A finite floor: a fully padded row must not become 0 / 0.
        logits = logits.masked_fill(token_mask == 0, torch.finfo(logits.dtype).min)
    gate = (logits - logits.logcumsumexp(1)).exp() if causal else logits.softmax(1)
    gate = gate.to(layer_output.dtype).unsqueeze(-1)
    gated = target + gate * (layer_output - target)
    if token_mask is None:
        return gated
    return torch.where((token_mask != 0).unsqueeze(-1), gated, layer_output)
