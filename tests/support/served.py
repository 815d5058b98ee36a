"""A server on a free port of this machine, in a thread."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from aurora_vl.serving.access import Tokens
from aurora_vl.serving.app import create_app
from aurora_vl.serving.engine import Engine
from aurora_vl.serving.limits import Limits
from aurora_vl.serving.server import listen, make_server
from aurora_vl.serving.service import Service


class Reply(NamedTuple):
    """A response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The sentence."""
        message = self.json["error"]["message"]
        assert isinstance(message, str)
        assert message
        assert "\n" not in message
        return message


class Client:
    """Asks a server; a connection for each request."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=300)
        try:
            connection.request(method, path, body, dict(headers or {}))
            reply = connection.getresponse()
            return Reply(reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Reply:
        return self.ask("GET", path, headers=headers)

    def post(self, path: str, content: Any, **headers: str) -> Reply:
        body = json.dumps(content).encode()
        return self.ask("POST", path, body, {"Content-Type": "application/json", **headers})


class ServedClient(Client):
    """Asks a server in a thread; `service` is what it is made of, `stop` ends it."""

    def __init__(self, port: int, service: Service, stop: Callable[[], None]) -> None:
        super().__init__(port)
        self.service, self.stop = service, stop


@contextmanager
def serving(
    engine: Engine, *, limits: Limits | None = None, tokens: Tokens | None = None
) -> Iterator[ServedClient]:
    """The engine behind a server."""
    app = create_app(engine, limits, tokens)
    server = make_server(app)
    with listen("127.0.0.1", 0) as bound:
        bound.listen()
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})

        def stop() -> None:
            server.should_exit = True
            thread.join()

        thread.start()
        try:
            yield ServedClient(bound.getsockname()[1], app.state.service, stop)
        finally:
            stop()


def data_uri(media: Path | Image.Image) -> str:
    """A file or a picture as a data URI."""
    if isinstance(media, Path):
        kind = "video/mp4" if media.suffix == ".mp4" else f"image/{media.suffix[1:]}"
        content = media.read_bytes()
    else:
        buffer = io.BytesIO()
        media.save(buffer, "PNG")
        kind, content = "image/png", buffer.getvalue()
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
