"""A search in a large gallery: seconds of a query and of opening, and memory by the vectors'.

`python -m benchmarks.search [--items N] [--width D] [--repeats R]` fills a gallery with random
vectors in a temporary folder and prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import typer

from aurora_vl.gallery.items import Collection, Entry, Filter, Item
from aurora_vl.gallery.store import Store, open_store

_AT_ONCE = 5_000
_TOP = 10


def measure(items: int, width: int, repeats: int) -> dict[str, float | int]:
    """Fill a gallery, open it anew, and search it.

    Args:
        items: how many vectors.
        width: numbers in each.
        repeats: queries.
    """
    with tempfile.TemporaryDirectory() as folder:
        uri = str(Path(folder) / "random.aurora")
        started = time.perf_counter()
        for number, store in enumerate(_filled(uri, items, width)):
            if number == 0:  # what torch and SQLite take once is no gallery's
                _search(store, width, 0)
        filled = time.perf_counter() - started
        size = os.path.getsize(uri)
        before = _resident()
        started = time.perf_counter()
        store = open_store(uri, create=False)
        found = _search(store, width, 0)
        opened = time.perf_counter() - started
        memory = _resident() - before
        seconds, busy = [], []
        for query in range(repeats):
            started, started_busy = time.perf_counter(), time.process_time()
            found = _search(store, width, query)
            seconds.append(time.perf_counter() - started)
            busy.append(time.process_time() - started_busy)
        assert found == _TOP
        store.close()
    vectors = items * width * 2
    return {
        "items": items,
        "width": width,
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],
        "query_ms": 1e3 * statistics.median(seconds),
        "query_min_ms": 1e3 * min(seconds),
        "query_processor_ms": 1e3 * statistics.median(busy),
        "opening_s": opened,
        "memory_mb": memory / 1e6,
        "memory_by_vectors": memory / vectors,
        "file_mb": size / 1e6,
        "filling_s": filled,
    }


def _filled(uri: str, items: int, width: int) -> Iterator[Store]:
    """Write the items, a part at a time; the store after each part."""
    store = open_store(uri, create=True)
    store.add_collection(Collection("random", "none", None, width))
    rng = np.random.default_rng(0)
    for start in range(0, items, _AT_ONCE):
        vectors = rng.standard_normal((min(_AT_ONCE, items - start), width), dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        names = [f"/random/{start + row:09}.jpg" for row in range(len(vectors))]
        store.put(
            [
                Entry(Item(name, "image", 1, 1, "00" * 16), b"", {"random": vector})
                for name, vector in zip(names, vectors, strict=True)
            ]
        )
        yield store
    store.close()


def _search(store: Store, width: int, seed: int) -> int:
    """One query with the items it finds, and how many there are."""
    query = np.random.default_rng(seed).standard_normal(width, dtype=np.float32)
    found = store.search("random", query / np.linalg.norm(query), _TOP, Filter())
    return len(store.find([item for item, _ in found]))


def _resident() -> int:
    """Bytes of this process in memory (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=50)
    typer.echo(json.dumps(measure(**vars(parser.parse_args())), indent=1))
