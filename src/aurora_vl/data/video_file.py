"""An open video file: how long it is, and the frame shown at a moment.

The container is asked for the key frame before each moment, so that of a long video only what lies
between is decoded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import SEEK_END, BytesIO
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from aurora_vl.data.paths import Source
from aurora_vl.data.records import Window
from aurora_vl.errors import MediaError, UserError

MAX_PIXELS = 4096 * 2304
"""Largest frame that is decoded: 4K. A decoder may keep 16 such frames at once (230 MB)."""

# A list and not "whatever FFmpeg knows": its playlists and scripts name other files to be opened.
_FORMATS = "mov,mp4,matroska,webm,avi,gif,mpegts,mpeg,flv,asf,ogg"
_MATROSKA = "matroska,webm"
_DECODER = {"max_pixels": str(MAX_PIXELS)}
# For streams whose pictures start long after the sound: bytes and microseconds that are looked at.
_PATIENCE = {"probesize": "100000000", "analyzeduration": "600000000"}
_CUT_OFF = (1.0, 0.05)  # seconds and share of the duration that may lack at the end


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


class VideoFile:
    """An open video file; times are seconds from the first frame's.

    Args:
        source: the path or the content.
        name: what messages call it.

    Raises:
        MediaError: it holds no pictures that can be decoded.
        UserError: PyAV is not installed.
    """

    def __init__(self, source: Source, name: str) -> None:
        self.name = name
        self._source = source if isinstance(source, bytes) else Path(source)
        self._av = pyav()
        self._probing: dict[str, str] = {}
        self._open()
        self._start = self._first_shown()

    def _open(self) -> None:
        options = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}
        try:  # the decoders' options hold while the format is being found out, too
            self._container = self._av.open(
                f"file:{self._source}" if isinstance(self._source, Path) else BytesIO(self._source),
                options=options | _DECODER | self._probing,
                metadata_errors="replace",  # titles in other encodings harm no picture
            )
        except PermissionError:
            raise MediaError(f"{self.name} may not be read: change its permissions") from None
        except (self._av.error.FFmpegError, ValueError):
            raise MediaError(
                f"{self.name} is no video that can be read, or is damaged: give an MP4, WebM, MKV, "
                "AVI or GIF file"
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
            raise MediaError(f"{self.name} {fault}: convert or replace it")
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
        if self._is("gif") and not _ends_as_gif(self._source):
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
            raise MediaError(
                f"{self.name}: the window {start:g} to {end:g} s is none: give seconds from the "
                "start, the smaller first"
            )
        if start >= duration:
            raise MediaError(
                f"{self.name} ends at {duration:.1f} s, before its window of {start:g} to {end:g} s"
                ": correct the window"
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
            raise MediaError(
                f"{self.name} is cut off or damaged: of its {told:.1f} s, {anything:.1f} s can be "
                "read; replace it"
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
            raise damaged(self.name, f"no frame can be decoded at {waiting[0]:.1f} s")
        lasting = float((shown.duration or 0) * shown.time_base)
        for moment in waiting:
            if moment > shown_from + max(lasting, _CUT_OFF[0]):
                raise damaged(self.name, f"no frame can be decoded at {moment:.1f} s")
            yield self._sound(shown, shown_from)

    def _time(self, frame: Any, previous: float) -> float:
        """When a frame is shown; frames come in order even where their stamps are none or wrong."""
        if frame.pts is None:
            rate = self._stream.average_rate or 25
            return max(previous, -1.0 / float(rate)) + 1.0 / float(rate)
        return max(previous, float(frame.pts * frame.time_base) - self._start)

    def _sound(self, frame: Any, time: float) -> Any:
        if frame.is_corrupt:
            raise damaged(self.name, f"the frame at {time:.1f} s is incomplete")
        return frame


def _ends_as_gif(source: Path | bytes) -> bool:
    """Whether the last block is closed and the trailer follows, maybe with a few bytes behind."""
    with BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
        size = file.seek(0, SEEK_END)
        file.seek(max(0, size - 64))
        return b"\x00;" in file.read()


def _seconds(clock: str) -> float:
    """Seconds of "HH:MM:SS.fraction"; 0 of anything else."""
    try:
        hours, minutes, seconds = (float(part) for part in clock.split(":"))
    except ValueError:
        return 0.0
    return 3600.0 * hours + 60.0 * minutes + seconds


def damaged(name: str, why: object) -> MediaError:
    """What is said of a file that cannot be decoded."""
    return MediaError(f"{name} is damaged and cannot be decoded ({why}): replace it")
