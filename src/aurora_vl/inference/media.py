"""Media of any origin as batches for a model, decoded ahead of it.

Sources are paths, bytes of a file, or PIL pictures. Decoding runs in threads, or in processes where
asked for, while the model works on the batch before.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from PIL import Image
from torch import Tensor

from aurora_vl.backbones.base import Preprocessor
from aurora_vl.data.images import open_picture
from aurora_vl.data.media import kind_of_file
from aurora_vl.data.records import MediaKind, Record, Window, window_of
from aurora_vl.data.video import iter_frames
from aurora_vl.errors import UserError

Source = str | os.PathLike[str] | bytes | Image.Image
OnError = Literal["raise", "yield"]
_THREADS = 2  # decoders beside the model, where no processes are asked for
_BATCHES_AHEAD = 2


@dataclass(frozen=True, slots=True)
class MediaItem:
    """One picture or video.

    Attributes:
        source: a path, the bytes of a file, or a picture.
        kind: "image" or "video".
        window: the part of a video that is meant, in seconds; None for all of it.
    """

    source: Source
    kind: MediaKind = "image"
    window: Window | None = None


def media_item(given: MediaItem | Source, kind: MediaKind | None = None) -> MediaItem:
    """What a user gave as an item; without `kind` a path's ending tells pictures from videos.

    Raises:
        UserError: it is none of the kinds of source.
    """
    if isinstance(given, MediaItem):
        return given
    if isinstance(given, (str, os.PathLike)):
        return MediaItem(given, kind or kind_of_file(Path(given)))
    if isinstance(given, (bytes, Image.Image)):
        return MediaItem(given, kind or "image")
    raise UserError(
        f"a medium is a path, the bytes of a file or a PIL picture, not a {type(given).__name__}."
    )


def listed(media: Source | MediaItem | Sequence[Source | MediaItem]) -> list[Source | MediaItem]:
    """One medium or many as a list."""
    return [cast("Source", media)] if is_one(media) else list(cast("Sequence[Source]", media))


def is_one(
    media: Source | MediaItem | Sequence[Source | MediaItem],
) -> bool:
    """Whether this is one medium and not a sequence of them."""
    return isinstance(media, (str, os.PathLike, bytes, Image.Image, MediaItem))


def item_of_record(record: Record) -> MediaItem:
    """A data set's medium as an item."""
    return MediaItem(record.path, record.kind, window_of(record))


def decode(item: MediaItem, preprocessor: Preprocessor) -> Any:
    """A preprocessor's item of one medium.

    Raises:
        UserError: it is absent or damaged.
    """
    if item.kind == "image":
        return preprocessor.image(open_picture(item.source))
    if isinstance(item.source, Image.Image):
        raise UserError("a PIL picture is no video; give a path or the bytes of a video file.")
    return preprocessor.video(iter_frames(item.source, preprocessor.frames, window=item.window))


@dataclass(frozen=True)
class Batch:
    """Consecutive decoded media.

    Attributes:
        rows: places of the items in the stream.
        media: collated.
    """

    rows: Sequence[int]
    media: dict[str, Tensor]


def batches(
    items: Iterable[MediaItem],
    preprocessor: Preprocessor,
    batch_size: int,
    *,
    workers: int = 0,
    on_error: OnError = "raise",
) -> Iterator[Batch | tuple[int, UserError]]:
    """Decode a stream into batches, in order; pictures and videos are never in one batch.

    Args:
        items: any number, also without an end.
        preprocessor: makes items and batches.
        batch_size: pictures in a batch, or frames of its videos; at least one medium.
        workers: processes that decode; 0 for threads of this one.
        on_error: raise what a damaged medium raises, or yield its place and the error.
    """
    waiting: list[tuple[int, Any]] = []
    waiting_kind: MediaKind | None = None
    for row, (kind, decoded) in enumerate(_decoded(items, preprocessor, batch_size, workers)):
        if isinstance(decoded, UserError):
            if on_error == "raise":
                raise decoded
            yield row, decoded
            continue
        if waiting and kind != waiting_kind:
            yield _batch(waiting, preprocessor)
            waiting = []
        waiting_kind = kind
        waiting.append((row, decoded))
        if len(waiting) >= _at_once(kind, preprocessor, batch_size):
            yield _batch(waiting, preprocessor)
            waiting = []
    if waiting:
        yield _batch(waiting, preprocessor)


def _at_once(kind: MediaKind, preprocessor: Preprocessor, batch_size: int) -> int:
    return max(1, batch_size // (preprocessor.frames if kind == "video" else 1))


def _batch(decoded: Sequence[tuple[int, Any]], preprocessor: Preprocessor) -> Batch:
    return Batch([row for row, _ in decoded], preprocessor.collate([item for _, item in decoded]))


def _decoded(
    items: Iterable[MediaItem], preprocessor: Preprocessor, batch_size: int, workers: int
) -> Iterator[tuple[MediaKind, Any]]:
    """Kind and decoded item, or its error, of every medium, in order."""
    with _pool(preprocessor, workers) as submit:
        yield from _ahead(submit, items, preprocessor.frames, _BATCHES_AHEAD * batch_size)


def _attempt(item: MediaItem, preprocessor: Preprocessor) -> tuple[MediaKind, Any]:
    try:
        return item.kind, decode(item, preprocessor)
    except UserError as error:
        return item.kind, error


Submit = Callable[[MediaItem], "Future[tuple[MediaKind, Any]]"]


@contextmanager
def _pool(preprocessor: Preprocessor, workers: int) -> Iterator[Submit]:
    """What decodes an item elsewhere: in threads, or in processes that have the preprocessor."""
    pool: Executor
    if workers:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        pool = ProcessPoolExecutor(workers, context, _keep_preprocessor, (preprocessor,))
    else:
        pool = ThreadPoolExecutor(_THREADS)
    try:
        if workers:
            yield lambda item: pool.submit(_attempt_there, item)
        else:
            yield lambda item: pool.submit(_attempt, item, preprocessor)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_kept: list[Preprocessor] = []  # of a decoding process


def _keep_preprocessor(preprocessor: Preprocessor) -> None:
    _kept[:] = [preprocessor]


def _attempt_there(item: MediaItem) -> tuple[MediaKind, Any]:
    return _attempt(item, _kept[0])


def _ahead(
    submit: Submit, items: Iterable[MediaItem], frames: int, room: int
) -> Iterator[tuple[MediaKind, Any]]:
    """The results in the order of the items, about `room` pictures or frames under way."""
    pending: deque[tuple[int, Future[tuple[MediaKind, Any]]]] = deque()
    stream, busy = iter(items), 0
    ended = False
    while True:
        while not ended and busy < room:
            item = next(stream, None)
            if item is None:
                ended = True
                break
            cost = frames if item.kind == "video" else 1
            pending.append((cost, submit(item)))
            busy += cost
        if not pending:
            return
        cost, future = pending.popleft()
        busy -= cost
        yield future.result()
