"""Telling tuned models apart by what is in their files, wherever the files lie."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from aurora_vl.backbones.folders import find_backbone, is_file
from aurora_vl.inference.loading import TunedModel

_FILES = (
    *("*.safetensors", "*.bin", "config.json", "tokenizer.json", "vocab.txt"),
    *("preprocessor_config.json", "processor_config.json"),
)


def fingerprint(tuned: TunedModel, adapter: str | None) -> str:
    """A digest of the backbone, an adapter and how media and texts are prepared.

    Args:
        tuned: the model.
        adapter: a name that exists, "base" or None for the backbone alone.

    Returns:
        16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for part in (tuned.backbone, tuned.folders.get(adapter or "")):
        for path in _files(part) if part is not None else ():
            digest.update(path.name.encode())
            digest.update(_content(path))
    known = adapter if adapter in tuned.settings else tuned.usual
    digest.update(repr(tuned.settings[known].preparation()).encode())
    digest.update(str(tuned.image_size).encode())
    return digest.hexdigest()[:16]


def _files(name: str | Path) -> Iterator[Path]:
    if is_file(name):
        yield Path(name).expanduser()
        return
    folder = find_backbone(name)
    for pattern in _FILES:
        yield from sorted(folder.glob(pattern))


def _content(path: Path) -> bytes:
    facts = path.stat()
    return _content_of(path, facts.st_size, facts.st_mtime_ns)


@lru_cache(maxsize=256)  # searches ask every time, and weights are gigabytes
def _content_of(path: Path, size: int, modified: int) -> bytes:
    """A digest of a file that has this size and time."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
