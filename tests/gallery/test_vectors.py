from __future__ import annotations

import numpy as np
import pytest

from aurora_vl.gallery.vectors import VectorTable


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("room", [0, 4_000, 10_000])
@pytest.mark.parametrize("parts", [[10_000], [1, 8191, 1808], [8192, 1808]])
def test_the_product_is_exact_however_the_vectors_came(parts: list[int], room: int) -> None:
    rng = np.random.default_rng(0)
    vectors = unit(rng.standard_normal((10_000, 24))).astype(np.float16)
    ids = rng.permutation(10_000).astype(np.int64) - 5_000
    table = VectorTable(24, room)
    start = 0
    for part in parts:
        table.append(ids[start : start + part], vectors[start : start + part])
        start += part
    query = unit(rng.standard_normal((1, 24)))[0].astype(np.float32)
    exact = vectors.astype(np.float64) @ query
    expected = np.argsort(-exact)[:50]
    found = table.search(query, 50)
    assert len(table) == 10_000
    assert [number for number, _ in found] == ids[expected].tolist()
    np.testing.assert_allclose([score for _, score in found], exact[expected], rtol=1e-5)


def test_only_what_is_allowed_is_found() -> None:
    table = VectorTable(2)
    table.append(np.arange(5), np.arange(10, dtype=np.float16).reshape(5, 2) / 16)
    query = np.array([1, 0], np.float32)
    assert table.search(query, 3, {1, 3, 99}) == [(3, 0.375), (1, 0.125)]
    assert table.search(query, 3, set()) == []


def test_equal_scores_come_in_the_order_of_their_ids() -> None:
    table = VectorTable(1)
    table.append(np.array([9, 2, 5]), np.ones((3, 1), np.float16))
    assert [number for number, _ in table.search(np.ones(1, np.float32), 3)] == [2, 5, 9]


def test_an_empty_table_finds_nothing() -> None:
    assert VectorTable(3).search(np.ones(3, np.float32), 5) == []


def test_scores_that_half_precision_cannot_tell_apart_are_told_apart() -> None:
    """Two thousand vectors whose scores differ by less than half precision's rounding."""
    rng = np.random.default_rng(0)
    base = np.full(256, 1 / 16)
    vectors = unit(base + rng.uniform(-2e-4, 2e-4, (2_000, 256))).astype(np.float16)
    query = unit(rng.normal(base, 0.01)[None])[0].astype(np.float32)
    table = VectorTable(256)
    table.append(np.arange(2_000), vectors)
    exact = vectors.astype(np.float64) @ query
    assert np.ptp(exact) < 2.0**-11
    assert [number for number, _ in table.search(query, 5)] == np.argsort(-exact)[:5].tolist()
