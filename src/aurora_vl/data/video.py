"""Frames of videos of any kind a user has, upright and in RGB.

A video is cut into as many equal parts as frames are wanted; of each part the frame shown in its
middle is taken, in training the frame shown at a random moment. The container is asked for the key
frame before each moment, so that of a long video only what lies between is decoded; frames are
handed on one by one, so memory does not grow with the video. Everything a file can do wrong ends
in one `UserError` that names it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from aurora_vl.data.images import on_white
from aurora_vl.data.paths import require_file
from aurora_vl.data.records import Window
from aurora_vl.errors import UserError

MAX_PIXELS = 4096 * 2304
"""Largest frame that is decoded: 4K. A decoder may keep 16 such frames at once (230 MB)."""

# A list and not "whatever FFmpeg knows": its playlists and scripts name other files to be opened.
_FORMATS = "mov,mp4,matroska,webm,avi,gif,mpegts,mpeg,flv,asf,ogg"
_MATROSKA = "matroska,webm"
_DECODER = {"max_pixels": str(MAX_PIXELS)}
# For streams whose pictures start long after the sound: bytes and microseconds that are looked at.
_PATIENCE = {"probesize": "100000000", "analyzeduration": "600000000"}
_CUT_OFF = (1.0, 0.05)  # seconds and share of the duration that may lack at the end


def read_frames(
    path: str | Path,
    frames: int = 8,
    *,
    rng: np.random.Generator | None = None,
    window: Window | None = None,
) -> list[Image.Image]:
    """Return frames of a video file, spread evenly over it.

    Args:
        path: MP4, MOV, WebM, MKV, AVI, animated GIF, MPEG, FLV, WMV or Ogg.
        frames: how many; where the video has fewer, some are repeated.
        rng: draws one moment in each of `frames` equal parts; None takes their middles.
        window: the part of the video that is looked at; None for all of it.

    Returns:
        Upright RGB pictures of equal size, in the order of time.

    Raises:
        UserError: the file is absent, empty, no video, damaged, cut off or too large, holds sound
            alone, or ends before the window; or PyAV (the extra `video`) is not installed.
    """
    return list(iter_frames(path, frames, rng=rng, window=window))


def iter_frames(
    path: str | Path,
    frames: int = 8,
    *,
    rng: np.random.Generator | None = None,
    window: Window | None = None,
) -> Iterator[Image.Image]:
    """As `read_frames`, one picture at a time; a repeated frame is the same object again."""
    path = Path(path)
    require_file(path, "video")
    av = pyav()
    try:
        with closing(_Video(path, av)) as video:
            moments = sample_moments(*video.span(window), frames, rng)
            yield from _pictures(video.shown_at(moments), av)
    except av.error.FFmpegError as error:
        raise _damaged(path, error.strerror or error) from None


def sample_moments(
    start: float, end: float, count: int, rng: np.random.Generator | None = None
) -> list[float]:
    """One moment in each of `count` equal parts of a span: its middle, or drawn from `rng`."""
    shares = np.full(count, 0.5) if rng is None else rng.random(count)
    return [float(t) for t in start + (np.arange(count) + shares) / count * (end - start)]


def pyav() -> Any:
    """Import PyAV when it is first needed: it belongs to the extra `video`."""
    try:
        import av
    except ImportError:
        raise UserError("videos need PyAV: install aurora-vl[video]") from None
    return av


class _Start(NamedTuple):
    """What to search for, and the key frame that is found so; both by the stream's clock."""

    target: int
    key_frame: int


class _Video:
    """An open video file; times are seconds from the first frame's."""

    def __init__(self, path: Path, av: Any) -> None:
        self.path = path
        self._av = av
        self._probing: dict[str, str] = {}
        self._open()
        self._start = self._first_shown()

    def _open(self) -> None:
        options = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}
        try:  # the decoders' options hold while the format is being found out, too
            self._container = self._av.open(
                f"file:{self.path}",
                options=options | _DECODER | self._probing,
                metadata_errors="replace",  # titles in other encodings harm no picture
            )
        except PermissionError:
            raise UserError(f"{self.path} may not be read: change its permissions") from None
        except (self._av.error.FFmpegError, ValueError):
            raise UserError(
                f"{self.path} is no video that can be read, or is damaged: give an MP4, WebM, MKV, "
                "AVI or GIF file, or take it out of the annotations"
            ) from None
        cover = self._av.stream.Disposition.attached_pic
        streams = [s for s in self._container.streams.video if not s.disposition & cover]
        unseen = streams and not streams[0].width and self._is("mpeg", "mpegts")
        if unseen and not self._probing:
            self._probing = _PATIENCE
            self._reopen()
            return
        alone = ", sound alone" if self._container.streams.audio else ""
        fault = self._fault(streams[0]) if streams else f"holds no moving pictures{alone}"
        if fault:
            self.close()
            raise UserError(f"{self.path} {fault}: convert or replace it, or take it out")
        self._stream = streams[0]
        self._stream.codec_context.options = _DECODER
        # Workers decode several videos at once; threads within one would only add frames in memory.
        self._stream.codec_context.thread_count = 1

    def _reopen(self) -> None:
        self.close()
        self._open()

    def _fault(self, stream: Any) -> str:
        """What keeps a stream from being decoded at all, or nothing."""
        limit = f"{MAX_PIXELS:,} pixels"
        if not stream.width * stream.height:
            return f"tells no size of its frames, or one above {limit}"
        if stream.width * stream.height > MAX_PIXELS:
            return f"has frames of {stream.width} x {stream.height}, above {limit}"
        if self._is("gif") and not _ends_as_gif(self.path):
            return "is cut off: its end mark is missing"
        return ""

    def _is(self, *formats: str) -> bool:
        return self._container.format.name in formats

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def span(self, window: Window | None) -> Window:
        """The seconds to look at: the window's part that the video has, or all of it."""
        duration = self._duration()
        if window is None:
            return 0.0, duration
        start, end = window
        if not 0.0 <= start < end:
            raise UserError(
                f"{self.path}: the window {start:g} to {end:g} s is none: give seconds from the "
                "start, the smaller first"
            )
        if start >= duration:
            raise UserError(
                f"{self.path} ends at {duration:.1f} s, before its window of {start:g} to {end:g} s"
            )
        return start, min(end, duration)

    def shown_at(self, moments: Sequence[float]) -> Iterator[Any]:
        """The frame shown at each moment (ascending); before the first one, the first."""
        starts = self._starts(moments)
        if starts is None:
            self._reopen()
            yield from self._decoded_at(moments)
            return
        for _, group in groupby(zip(starts, moments), key=lambda pair: pair[0].key_frame):
            searched, wanted = zip(*group, strict=True)
            self._container.seek(searched[0].target, stream=self._stream)
            yield from self._decoded_at(wanted)

    def _first_shown(self) -> float:
        """When the first frame is shown, by the file's own clock.

        Of a Matroska file in which sound comes first FFmpeg tells when that begins.
        """
        stamp = self._stream.start_time or 0
        if self._is(_MATROSKA):
            first = next((p for p in self._container.demux(self._stream) if p.size), None)
            stamp = max(stamp, first.pts or 0) if first else stamp
        return float(stamp * self._stream.time_base)

    def _duration(self) -> float:
        """Seconds to the end of the last frame; headers tell where to look for it.

        Headers are off (by long last frames, by sound that goes on); what lies at the file's end
        tells the truth, and whether the file was cut off.
        """
        told = self._told_duration()
        end, anything = self._last_end(told) if told else (0.0, 0.0)
        if not anything:
            self._reopen()
            end, anything = self._last_end()
        seconds, share = _CUT_OFF
        if anything < told - max(seconds, share * told):
            raise UserError(
                f"{self.path} is cut off or damaged: of its {told:.1f} s, {anything:.1f} s can be "
                "read; replace the file or take it out of the annotations"
            )
        return end or told

    def _last_end(self, since: float | None = None) -> tuple[float, float]:
        """When the stream and when anything in the file ends, looking from some second on."""
        end = anything = 0.0
        try:
            if since is not None:
                target = int((since + self._start) / self._stream.time_base)
                self._container.seek(target, stream=self._stream)
            for packet in self._container.demux():
                if packet.pts is not None and packet.time_base is not None:
                    last = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                    anything = max(anything, last - self._start)
                    if packet.stream_index == self._stream.index:
                        end = max(end, last - self._start)
        except self._av.error.FFmpegError:
            pass  # what cannot be read is not there
        return end, anything

    def _told_duration(self) -> float:
        """Seconds by the header; 0 if it has none, as in recordings that were never finished."""
        stream = self._stream
        told = float((stream.duration or 0) * stream.time_base)
        if self._is(_MATROSKA):  # tells the streams' ends, in tags, or else the whole file's
            told = _seconds(stream.metadata.get("DURATION", "")) or told
            told = max(told - self._start, 0.0)
        if told and self._is("avi") and stream.average_rate:
            # A file that was cut off has a shorter index, but still counts all its frames.
            return max(told, float(stream.frames / stream.average_rate))
        return told or self._length()

    def _length(self) -> float:
        """Seconds of the whole file by its header; 0 if that does not tell."""
        return float((self._container.duration or 0) / self._av.time_base)

    def _starts(self, moments: Sequence[float]) -> list[_Start] | None:
        """Where decoding has to begin for each moment; None if the file cannot be searched."""
        found = []
        try:
            for moment in moments:
                target = int((moment + self._start) / self._stream.time_base)
                packet = self._packet_at(target)
                if packet is not None and packet.pts is not None and packet.pts > target:
                    # Searched by decoding time, which may be earlier than the time of showing.
                    target = (packet.pts if packet.dts is None else packet.dts) - 1
                    packet = self._packet_at(target)
                if packet is None or packet.pts is None or not packet.is_keyframe:
                    return None
                found.append(_Start(target, packet.pts))
        except self._av.error.FFmpegError:
            return None
        return found if found == sorted(found, key=lambda start: start.key_frame) else None

    def _packet_at(self, target: int) -> Any | None:
        self._container.seek(target, stream=self._stream)
        return next((p for p in self._container.demux(self._stream) if p.size), None)

    def _decoded_at(self, moments: Sequence[float]) -> Iterator[Any]:
        """Decode on from where the file stands and pick the frame shown at each moment."""
        waiting = list(moments)
        shown, shown_from = None, -np.inf
        for frame in self._container.decode(self._stream):
            time = self._time(frame, shown_from)
            while waiting and shown is not None and time > waiting[0]:
                yield self._sound(shown, shown_from)
                waiting.pop(0)
            if not waiting:
                return
            shown, shown_from = frame, time
        if shown is None:
            raise _damaged(self.path, f"no frame can be decoded at {waiting[0]:.1f} s")
        lasting = float((shown.duration or 0) * shown.time_base)
        for moment in waiting:
            if moment > shown_from + max(lasting, _CUT_OFF[0]):
                raise _damaged(self.path, f"no frame can be decoded at {moment:.1f} s")
            yield self._sound(shown, shown_from)

    def _time(self, frame: Any, previous: float) -> float:
        """When a frame is shown; frames come in order even where their stamps are none or wrong."""
        if frame.pts is None:
            rate = self._stream.average_rate or 25
            return max(previous, -1.0 / float(rate)) + 1.0 / float(rate)
        return max(previous, float(frame.pts * frame.time_base) - self._start)

    def _sound(self, frame: Any, time: float) -> Any:
        if frame.is_corrupt:
            raise _damaged(self.path, f"the frame at {time:.1f} s is incomplete")
        return frame


def _pictures(frames: Iterator[Any], av: Any) -> Iterator[Image.Image]:
    """Upright RGB pictures, all of the first one's size."""
    converter = av.video.reformatter.VideoReformatter()  # setting one up takes longer than its work
    last: Any = None
    image = size = None
    for frame in frames:
        if image is None or frame is not last:
            image = _upright(_to_rgb(frame, converter), frame)
            size = size or image.size
            if image.size != size:  # a stream may change its size on the way
                image = image.resize(size, Image.Resampling.BICUBIC)
            last = frame
        yield image


def _to_rgb(frame: Any, converter: Any) -> Image.Image:
    transparent = any(component.is_alpha for component in frame.format.components)
    mode = "rgba" if transparent else "rgb24"
    pixels = converter.reformat(frame, format=mode, threads=1).to_ndarray()
    image = Image.fromarray(pixels)
    return on_white(image) if transparent else image


# What shows the stored picture as its display matrix (a, b, c, d) says:
# x' = a x + c y, y' = b x + d y.
_TRANSPOSE = {
    (1, 0, 0, 1): None,
    (0, 1, -1, 0): Image.Transpose.ROTATE_270,
    (-1, 0, 0, -1): Image.Transpose.ROTATE_180,
    (0, -1, 1, 0): Image.Transpose.ROTATE_90,
    (-1, 0, 0, 1): Image.Transpose.FLIP_LEFT_RIGHT,
    (1, 0, 0, -1): Image.Transpose.FLIP_TOP_BOTTOM,
    (0, 1, 1, 0): Image.Transpose.TRANSPOSE,
    (0, -1, -1, 0): Image.Transpose.TRANSVERSE,
}


def _upright(image: Image.Image, frame: Any) -> Image.Image:
    """Apply the rotation or mirroring that the file asks players for, in quarter turns."""
    data = next((d for d in frame.side_data if d.type.name == "DISPLAYMATRIX"), None)
    if data is None:
        return image
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5]
    corners = np.array([a, b, c, d], np.float64)
    if not np.abs(corners).max():
        return image
    method = _TRANSPOSE.get(tuple(np.rint(corners / np.abs(corners).max()).astype(int).tolist()))
    return image if method is None else image.transpose(method)


def _ends_as_gif(path: Path) -> bool:
    """Whether the last block is closed and the trailer follows, maybe with a few bytes behind."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 64))
        return b"\x00;" in file.read()


def _seconds(clock: str) -> float:
    """Seconds of "HH:MM:SS.fraction"; 0 of anything else."""
    try:
        hours, minutes, seconds = (float(part) for part in clock.split(":"))
    except ValueError:
        return 0.0
    return 3600.0 * hours + 60.0 * minutes + seconds


def _damaged(path: Path, why: object) -> UserError:
    return UserError(
        f"{path} is damaged and cannot be decoded ({why}): replace the file or take it out of the "
        "annotations"
    )
