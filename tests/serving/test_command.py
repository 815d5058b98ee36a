"""`aurora serve` as a process."""

from __future__ import annotations

import re
import signal
import socket
from pathlib import Path

import pytest
from command_line import run_in_process, start_process
from served import Client

from aurora_vl.gallery.gallery import Gallery
from aurora_vl.serving.server import listen


def test_answers_are_sent_at_once() -> None:
    """asyncio turns Nagle's algorithm off where the listening socket tells that it is TCP."""
    with listen("127.0.0.1", 0) as bound:
        assert bound.proto == socket.IPPROTO_TCP


def test_a_gallery_is_served_as_it_was_indexed(gallery: Gallery, tmp_path: Path) -> None:
    process = start_process("serve", "--gallery", gallery.uri, "--port", 0, folder=tmp_path)
    try:
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        port = next(found[1] for line in lines if (found := re.search(r"127.0.0.1:(\d+)", line)))
        client = Client(int(port))
        models = {each["id"]: each["searchable"] for each in client.get("/v1/models").json["data"]}
        assert models == {"mini": True, "a": True, "b": True}
        found = client.post("/v1/search", {"query": "a red star", "top": 2}).json
        assert (found["model"], len(found["results"])) == ("a", 2)
        assert client.get("/").body.startswith(b"<!doctype html>")
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate()
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGTERM
    assert '"route": "/v1/search", "status": 200' in told
    assert "red star" not in told


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--adapter", "runs/mine"], "write NAME=DIR"),
        (["--adapter", "a=x", "--adapter", "a=y"], "two --adapter have one name"),
        (["--gallery", "none.aurora"], "none.aurora does not exist"),
        (["--host", "192.0.2.1", "--token-file", "none"], "--token-file none cannot be read"),
    ],
)
def test_wrong_usage_is_a_sentence(arguments: list[str], sentence: str) -> None:
    told = run_in_process("serve", "--port", 0, *arguments)
    assert told.status == 2
    assert sentence in " ".join(told.err.split())
