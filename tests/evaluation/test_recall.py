"""Recall metrics against tables worked out by hand, and the properties any ranking must have."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from aurora_vl.evaluation import recall
from aurora_vl.evaluation.recall import query_recall, ranks, retrieval_metrics

INF = float("inf")
Problem = tuple[NDArray[np.float64], list[list[int]]]


def table(rows: list[list[float]]) -> NDArray[np.float64]:
    return np.array(rows, dtype=np.float64)


def test_ranks_of_a_table_worked_out_by_hand() -> None:
    scores = table(
        [
            [0.9, 0.1, 0.2, 0.3],  # right one on top
            [0.9, 0.1, 0.2, 0.3],  # right one last
            [0.9, 0.1, 0.2, 0.3],  # best of two right ones is second
            [0.9, 0.8, 0.2, 0.3],  # both right ones lead
        ]
    )
    assert ranks(scores, [[0], [1], [1, 3], {0, 1}]).tolist() == [1, 4, 2, 1]


def test_ties_count_against_the_relevant_candidate() -> None:
    scores = table([[0.5, 0.5, 0.5], [0.7, 0.7, 0.1]])
    assert ranks(scores, [[0], [1]]).tolist() == [3, 2]


def test_ties_between_relevant_candidates_cost_nothing() -> None:
    assert ranks(table([[0.5, 0.5, 0.1]]), [[0, 1]]).tolist() == [1]


def test_candidates_that_were_not_reranked_come_last() -> None:
    scores = table([[-INF, 2.0, -INF, -5.0], [-INF, 2.0, -INF, -5.0]])
    assert ranks(scores, [[3], [0]]).tolist() == [2, 4]


def test_items_without_a_relevant_candidate_are_not_queries() -> None:
    assert ranks(table([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]]), [[1], [], [0]]).tolist() == [1, 2]


def test_several_images_may_share_a_caption_and_several_captions_an_image() -> None:
    # Images 0 and 1 share caption 0; image 0 has caption 1 as well; image 2 has no caption.
    scores = table([[3.0, 1.0], [1.0, 2.0], [9.0, 9.0]])
    assert ranks(scores, [[0, 1], [0], []]).tolist() == [1, 2]
    assert ranks(scores.T, [[0, 1], [0]]).tolist() == [2, 3]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_tensors_of_any_float_type_are_taken(dtype: torch.dtype) -> None:
    scores = torch.tensor([[1.0, 2.0, 3.0]], dtype=dtype, requires_grad=True)
    assert ranks(scores, [[1]]).tolist() == [2]


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    scores = generator.integers(0, 6, size=(23, 11)).astype(np.float32)
    relevant = [generator.choice(11, size=row % 4, replace=False).tolist() for row in range(23)]
    whole = ranks(scores, relevant)
    monkeypatch.setattr(recall, "_CHUNK_ELEMENTS", 25)  # two rows at a time
    assert ranks(scores, relevant).tolist() == whole.tolist()
    assert len(whole) == sum(map(bool, relevant))


def test_nan_is_refused_and_its_row_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "_CHUNK_ELEMENTS", 2)
    with pytest.raises(ValueError, match=r"NaN .*query 2"):
        ranks(table([[0.0, 1.0], [0.0, 1.0], [0.0, np.nan]]), [[0], [0], [0]])


def test_wrong_shapes_and_indices_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must be \(queries, candidates\)"):
        ranks(np.zeros(3), [[0]])
    with pytest.raises(ValueError, match="2 rows of scores, but 1 sets"):
        ranks(np.zeros((2, 3)), [[0]])
    for index in (3, -1):
        with pytest.raises(ValueError, match=r"query 1 .*only 3 candidates"):
            ranks(np.zeros((2, 3)), [[0], [index]])


def test_metrics_worked_out_by_hand() -> None:
    metrics = retrieval_metrics([1, 1, 3, 20], [2, 6, 10, 11, 1])
    assert metrics == {
        "i2t_r1": 50.0,
        "i2t_r5": 75.0,
        "i2t_r10": 75.0,
        "t2i_r1": 20.0,
        "t2i_r5": 40.0,
        "t2i_r10": 80.0,
        "r_mean": pytest.approx(340.0 / 6),
        "i2t_mdr": 2.0,
        "t2i_mdr": 6.0,
        "i2t_mnr": 6.25,
        "t2i_mnr": 6.0,
    }


def test_video_metrics_have_video_names() -> None:
    metrics = retrieval_metrics([1], [2], "v2t")
    recalls = ["v2t_r1", "v2t_r5", "v2t_r10", "t2v_r1", "t2v_r5", "t2v_r10", "r_mean"]
    assert list(metrics) == [*recalls, "v2t_mdr", "t2v_mdr", "v2t_mnr", "t2v_mnr"]
    assert metrics["v2t_r1"] == 100.0
    assert metrics["t2v_r1"] == 0.0


def test_no_queries_and_impossible_ranks_are_refused() -> None:
    with pytest.raises(ValueError, match="no ranks"):
        retrieval_metrics([], [1])
    with pytest.raises(ValueError, match="start at 1, not at 0"):
        retrieval_metrics([1], [0, 1])


def test_query_recall_averages_to_r_mean() -> None:
    media, text = np.array([1, 4, 7, 30]), np.array([2, 1, 11, 1, 1, 6])
    assert query_recall(media).tolist() == pytest.approx([100.0, 200 / 3, 100 / 3, 0.0])
    mean = (query_recall(media).mean() + query_recall(text).mean()) / 2
    assert mean == pytest.approx(retrieval_metrics(media, text)["r_mean"])


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Small score tables with many ties and some -inf, and relevant sets that may be empty."""
    queries, candidates = draw(st.integers(1, 5)), draw(st.integers(1, 7))
    score = st.one_of(st.integers(-3, 3).map(float), st.just(-INF))
    rows = st.lists(score, min_size=candidates, max_size=candidates)
    scores = table(draw(st.lists(rows, min_size=queries, max_size=queries)))
    index = st.lists(st.integers(0, candidates - 1), max_size=candidates, unique=True)
    return scores, draw(st.lists(index, min_size=queries, max_size=queries))


@settings(max_examples=60, deadline=None)
@given(problems(), st.randoms(use_true_random=False))
def test_the_order_of_candidates_does_not_matter(problem: Problem, random: Random) -> None:
    scores, relevant = problem
    order = list(range(scores.shape[1]))
    random.shuffle(order)
    moved = [[order.index(candidate) for candidate in row] for row in relevant]
    assert ranks(scores[:, order], moved).tolist() == ranks(scores, relevant).tolist()


@settings(max_examples=60, deadline=None)
@given(problems())
def test_a_monotone_transform_of_the_scores_does_not_matter(problem: Problem) -> None:
    scores, relevant = problem
    assert ranks(np.exp(scores) * 7 - 2, relevant).tolist() == ranks(scores, relevant).tolist()


@settings(max_examples=60, deadline=None)
@given(problems())
def test_a_worse_candidate_changes_nothing_and_a_better_one_costs_a_place(problem: Problem) -> None:
    scores, relevant = problem
    scores = np.maximum(scores, -9.0)
    before = ranks(scores, relevant)
    worse, better = (np.full((len(scores), 1), value) for value in (-10.0, 10.0))
    assert ranks(np.hstack([scores, worse]), relevant).tolist() == before.tolist()
    assert ranks(np.hstack([scores, better]), relevant).tolist() == (before + 1).tolist()


@settings(max_examples=60, deadline=None)
@given(problems())
def test_ranks_equal_those_of_a_pessimistic_sort(problem: Problem) -> None:
    scores, relevant = problem
    expected = []
    for row, right in zip(scores, relevant, strict=True):
        if right:
            # Wrong candidates first among equals; places are counted among wrong ones only.
            order = sorted(range(len(row)), key=lambda c: (-row[c], c in right))
            first = next(place for place, c in enumerate(order) if c in right)
            expected.append(first + 1)
    assert ranks(scores, relevant).tolist() == expected
