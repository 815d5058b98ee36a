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
    monkeypatch.setattr(bootstrap, "_COUNTS_AT_ONCE", 100)
    again = paired_bootstrap([a], [b], samples=500, seed=3)
    assert again == Interval(*map(pytest.approx, (first.mean, first.low, first.high)))


def test_answers_about_one_picture_are_no_independent_evidence() -> None:
    """Five questions of equal outcome a picture say no more than one."""
    a, b = noisy_pair()
    once = paired_bootstrap([a], [b])
    asked = [np.repeat(np.arange(a.size), 5)]
    five = paired_bootstrap([np.repeat(a, 5)], [np.repeat(b, 5)], media=asked)
    assert five == Interval(*map(pytest.approx, (once.mean, once.low, once.high)))
    alone = paired_bootstrap([np.repeat(a, 5)], [np.repeat(b, 5)])
    ratio = (five.high - five.low) / (alone.high - alone.low)
    assert ratio == pytest.approx(5**0.5, rel=0.05)


def test_both_directions_of_a_picture_are_drawn_together() -> None:
    """Where the caption is found as the picture is, two directions say no more than one."""
    a, b = noisy_pair()
    once = paired_bootstrap([a], [b])
    both = [np.arange(a.size)] * 2
    assert paired_bootstrap([a, a], [b, b], media=both) == Interval(
        *map(pytest.approx, (once.mean, once.low, once.high))
    )


def test_a_picture_may_have_more_queries_than_another_and_none_in_a_direction() -> None:
    """Every query counts once in its direction; draws without any query of one are left out."""
    a = [np.array([1.0, 2.0, 4.0]), np.array([7.0])]
    b = [np.zeros(3), np.zeros(1)]
    interval = paired_bootstrap(a, b, media=[[0, 0, 1], [1]])
    assert interval.mean == pytest.approx((7 / 3 + 7) / 2)
    assert (interval.low, interval.high) == (pytest.approx(14 / 3), pytest.approx(5.5))


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


def test_each_query_needs_its_medium() -> None:
    with pytest.raises(ValueError, match=r"one for each of \[2\] queries"):
        paired_bootstrap([[1.0, 2.0]], [[1.0, 2.0]], media=[[0]])


def test_no_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, not 0"):
        paired_bootstrap([[1.0]], [[1.0]], samples=0)
