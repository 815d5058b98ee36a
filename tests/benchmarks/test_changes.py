"""A change undone costs operations or memory and computes the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from aurora_vl.errors import UserError
from benchmarks import changes, train_step
from benchmarks.setup import Setup

MINI = Setup(backbone="mini", queue=64)
BASE = Setup()
SAME = (changes.PADDED, changes.KEYS_PER_PAIR, changes.EVERY_TOKEN, changes.OWN_MEMORY)


@pytest.mark.parametrize("name", SAME)
def test_a_change_undone_has_the_same_losses(name: str) -> None:
    losses = []
    for each in (changes.OURS, name):
        task = changes.build(each, MINI)
        torch.manual_seed(0)
        for part in (p for p in task.parameters() if p.requires_grad):
            nn.init.normal_(part, std=0.05)  # a start at zero would hide a lost update
        losses.append(task(**changes.batch_of(each, MINI)))
    for part in ("loss_itc", "loss_itm"):
        torch.testing.assert_close(losses[0][part], losses[1][part], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", [changes.PADDED, changes.KEYS_PER_PAIR, changes.EVERY_TOKEN])
def test_a_change_undone_counts_more(name: str) -> None:
    assert changes._counted(name, BASE) > 1.01 * changes._counted(changes.OURS, BASE)


def test_rows_of_steps_and_of_reranking() -> None:
    rows = changes.steps(MINI, 1, memory=False)
    names = changes.measured(MINI.torch_device)
    assert [row.name for row in rows] == [f"changes: {name}" for name in names]
    kept, again = changes.reranking(MINI, 1)
    assert again.gflop > kept.gflop
    assert kept.ratio == 1.0


def test_compiling_asks_for_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes.shutil, "which", lambda _: None)
    with pytest.raises(UserError, match="needs a C"):
        changes.compiled(MINI, 1)


@pytest.mark.parametrize(("together", "gflop"), [(1, 589.7), (2, 342.6), (4, 219.1)])
def test_operations_of_four_pairs_of_fewer_pictures(together: int, gflop: float) -> None:
    """The numbers of docs/performance.md."""
    batch = BASE.pairs()
    batch["media"]["pixel_values"] = batch["media"]["pixel_values"][::together]
    batch["media_index"] = torch.arange(BASE.batch) // together
    with torch.device("meta"):
        task = changes.build(changes.OURS, replace(BASE, device="meta"))
    assert train_step.counted(task, batch) == pytest.approx(gflop, abs=0.1)
