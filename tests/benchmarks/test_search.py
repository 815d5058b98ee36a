from __future__ import annotations

import torch

from benchmarks.search import layouts, measure


def test_a_search_is_measured() -> None:
    found = measure(items=12_000, width=16, repeats=3)
    assert (found["items"], found["width"]) == (12_000, 16)
    assert found["query_ms"] >= found["query_min_ms"] > 0
    assert found["file_mb"] > 12_000 * 16 * 2 / 1e6


def test_other_layouts_are_measured() -> None:
    threads = torch.get_num_threads()
    try:
        found = layouts(items=10_000, width=16, repeats=2)
    finally:
        torch.set_num_threads(threads)
    assert len(found) == 5
    assert min(found.values()) > 0
