"""The paired bootstrap: known spreads, pairing, pooling of seeds, and refusals."""

from __future__ import annotations

import numpy as np
import pytest

from aurora_vl.comparison import bootstrap
from aurora_vl.comparison.bootstrap import Interval, paired_bootstrap
from aurora_vl.evaluation.recall import query_recall, retrieval_metrics


def noisy_pair(queries: int = 400) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(1)
    return generator.normal(3.0, 10.0, queries), np.zeros(queries)


def test_the_interval_has_the_width_that_theory_gives() -> None:
    a, b = noisy_pair()
    interval = paired_bootstrap([a], [b])
    half = 1.96 * a.std() / np.sqrt(len(a))
    assert interval.mean == pytest.approx(a.mean())
    assert interval.low == pytest.approx(a.mean() - half, abs=0.1)
    assert interval.high == pytest.approx(a.mean() + half, abs=0.1)


def test_what_both_methods_find_hard_cancels() -> None:
    hardness = np.random.default_rng(0).uniform(0, 100, 50)
    assert paired_bootstrap([hardness + 2.0], [hardness]) == Interval(
        pytest.approx(2.0), pytest.approx(2.0), pytest.approx(2.0)
    )


def test_swapping_the_methods_mirrors_the_mean() -> None:
    a, b = noisy_pair()
    assert paired_bootstrap([a], [b]).mean == -paired_bootstrap([b], [a]).mean


def test_seeds_are_averaged_for_each_query_and_give_no_false_certainty() -> None:
    a, b = noisy_pair()
    once = paired_bootstrap([a], [b])
    repeated = paired_bootstrap([np.tile(a, (5, 1))], [np.tile(b, (3, 1))])
    assert repeated.mean == pytest.approx(once.mean)
    assert repeated.high - repeated.low == pytest.approx(once.high - once.low)


def test_two_directions_give_the_difference_of_r_mean() -> None:
    generator = np.random.default_rng(2)
    media = generator.integers(1, 20, size=(2, 3, 40))  # method, seed, query
    text = generator.integers(1, 20, size=(2, 3, 100))
    interval = paired_bootstrap(*([query_recall(media[m]), query_recall(text[m])] for m in (0, 1)))
    r_mean = [
        np.mean([retrieval_metrics(media[m, s], text[m, s])["r_mean"] for s in range(3)])
        for m in (0, 1)
    ]
    assert interval.mean == pytest.approx(r_mean[0] - r_mean[1])
    assert interval.low < interval.mean < interval.high


def test_the_seed_decides_the_draw_and_chunks_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = noisy_pair(30)
    first = paired_bootstrap([a], [b], samples=500, seed=3)
    assert paired_bootstrap([a], [b], samples=500, seed=4) != first
    monkeypatch.setattr(bootstrap, "_DRAWS_AT_ONCE", 100)
    assert paired_bootstrap([a], [b], samples=500, seed=3) == first


def test_interval_reads_well() -> None:
    assert str(Interval(1.24, -0.26, 2.71)) == "+1.2 [-0.3, +2.7]"


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([[1.0, 2.0]], [[1.0, 2.0, 3.0]], "same queries: 2 against 3"),
        ([[1.0]], [[1.0], [1.0]], "same groups: 1 against 2"),
        ([], [], "same groups: 0 against 0"),
        ([[]], [[]], r"must be \(seeds, queries\)"),
    ],
)
def test_what_does_not_match_is_refused(
    a: list[list[float]], b: list[list[float]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        paired_bootstrap(a, b)


def test_no_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, not 0"):
        paired_bootstrap([[1.0]], [[1.0]], samples=0)
