"""A processor without fast bfloat16 is told of; what this one can do does not matter here."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from aurora_vl.recipes.recipe import Recipe
from aurora_vl.training import half_precision
from aurora_vl.training.run import train


@pytest.mark.parametrize(("times", "told"), [(58.0, True), (1.2, False), (0.4, False)])
def test_a_warning_where_it_is_clearly_slower(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, times: float, told: bool
) -> None:
    seconds = {torch.float32: 1e-3, torch.bfloat16: times * 1e-3}
    monkeypatch.setattr(half_precision, "product_seconds", seconds.__getitem__)
    half_precision.warn_if_bfloat16_is_slow()
    assert [f"takes {times:.1f} times as long" in text for text in caplog.messages] == [True] * told


def test_a_run_in_bfloat16_asks(
    make_recipe: Callable[..., Recipe],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    seconds = {torch.float32: 1.0, torch.bfloat16: 3.0}
    monkeypatch.setattr(half_precision, "product_seconds", seconds.__getitem__)
    train(make_recipe("training.epochs=1", "training.precision=bfloat16"))
    assert any("leave it at float32" in text for text in caplog.messages)
    caplog.clear()
    train(make_recipe("training.epochs=1", output="other"))
    assert not any("bfloat16" in text for text in caplog.messages)
