"""A parameter-free place in a backbone's text layer for Gated Query Transformation.

The backbone calls it with what the transformation needs and by itself it changes
nothing, so backbone folders keep their keys; the tuner replaces it by a layer of its own.
"""

from __future__ import annotations

from torch import Tensor, nn


class QuerySlot(nn.Module):
    """Return the layer's output unchanged (Gated Query Transformation, docs/method.md).

    Args:
        dim: width of the states that pass through, for whatever layer replaces the slot.
    """

    by_token = True
    """Whether a token's output depends on that token alone."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(
        self,
        layer_output: Tensor,
        self_states: Tensor,
        cross_states: Tensor,
        token_mask: Tensor | None = None,
        causal: bool = False,
    ) -> Tensor:
        """Pass ``layer_output`` through.

        Args:
            layer_output: f, the output of the text layer, (B, L, dim).
            self_states: s, the self-attention's output after dense, residual and LayerNorm,
                (B, L, dim).
            cross_states: c, the cross-attention's likewise, (B, L, dim).
            token_mask: (B, L), true or 1 where a token is not padding; None if none is.
            causal: whether a token may see only itself and earlier ones.

        Returns:
            A tensor of ``layer_output``'s shape.
        """
        return layer_output
