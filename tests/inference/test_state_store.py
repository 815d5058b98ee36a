"""A gallery's states in a file: what is read is what was stored, one medium at a time."""

from __future__ import annotations

import pytest
import torch

from aurora_vl.inference.state_store import StoredStates


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_what_is_read_was_stored(dtype: torch.dtype) -> None:
    states = torch.randn(5, 3, 4).to(dtype)
    with StoredStates(5) as store:
        for part in states.split(2):
            store.append(part)
        store.finish()
        for row in (4, 0, 2):
            assert torch.equal(store.read(row).to(dtype), states[row : row + 1])
        with pytest.raises(IndexError, match="row 5 of 5"):
            store.read(5)


def test_half_takes_half_the_room() -> None:
    states = torch.randn(2, 3, 4)
    with StoredStates(2, half=True) as store:
        store.append(states)
        store.finish()
        assert store.read(1).dtype == torch.float16
        assert torch.allclose(store.read(1).float(), states[1:], atol=1e-2)
