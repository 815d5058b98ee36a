"""What one request may hold; everything is bounded before it is decoded."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a request, and of the work that waits.

    Attributes:
        body: bytes.
        body_seconds: that the client may let pass between two parts of a body.
        texts: in one request.
        characters: of a text.
        media: pictures or videos in one request.
        pixels: of a picture.
        video_seconds: of a video.
        decode_seconds: that decoding one medium may take.
        top: hits of a search.
        rerank: hits that are re-ranked.
        waiting: rows (texts, media, questions, searches) that wait for the model.
        batch: rows that are computed together.
        batch_wait: seconds that the first row of a batch waits for more.
    """

    body: int = 32 * 2**20
    body_seconds: float = 20.0
    texts: int = 256
    characters: int = 4096
    media: int = 32
    pixels: int = 40_000_000
    video_seconds: float = 600.0
    decode_seconds: float = 20.0
    top: int = 200
    rerank: int = 50
    waiting: int = 512
    batch: int = 64
    batch_wait: float = 0.005
