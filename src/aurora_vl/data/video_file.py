"""An open video file: how long it is, and the frame shown at a moment.

The container is asked for the key frame before each moment, so that of a long video only what lies
between is decoded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from io import SEEK_END, BytesIO
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from aurora_vl.data.paths import Source
from aurora_vl.data.records import Window
from aurora_vl.data.video_trace import Trace
from aurora_vl.errors import MediaError, UserError

MAX_PIXELS = 4096 * 2304
"""Largest frame that is decoded: 4K. A decoder may keep 16 such frames at once (230 MB)."""

# A list and not "whatever FFmpeg knows": its playlists and scripts name other files to be opened.
_FORMATS = "mov,mp4,matroska,webm,avi,gif,mpegts,mpeg,flv,asf,ogg"
_MATROSKA = "matroska,webm"
_QUICKTIME = "mov,mp4,m4a,3gp,3g2,mj2"
_DECODER = {"max_pixels": str(MAX_PIXELS)}
# For streams whose pictures start long after the sound: bytes and microseconds that are looked at.
_PATIENCE = {"probesize": "100000000", "analyzeduration": "600000000"}
_SHUFFLED = 2.0  # seconds within which the last frames are decoded in another order
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


class _Shown(NamedTuple):
    """From when on and how long a packet's frame is shown, by its stream's clock."""

    stamp: int
    lasting: int
    tick: Fraction

    @property
    def start(self) -> Fraction:
        """In seconds."""
        return self.stamp * self.tick

    @property
    def end(self) -> Fraction:
        """In seconds."""
        return (self.stamp + self.lasting) * self.tick


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
        self._last_frame = 0.0  # when it is shown, once the duration is known
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
        unseen = streams and not _area(streams[0]) and self._is("mpeg", "mpegts")
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
        if not _area(stream):
            return f"is damaged, or tells no size of its frames, or one above {limit}"
        if _area(stream) > MAX_PIXELS:
            return f"has frames of {stream.width} x {stream.height}, above {limit}"
        if self._is("gif") and not _ends_as_gif(self._source):
            return "is cut off: its end mark is missing"
        return ""

    def _is(self, *formats: str) -> bool:
        return self._container.format.name in formats

    @property
    def _unsorted(self) -> bool:
        """Whether stamps follow the order of decoding: AVI has none, so FFmpeg makes them up."""
        return self._is("avi") and self._stream.codec_context.name in ("h264", "hevc")

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

    def _first_shown(self) -> Fraction:
        """When the first frame is shown, by the file's own clock.

        Of a Matroska file in which sound comes first FFmpeg tells when that begins, and of H.264 in
        AVI that it begins at 0, though it shifts all frames.
        """
        stamp = self._stream.start_time or 0
        if self._is(_MATROSKA) or self._unsorted:
            first = next((p for p in self._container.demux(self._stream) if p.size), None)
            stamp = max(stamp, first.pts or 0) if first else stamp
        return Fraction(stamp * self._stream.time_base)

    def _duration(self) -> float:
        """Seconds to the end of the last frame; headers tell where to look for it.

        Headers are off (by long last frames, by sound that goes on); what lies at the file's end
        tells the truth, and whether the file was cut off.
        """
        told = self._told_duration()
        end, anything = self._last_end(told, told - _SHUFFLED) if told else (0.0, 0.0)
        if not anything:
            self._reopen()
            end, anything = self._last_end(told)
        seconds, share = _CUT_OFF
        if anything < told - max(seconds, share * told):
            raise MediaError(
                f"{self.name} is cut off or damaged: of its {told:.1f} s, {anything:.1f} s can be "
                "read; replace it"
            )
        return end or told

    def _last_end(self, told: float, since: float | None = None) -> tuple[float, float]:
        """When the stream and when anything in the file ends, looking from some second on."""
        last_shown = last_decoded = None
        others = self._start
        try:
            if since is not None:
                self._container.seek(self._stamp(max(since, 0.0)), stream=self._stream)
            for packet in self._container.demux():
                if packet.pts is None or packet.time_base is None:
                    continue
                found = _Shown(packet.pts, packet.duration or 0, packet.time_base)
                if packet.stream_index != self._stream.index:
                    others = max(others, found.end)
                    continue
                last_decoded = found
                if last_shown is None or found.stamp >= last_shown.stamp:
                    last_shown = found
        except self._av.error.FFmpegError:
            pass  # what cannot be read is not there
        if last_shown is None or last_decoded is None:
            return 0.0, float(others - self._start)
        self._last_frame = float(last_shown.start - self._start)
        end = self._end_of(last_shown, last_decoded, told)
        return end, max(end, float(others - self._start))

    def _end_of(self, shown: _Shown, decoded: _Shown, told: float) -> float:
        """When the frame that is shown last ends, in seconds.

        In some containers a duration tells when the next frame is decoded; then that of the frame
        shown last is another's, unless it is decoded last, too.
        """
        start = shown.start - self._start
        if shown.lasting != decoded.lasting:
            if self._is(_QUICKTIME) and told > start:
                return told
            shown = shown._replace(lasting=min(shown.lasting, decoded.lasting))
        if not shown.lasting and self._stream.average_rate:
            return float(start + 1 / self._stream.average_rate)
        return float(shown.end - self._start)

    def _told_duration(self) -> float:
        """Seconds by the header; 0 if it has none, as in recordings that were never finished."""
        stream = self._stream
        told = float((stream.duration or 0) * stream.time_base)
        if self._is(_MATROSKA):  # tells the streams' ends, in tags, or else the whole file's
            told = _seconds(stream.metadata.get("DURATION", "")) or told
            told = max(told - float(self._start), 0.0)
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
                target = wanted = int((moment + float(self._start)) / self._stream.time_base)
                packet = self._packet_at(target)
                if packet is not None and packet.pts is not None and packet.pts > target:
                    # Searched by decoding time, which may be earlier than the time of showing.
                    target = (packet.pts if packet.dts is None else packet.dts) - 1
                    packet = self._packet_at(target)
                if packet is None or packet.pts is None or not packet.is_keyframe:
                    return None
                if packet.pts > max(wanted, self._stamp(0.0)):
                    return None  # what lies before cannot be found, or not be read
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
        trace = Trace(self._stream, self._container.format.name)
        for number, frame in enumerate(self._frames(trace)):
            time = self._time(frame, trace, number, shown_from)
            if shown is None and time > waiting[0]:
                self._refuse_hole(trace, -1.0, waiting[0])
            while waiting and shown is not None and time > waiting[0]:
                self._refuse_hole(trace, shown_from, waiting[0])
                yield shown
                waiting.pop(0)
            if not waiting:
                return
            if frame.is_corrupt:
                raise damaged(self.name, f"the frame at {time:.1f} s is incomplete")
            shown, shown_from = frame, time
        if shown is None:
            raise damaged(self.name, f"no frame can be decoded at {waiting[0]:.1f} s")
        for moment in waiting:
            self._refuse_hole(trace, shown_from, moment)
            if moment > self._last_frame > shown_from + _CUT_OFF[0]:
                raise damaged(self.name, f"no frame can be decoded at {moment:.1f} s")
            yield shown

    def _frames(self, trace: Trace) -> Iterator[Any]:
        """Decode from where the file stands; signs of damage on the way are a fault."""
        streams = () if trace.all_streams else (self._stream,)
        for packet in self._container.demux(*streams):
            fault = trace.fault_at(packet)
            if fault:
                raise damaged(self.name, fault)
            if packet.stream_index == self._stream.index:
                yield from packet.decode()

    def _refuse_hole(self, trace: Trace, shown: float, moment: float) -> None:
        fault = trace.fault_between(self._stamp(shown), self._stamp(moment))
        if fault:
            raise damaged(self.name, f"at {moment:.1f} s {fault}")

    def _stamp(self, seconds: float) -> int:
        """Seconds by the stream's clock, to its nearest tick."""
        return round((seconds + float(self._start)) / self._stream.time_base)

    def _time(self, frame: Any, trace: Trace, number: int, previous: float) -> float:
        """When a frame is shown; frames come in order even where their stamps are none or wrong."""
        if frame.pts is None:
            rate = self._stream.average_rate or 25
            return max(previous, -1.0 / float(rate)) + 1.0 / float(rate)
        stamp = trace.stamp(number) if self._unsorted else frame.pts
        return max(previous, float(stamp * self._stream.time_base - self._start))


def _area(stream: Any) -> int:
    """Pixels of a frame; 0 where the header tells no size, or names no decoder that would know."""
    return 0 if stream.codec_context is None else int(stream.width * stream.height)


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
