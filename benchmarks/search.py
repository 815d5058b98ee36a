"""A search in a large gallery: seconds of a query and of opening, and memory by the vectors'.

`python -m benchmarks.search [--items N] [--width D] [--repeats R]` fills a gallery with random
vectors in a temporary folder and prints one JSON object. With `--layouts` it times other ways to
hold and score as many vectors instead.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import typer

from aurora_vl.gallery.items import Collection, Entry, Filter, Item
from aurora_vl.gallery.opening import open_store
from aurora_vl.gallery.store import Store
from aurora_vl.gallery.vectors import VectorTable

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


def layouts(items: int, width: int, repeats: int) -> dict[str, float]:
    """Milliseconds of one processor, the median, of one query over vectors held in several ways."""
    vectors = np.random.default_rng(0).standard_normal((items, width), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    single, half = torch.from_numpy(vectors), torch.from_numpy(vectors.astype(np.float16))
    query = single[0].clone()
    table = VectorTable(width, items)
    table.append(np.arange(items), half.numpy())

    def in_parts(rows: int) -> None:
        scratch = torch.empty(rows, width)
        for part in half.split(rows):
            torch.mv(scratch[: len(part)].copy_(part), query)

    def in_parts_by_numpy(rows: int) -> None:
        for start in range(0, items, rows):
            half.numpy()[start : start + rows].astype(np.float32) @ query.numpy()

    ways: dict[str, Callable[[], object]] = {
        "float32, one product": lambda: torch.mv(single, query),
        "float16, the gallery's search": lambda: table.search(query.numpy(), _TOP),
        "float16, widened 512 rows at a time": lambda: in_parts(512),
        "float16, widened 4096 rows at a time": lambda: in_parts(4096),
        "float16, widened by NumPy 4096 rows at a time": lambda: in_parts_by_numpy(4096),
    }
    torch.set_num_threads(1)
    return {name: _processor_ms(way, repeats) for name, way in ways.items()}


def _processor_ms(run: Callable[[], object], repeats: int) -> float:
    run()
    seconds = []
    for _ in range(repeats):
        started = time.process_time()
        run()
        seconds.append(time.process_time() - started)
    return 1e3 * statistics.median(seconds)


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
    parser.add_argument("--layouts", action="store_true")
    given = parser.parse_args()
    measured = layouts if given.layouts else measure
    typer.echo(json.dumps(measured(given.items, given.width, given.repeats), indent=1))
