"""What is refused, with which status, in one sentence, and never with a crash."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import run_in_process
from PIL import Image
from served import Client, data_uri, serving

from aurora_vl.errors import UserError
from aurora_vl.gallery.gallery import Gallery
from aurora_vl.serving.access import COOKIE, Tokens
from aurora_vl.serving.engine import Engine, load_engine
from aurora_vl.serving.limits import Limits

TOKEN = "a-token-of-more-than-16"
SMALL = Limits(body=200_000, texts=4, characters=100, media=2, pixels=10_000, video_seconds=1.5)


@pytest.fixture(scope="module")
def bounded(engine: Engine) -> Iterator[Client]:
    with serving(engine, limits=SMALL) as client:
        yield client


@pytest.fixture(scope="module")
def guarded(engine: Engine) -> Iterator[Client]:
    with serving(engine, tokens=Tokens([TOKEN, "another-token-of-16"])) as client:
        yield client


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({}, "either input or messages"),
        ({"input": []}, "input is empty"),
        ({"input": " "}, "without words"),
        ({"input": "\ud800"}, "not Unicode"),
        ({"input": 5}, "input"),
        ({"input": ["a"] * 5}, "holds 5 where 1 to 4"),
        ({"input": "a" * 101}, "101 characters where 100"),
        ({"input": "a", "dimensions": 4}, "leave dimensions out"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
        ({"input": "a", "modality": "image"}, "data URIs"),
        ({"input": "/etc/passwd", "modality": "image"}, "paths are not followed"),
        ({"input": "http://127.0.0.1/a.png", "modality": "image"}, "addresses"),
        ({"input": "file:///etc/passwd", "modality": "image"}, "data URIs"),
        ({"input": "data:image/png;base64,%%%", "modality": "image"}, "no valid base64"),
        ({"input": "data:image/png;base64,AAAA", "modality": "image"}, "not a picture"),
        ({"input": "data:image/png;base64,AAAA", "modality": "video"}, "video is expected"),
        ({"input": "data:video/mp4;base64,AAAA", "modality": "video"}, "video"),
        ({"messages": []}, "one text, one picture"),
    ],
)
def test_wrong_inputs_are_told(bounded: Client, content: dict[str, Any], sentence: str) -> None:
    reply = bounded.post("/v1/embeddings", content)
    assert (reply.status, reply.json["error"]["type"]) == (400, "invalid_request_error")
    assert sentence in reply.error


@pytest.mark.parametrize(
    ("path", "content", "sentence"),
    [
        ("rerank", {"query": "a", "documents": []}, "documents is empty"),
        ("rerank", {"query": "a", "documents": [{}]}, "one of text, image and video"),
        ("rerank", {"query": "a", "documents": ["b"], "top_n": 0}, "top_n"),
        ("search", {"query": "a", "top": 10**9}, "top is 1000000000 where at most 200"),
        ("search", {"query": "a", "top": -1}, "top"),
        ("search", {"query": "a", "rerank": 51}, "rerank is 51 where at most 50"),
        ("search", {}, "nothing is searched for"),
        ("search", {"query": "a", "weight": 2}, "weight"),
        ("chat/completions", {"messages": [{"role": "user", "content": "what?"}]}, "picture"),
        ("chat/completions", {"messages": [], "stream": True}, "leave stream out"),
        ("chat/completions", {"messages": "what?"}, "messages"),
    ],
)
def test_wrong_requests_are_told(
    bounded: Client, path: str, content: dict[str, Any], sentence: str
) -> None:
    reply = bounded.post(f"/v1/{path}", content)
    assert reply.status == 400
    assert sentence in reply.error


def test_sizes_are_bounded(bounded: Client, videos: list[Path]) -> None:
    large = Image.fromarray(np.zeros((101, 100, 3), np.uint8))
    image = {"modality": "image", "input": data_uri(large)}
    assert "10,100 pixels where at most 10,000" in bounded.post("/v1/embeddings", image).error
    video = {"modality": "video", "input": data_uri(videos[0])}
    assert "lasts 2 s where 1.5 s" in bounded.post("/v1/embeddings", video).error
    reply = bounded.post("/v1/embeddings", {"input": "a" * 200_000})
    assert (reply.status, "200,000 bytes" in reply.error) == (413, True)


def test_a_body_without_a_length_is_cut(bounded: Client) -> None:
    with socket.create_connection(("127.0.0.1", bounded.port), timeout=60) as sent:
        head = "POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json"
        sent.sendall(f"{head}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
        for _ in range(4):
            sent.sendall(chunk)
        assert sent.recv(100).startswith(b"HTTP/1.1 413")


def test_a_body_that_does_not_come_is_not_waited_for(engine: Engine) -> None:
    with (
        serving(engine, limits=Limits(body_seconds=0.2)) as client,
        socket.create_connection(("127.0.0.1", client.port), timeout=60) as sent,
    ):
        head = "POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json"
        sent.sendall(f"{head}\r\nContent-Length: 100\r\n\r\n{{".encode())
        assert sent.recv(100).startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b"[" * 100_000, b"null", b'"a"', b""])
def test_what_is_no_json_is_told(bounded: Client, body: bytes) -> None:
    reply = bounded.ask("POST", "/v1/search", body, {"Content-Type": "application/json"})
    assert reply.status == 400
    assert reply.error


def test_a_decoder_that_dies_costs_its_request_alone(engine: Engine, pictures: list[Path]) -> None:
    """Its time is up before it has begun, which kills its process."""
    picture = {"modality": "image", "input": data_uri(pictures[0])}
    with serving(engine, limits=Limits(decode_seconds=1e-6)) as client:
        for _ in range(2):
            reply = client.post("/v1/embeddings", picture)
            assert (reply.status, "crashed its decoder" in reply.error) == (400, True)
        assert client.post("/v1/embeddings", {"input": "a star"}).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/v1/media/0000000000000000",
        "/v1/media/..%2f..%2fetc%2fpasswd",
        "/v1/media/../../etc/passwd",
        "/v1/media/%00",
        "/v1/media/" + "a" * 5000,
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/v1/nothing",
        "/v1/models/nothing",
    ],
)
def test_what_is_not_there_is_not_found(client: Client, path: str) -> None:
    reply = client.get(path)
    assert reply.status == 404
    assert reply.error


def test_a_link_in_a_file_s_place_is_not_followed(
    engine: Engine, tmp_path: Path, pictures: list[Path]
) -> None:
    media = tmp_path / "media"
    media.mkdir()
    path = media / "a.jpg"
    path.write_bytes(pictures[0].read_bytes())
    assert engine.retriever is not None
    with Gallery.open(tmp_path / "gallery.aurora") as gallery:
        gallery.add_folder(media, engine.retriever, adapters=["a"])
        (item,) = gallery.items()
        with serving(Engine(engine.retriever, None, gallery)) as client:
            assert client.get(f"/v1/media/{item.key}").status == 200
            path.unlink()
            path.symlink_to("/etc/passwd")
            assert client.get(f"/v1/media/{item.key}").status == 404


def test_a_token_is_asked_for(guarded: Client) -> None:
    asked = {"input": "a star"}
    for headers in [{}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}]:
        reply = guarded.post("/v1/embeddings", asked, **headers)
        assert (reply.status, reply.headers["www-authenticate"]) == (401, "Bearer")
        assert "Authorization: Bearer" in reply.error
    assert guarded.get("/metrics").status == 401
    assert guarded.get("/v1/media/0000000000000000").status == 401
    assert guarded.get("/healthz").status == 200
    for token in (TOKEN, "another-token-of-16"):
        reply = guarded.post("/v1/embeddings", asked, Authorization=f"Bearer {token}")
        assert reply.status == 200
    assert guarded.get("/v1/models", Cookie=f"{COOKIE}={TOKEN}").status == 200


def test_another_site_s_name_is_refused_without_tokens(client: Client) -> None:
    assert client.get("/v1/models", Host="evil.example").status == 403
    assert client.get("/v1/models", Host="localhost:80").status == 200


def test_another_host_needs_tokens(tmp_path: Path) -> None:
    told = run_in_process("serve", "--host", "0.0.0.0", "--port", "0")
    assert (told.status, "--token-file" in told.err) == (2, True)
    short = tmp_path / "tokens"
    short.write_text("short\n")
    told = run_in_process("serve", "--host", "0.0.0.0", "--port", "0", "--token-file", str(short))
    assert (told.status, "16 characters" in told.err) == (2, True)


def test_adapters_are_checked_when_the_server_starts(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        load_engine("mini", {"a": tmp_path / "none"})
