"""What a gallery holds: items, the collections of their vectors, and how a search narrows them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from aurora_vl.data.records import MediaKind, Window


@dataclass(frozen=True, slots=True)
class Item:
    """A picture, a video, or a stretch of a video.

    Attributes:
        path: absolute; bytes that are not UTF-8 are escaped as by `os.fsdecode`.
        kind: "image" or "video".
        size: of the file, in bytes.
        modified: when the file was last changed, in nanoseconds since 1970.
        digest: a hash of the file's content, in hexadecimal.
        window: from and to in seconds, of a stretch of a video; None for all of it.
    """

    path: str
    kind: MediaKind
    size: int
    modified: int
    digest: str
    window: Window | None = None

    @property
    def id(self) -> int:
        """64 bits that follow from the path and the window: the same in every gallery."""
        name = os.fsencode(self.path) + b"\0" + repr(self.window).encode()
        return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big", signed=True)

    @property
    def key(self) -> str:
        """The id in 16 hexadecimal digits: JavaScript's numbers hold no 64 bits."""
        return f"{self.id % 2**64:016x}"

    @staticmethod
    def id_of(key: str) -> int | None:
        """The id that a key stands for; None if it is no key."""
        if len(key) != 16 or not set(key) <= set("0123456789abcdef"):
            return None
        return int.from_bytes(bytes.fromhex(key), "big", signed=True)


@dataclass(frozen=True, slots=True)
class Collection:
    """The vectors by one backbone with one adapter, or without any.

    Attributes:
        fingerprint: of the backbone's and the adapter's files; it tells collections apart.
        backbone: its name, as for `Retriever.load`.
        adapter: the adapter's folder; None for the backbone alone.
        width: numbers in a vector.
    """

    fingerprint: str
    backbone: str
    adapter: str | None
    width: int

    def __str__(self) -> str:
        return self.backbone if self.adapter is None else f"{self.backbone} with {self.adapter}"


@dataclass(frozen=True, slots=True)
class Entry:
    """An item as it is written: with a small picture of it and its vectors by fingerprint.

    A collection that is not named keeps the vector it has for this item.
    """

    item: Item
    thumbnail: bytes
    vectors: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settings:
    """How videos are looked at: the same for a gallery's whole life.

    Attributes:
        frames: of a video, or of each stretch of it; None for what the backbone's settings say.
        segment: seconds of the stretches that a video is cut into; None for whole videos.
    """

    frames: int | None = None
    segment: float | None = None


@dataclass(frozen=True, slots=True)
class Filter:
    """Which items a search may find; None sets no limit.

    Attributes:
        folder: items below it.
        kind: "image" or "video".
        since, before: bounds of the file's time, in nanoseconds since 1970; the latter is excluded.
    """

    folder: str | None = None
    kind: MediaKind | None = None
    since: int | None = None
    before: int | None = None

    @property
    def path_range(self) -> tuple[bytes, bytes] | None:
        """Bounds of the folder's paths, the upper one excluded: "/" is followed by "0"."""
        if self.folder is None:
            return None
        stem = os.fsencode(os.path.abspath(self.folder)).rstrip(b"/")
        return stem + b"/", stem + b"0"
