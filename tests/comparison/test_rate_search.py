from __future__ import annotations

from itertools import pairwise

import pytest

from aurora_vl.comparison.rate_search import best_rate, candidate_rates


@pytest.mark.parametrize("trials", range(1, 8))
def test_rates_lie_evenly_around_the_default(trials: int) -> None:
    rates = candidate_rates(0.01, trials, 3.0)
    assert len(rates) == trials
    assert 0.01 in rates
    below, above = sum(r < 0.01 for r in rates), sum(r > 0.01 for r in rates)
    assert below - above in (0, 1)
    steps = [b / a for a, b in pairwise(rates)]
    assert steps == pytest.approx([3.0] * len(steps), rel=0.06)  # two digits


def test_the_best_rate_and_whether_it_is_an_edge() -> None:
    inside = best_rate({1e-3: 50.0, 1e-2: 60.0, 1e-1: 55.0})
    assert inside is not None
    assert (inside.rate, inside.at_edge) == (1e-2, False)
    edge = best_rate({1e-3: 50.0, 1e-2: 60.0, 1e-1: 65.0})
    assert edge is not None
    assert (edge.rate, edge.at_edge) == (1e-1, True)


def test_a_tie_with_the_edge_is_an_edge() -> None:
    """Where the largest is as good as the best, larger ones may be better."""
    tied = best_rate({0.16: 95.0, 0.32: 96.75, 0.64: 96.75})
    assert tied is not None
    assert (tied.rate, tied.at_edge) == (0.32, True)


def test_of_two_rates_either_is_an_edge() -> None:
    found = best_rate({1e-3: 50.0, 1e-2: 60.0})
    assert found is not None
    assert found.at_edge
    alone = best_rate({1e-2: 60.0})
    assert alone is not None
    assert not alone.at_edge


def test_a_failed_rate_is_no_choice_but_no_edge_either() -> None:
    """Beyond a rate that diverges there is nothing to look for."""
    found = best_rate({1e-3: 50.0, 1e-2: 60.0, 1e-1: None})
    assert found is not None
    assert (found.rate, found.at_edge) == (1e-2, False)
    assert best_rate({1e-2: None}) is None


def test_of_equal_rates_the_smaller() -> None:
    found = best_rate({1e-1: 60.0, 1e-2: 60.0, 1e-3: 10.0})
    assert found is not None
    assert found.rate == 1e-2
