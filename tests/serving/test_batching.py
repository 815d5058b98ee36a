"""Requests of many users at once: the same answers, bounded waiting, an orderly end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from served import Reply, ServedClient, data_uri, serving

from aurora_vl.serving.engine import Engine
from aurora_vl.serving.limits import Limits

TEXTS = ["a star", "two small blue boats on water", "a big red fish left of a green tree"]


@contextmanager
def busy(client: ServedClient) -> Iterator[Callable[[], None]]:
    """The model's thread is kept busy until the block ends or its result is called."""
    started, ended = threading.Event(), threading.Event()

    def hold(rows: object) -> list[None]:
        started.set()
        ended.wait()
        return [None]

    holding = threading.Thread(target=lambda: asyncio.run(client.service.batcher.run(hold, [None])))
    holding.start()
    started.wait()
    try:
        yield ended.set
    finally:
        ended.set()
        holding.join()


def await_waiting(client: ServedClient, rows: int) -> None:
    while f"aurora_waiting_rows {rows}.0" not in client.service.metrics.text().decode():
        time.sleep(0.01)


def test_sixteen_clients_get_what_one_gets(client: ServedClient, pictures: list[Path]) -> None:
    def ask(number: int) -> list[float]:
        model = ("a", "b", "mini")[number % 3]
        if number % 4 == 3:
            content = {"model": model, "modality": "image", "input": data_uri(pictures[number])}
        else:
            content = {"model": model, "input": TEXTS[number % len(TEXTS)]}
        found: list[float] = client.post("/v1/embeddings", content).json["data"][0]["embedding"]
        return found

    alone = [ask(number) for number in range(16)]
    with ThreadPoolExecutor(16) as pool, busy(client) as release:
        together = [pool.submit(ask, number) for number in range(16)]
        await_waiting(client, 16)
        release()
        for one, other in zip(alone, together, strict=True):
            np.testing.assert_allclose(other.result(), one, rtol=0, atol=1e-6)


def test_what_waits_is_computed_together(engine: Engine) -> None:
    with serving(engine) as client:
        with ThreadPoolExecutor(8) as pool, busy(client) as release:
            told = [pool.submit(client.post, "/v1/embeddings", {"input": t * 2}) for t in TEXTS]
            await_waiting(client, 3)
            release()
            assert {reply.result().status for reply in told} == {200}
        text = client.service.metrics.text().decode()
    assert "aurora_batch_rows_count 2.0" in text  # what kept it busy, and all three
    assert "aurora_batch_rows_sum 4.0" in text


def test_a_wrong_row_fails_alone(client: ServedClient, engine: Engine) -> None:
    def ask(question: str) -> Reply:
        return client.post("/v1/search", {"query": question, "model": "a"})

    with ThreadPoolExecutor(4) as pool, busy(client) as release:
        good = pool.submit(ask, "a star")
        bad = pool.submit(client.post, "/v1/search", {"query": None})
        await_waiting(client, 2)
        release()
        assert good.result().status == 200
        assert bad.result().status == 400


def test_a_full_queue_is_told(engine: Engine) -> None:
    with (
        serving(engine, limits=Limits(waiting=2)) as client,
        ThreadPoolExecutor(4) as pool,
        busy(client) as release,
    ):
        kept = [pool.submit(client.post, "/v1/embeddings", {"input": "a star"}) for _ in range(2)]
        await_waiting(client, 2)
        refused = client.post("/v1/embeddings", {"input": "a star"})
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        assert refused.json["error"]["code"] == "overloaded"
        release()
        assert [reply.result().status for reply in kept] == [200, 200]
        assert client.post("/v1/embeddings", {"input": "a star"}).status == 200


def test_a_server_that_stops_finishes_what_it_took(engine: Engine) -> None:
    with ThreadPoolExecutor(4) as pool:
        with serving(engine) as client, busy(client) as release:
            taken = pool.submit(client.post, "/v1/embeddings", {"input": "a star"})
            await_waiting(client, 1)
            threading.Timer(0.5, release).start()
            client.stop()
        assert taken.result().status == 200
        with pytest.raises(ConnectionRefusedError):
            client.get("/healthz")


def test_the_server_answers_while_the_model_works(client: ServedClient) -> None:
    with busy(client):
        assert client.get("/healthz").status == 200
        assert client.get("/v1/models").status == 200
