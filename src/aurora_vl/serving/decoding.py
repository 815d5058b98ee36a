"""Pictures and videos of requests, taken from data URIs and decoded in processes that may die.

A file that crashes a decoder, or keeps it busy for too long, costs its own request and nothing
else: the process ends, and what else it had is decoded again in one of its own.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import multiprocessing
import os
import re
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import ParamSpec, TypeVar

from PIL import Image

from aurora_vl.data.images import open_picture
from aurora_vl.data.records import MediaKind
from aurora_vl.data.video import duration, read_frames
from aurora_vl.errors import MediaError, UserError
from aurora_vl.inference.media import MediaItem
from aurora_vl.serving.limits import Limits

P = ParamSpec("P")
T = TypeVar("T")
_HEAD = re.compile(r"data:(image|video)/[a-zA-Z0-9.+-]{1,64};base64,")
_FRAMES = 8  # of a video that are decoded to see whether it is whole


def content_of(uri: str) -> tuple[MediaKind, bytes]:
    """The kind and the bytes of a data URI.

    Raises:
        UserError: it is something else; nothing is ever fetched or read for a request.
    """
    head = _HEAD.match(uri[:100])
    if head is None:
        raise UserError(
            "pictures and videos are given as data URIs, such as data:image/jpeg;base64,...; "
            "addresses and paths are not followed"
        )
    try:
        content = base64.b64decode(uri[head.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise UserError(f"the data URI is no valid base64 ({error}); encode it again") from None
    return ("image" if head[1] == "image" else "video"), content


class Decoder:
    """Decodes media of requests; `close` ends its processes.

    Args:
        limits: of pictures and videos.
        processes: how many.
    """

    def __init__(self, limits: Limits, processes: int = 2) -> None:
        self._limits, self._processes = limits, processes
        self._pool = self._new_pool(processes)
        self._pool.submit(int)  # starting takes seconds, which the first request need not wait

    async def item(self, uri: str, kind: MediaKind | None = None) -> MediaItem:
        """A data URI as what models take: a picture decoded, a video as bytes that were tried.

        Args:
            uri: of a picture or a video.
            kind: which it must be; None for either.

        Raises:
            UserError: it is neither, damaged, or beyond the limits.
        """
        told, content = content_of(uri)
        if kind is not None and told != kind:
            raise UserError(f"the data URI is of the type {told} where {kind} is expected")
        limits = self._limits
        if told == "image":
            picture = await self._run(_picture, content, limits.pixels, limits.decode_seconds)
            return MediaItem(picture, "image")
        await self._run(_try_video, content, limits.video_seconds, limits.decode_seconds)
        return MediaItem(content, "video")

    def close(self) -> None:
        """End the processes."""
        self._pool.shutdown(cancel_futures=True)

    async def _run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        pool = self._pool
        try:
            return await asyncio.wrap_future(pool.submit(function, *args, **kwargs))
        except BrokenProcessPool:  # by this medium or by another one
            if self._pool is pool:
                self._pool = self._new_pool(self._processes)
        alone = self._new_pool(1)
        try:
            return await asyncio.wrap_future(alone.submit(function, *args, **kwargs))
        except BrokenProcessPool:
            raise MediaError(
                "the picture or video crashed its decoder or took longer than "
                f"{self._limits.decode_seconds:g} s to decode; give another one"
            ) from None
        finally:
            alone.shutdown(wait=False)

    @staticmethod
    def _new_pool(processes: int) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        return ProcessPoolExecutor(processes, context, _end_with_server)


def _end_with_server() -> None:
    """Let this process end with the server, also where that was killed."""
    server = multiprocessing.parent_process()
    assert server is not None

    def watch() -> None:
        server.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _picture(content: bytes, pixels: int, seconds: float) -> Image.Image:
    signal.setitimer(signal.ITIMER_REAL, seconds)  # unhandled, the alarm ends this process
    try:
        return open_picture(content, max_pixels=pixels)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _try_video(content: bytes, longest: float, seconds: float) -> None:
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        lasting = duration(content)
        if lasting > longest:
            raise MediaError(f"the video lasts {lasting:.0f} s where {longest:g} s are taken")
        read_frames(content, _FRAMES)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
