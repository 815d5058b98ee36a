"""Times in turn, ratios with intervals, peaks of processes."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
import torch

from benchmarks import changes, measuring, train_step
from benchmarks.goals import judge
from benchmarks.measuring import (
    Row,
    matrix_rate,
    ratio_interval,
    rows_of,
    time_in_turn,
)
from benchmarks.memory import peaks_of, process_peak
from benchmarks.operations import counting
from benchmarks.setup import Setup, captions


def test_contenders_run_in_turn_and_the_order_is_turned_round() -> None:
    calls: list[str] = []
    seconds = time_in_turn(
        {"a": lambda: calls.append("a"), "b": lambda: time.sleep(0.01) or calls.append("b")},
        2,
        torch.device("cpu"),
    )
    assert calls == ["a", "b", "a", "b", "b", "a"]
    assert all(len(values) == 2 for values in seconds.values())
    assert min(seconds["b"]) >= 0.01


def test_rows_have_medians_spread_and_paired_ratios() -> None:
    seconds = {"slow": [2.0, 4.0, 8.0], "fast": [1.0, 2.0, 4.0]}
    peaks = {"slow": 30.0}
    slow, fast = rows_of("job", seconds, reference="slow", items={"fast": 10}, peak_mb=peaks)
    assert (slow.peak_mb, fast.peak_mb) == (30.0, None)
    assert slow.seconds == (2.0, 4.0, 8.0)
    assert (fast.name, fast.median_s, fast.min_s, fast.max_s) == ("job: fast", 2.0, 1.0, 4.0)
    # The machine slowed down fourfold, but at every moment one took half as long as the other.
    assert (fast.ratio, fast.ratio_low, fast.ratio_high) == (0.5, 0.5, 0.5)
    assert slow.ratio == 1.0
    assert fast.per_second == 5.0
    assert slow.per_second is None


def test_an_interval_contains_one_for_equals_and_not_for_others() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(1.0, 0.05, size=(2, 30))
    _, low, high = ratio_interval(a, b)
    assert low < 1.0 < high
    _, low, high = ratio_interval(a * 1.2, b)
    assert low > 1.0


@pytest.mark.parametrize(("half", "left_out"), [(30.0, set()), (0.6, {train_step.BFLOAT16})])
def test_bfloat16_is_left_out_where_it_would_take_minutes(
    monkeypatch: pytest.MonkeyPatch, half: float, left_out: set[str]
) -> None:
    rates = {torch.float32: 36.0, torch.bfloat16: half}  # 0.6: measured on AVX2 alone
    monkeypatch.setattr(measuring, "matrix_rate", lambda _, dtype, *__: rates[dtype])
    measuring.bfloat16_pays.cache_clear()
    try:
        for job in (train_step, changes):
            assert set(job.CONTENDERS) - set(job.measured(torch.device("cpu"))) == left_out
    finally:
        measuring.bfloat16_pays.cache_clear()


def test_captions_are_as_long_as_natural_ones() -> None:
    ids, mask = captions(8, 30_524, torch.Generator().manual_seed(0))
    assert mask.sum() / 8 == 12.0
    assert ids.shape == (8, 15)
    assert (ids[mask == 0] == 0).all()
    assert (ids[mask == 1] > 0).all()


def test_a_peak_is_that_of_its_own_process() -> None:
    held = torch.ones(60_000_000)  # 240 MB here, which the other process does not have
    peaks, seconds = peaks_of("inference", ["frozen"], Setup(backbone="mini"), runs=1)
    assert held.sum() > 0
    assert 100 < peaks["frozen"] < process_peak()
    assert len(seconds["frozen"]) == 1
    assert seconds["frozen"][0] > 0


def test_a_contender_that_fails_is_named() -> None:
    with pytest.raises(RuntimeError, match="inference: frozen failed"):
        peaks_of("inference", ["frozen"], Setup(backbone="no-such-folder/at/all"))


def test_goals_are_judged_where_their_rows_are_there() -> None:
    reference = Row("train-step: reference", 2.0, 2.0, 2.0, 4000.0, seconds=(2.0, 4.0))
    ours = Row("train-step: aurora", 1.3, 1.3, 1.3, 2100.0, difference=1e-6, seconds=(1.2, 2.4))
    found = {verdict["name"]: verdict for verdict in judge([reference, ours])}
    step = found["training step, relative to the reference implementation"]
    assert (step["value"], step["low"], step["high"], step["met"]) == (0.6, 0.6, 0.6, True)
    peak = found["peak memory of a step, relative to the reference implementation"]
    assert (peak["value"], peak["met"]) == (0.525, False)
    assert found["largest difference of a loss from the reference implementation"]["met"]
    assert len(found) == 3


def test_a_goal_that_is_an_equality_looks_at_the_interval() -> None:
    frozen = Row("inference: frozen", 1.0, 1.0, 1.0, seconds=(1.0, 1.0, 1.0))
    same, slower = (
        Row("inference: merged", 1.0, 1.0, 1.0, seconds=seconds)
        for seconds in ((0.99, 1.01, 1.02), (1.01, 1.02, 1.03))
    )
    assert [judge([frozen, merged])[0]["met"] for merged in (same, slower)] == [True, False]


def test_a_goal_of_speed_is_at_least() -> None:
    rows = [
        Row(f"rerank at 384 px: {name}", s, s, s, seconds=(s,))
        for name, s in (("reference", 6.0), ("aurora", 1.0))
    ]
    (verdict,) = judge(rows)
    assert (verdict["value"], verdict["must"], verdict["met"]) == (6.0, "at least", True)


@pytest.mark.parametrize(("seconds", "sizes"), [(0.0, [256]), (math.inf, [256, 512, 1024, 2048])])
def test_the_rate_of_products_is_bounded_by_time(seconds: float, sizes: list[int]) -> None:
    with counting() as counter:
        rate = matrix_rate(torch.device("cpu"), torch.float32, seconds)
    assert counter.get_total_flops() == sum(5 * 2 * size**3 for size in sizes)
    assert 0 < rate < math.inf
