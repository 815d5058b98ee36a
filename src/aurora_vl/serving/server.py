"""Running the application under uvicorn until it is told to stop."""

from __future__ import annotations

import logging
import socket

import uvicorn
from fastapi import FastAPI

from aurora_vl.errors import UserError

log = logging.getLogger(__name__)
_GRACE = 30  # seconds that requests under way have when the server stops


def listen(host: str, port: int) -> socket.socket:
    """A socket that is bound; port 0 takes a free one.

    Raises:
        UserError: the address cannot be had.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # asyncio turns Nagle's algorithm off only where a socket tells that it is TCP.
        found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
    except (OSError, OverflowError) as error:
        raise UserError(
            f"cannot listen on {host}:{port} ({error}); give another --host or --port"
        ) from None
    return found


def make_server(app: FastAPI) -> uvicorn.Server:
    """A server for the application; `run(sockets=[...])` serves until SIGINT or SIGTERM."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE,
        h11_max_incomplete_event_size=64 * 2**10,
    )
    return uvicorn.Server(config)


def serve(app: FastAPI, bound: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM; requests under way are finished."""
    bound.listen()  # who asks now waits until the application has started
    host, port = bound.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    log.info("serving on http://%s:%d/ (Ctrl-C stops)", shown, port)
    make_server(app).run(sockets=[bound])
