"""Signs of damage on the way from a key frame to a wanted one.

Decoders leave out in silence what they cannot decode, and containers skip what they cannot read:
without a look at what lacks, the frame before a hole would be taken for all that were in it.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from typing import Any

# Which store packets one behind the other, with little between them. (Transport streams may be
# padded with any number of bytes; their packets are counted, so that FFmpeg marks those that lack.)
_CONTIGUOUS = ("matroska,webm", "mpeg", "flv")
_BETWEEN = (1024, 0.05)  # bytes, and share of a packet's size, that headers take at most
_GAP = 1.5  # of the usual time between two frames: more is a hole, if bytes lack too
_WITHOUT_FRAME = 3  # packets in a row from which sound streams may give no picture


class Trace:
    """The packets that were passed since a key frame.

    Args:
        stream: of the pictures.
        container: the name of its format.
    """

    def __init__(self, stream: Any, container: str) -> None:
        self._index = stream.index
        rate = stream.average_rate
        self._step = float(1 / (rate * stream.time_base)) if rate else 0.0
        self._gapless = container in _CONTIGUOUS
        self._stamps: list[int] = []
        self._end: int | None = None  # in bytes, of the packet before
        self._position: int | None = None
        self._lacking = 0

    @property
    def all_streams(self) -> bool:
        """Whether the packets of all streams are to be told, not only those of the pictures."""
        return self._gapless

    def fault_at(self, packet: Any) -> str:
        """Note a packet and say what is wrong with it or before it, or nothing."""
        self._count_bytes(packet)
        if packet.stream_index != self._index or packet.pts is None:
            return ""
        if packet.is_corrupt:
            return "a packet is incomplete"
        late = self._stamps and packet.pts - self._stamps[-1] > _GAP * self._step
        insort(self._stamps, packet.pts)
        lacking, self._lacking = self._lacking, 0
        return f"{lacking:,} bytes cannot be read" if late and lacking else ""

    def stamp(self, number: int) -> int:
        """The stamp of the frame that is shown as number `number` (from 0)."""
        return self._stamps[min(number, len(self._stamps) - 1)]

    def fault_between(self, shown: int, moment: int) -> str:
        """Say so if packets of several frames after the one shown at a moment gave no picture."""
        lost = bisect_right(self._stamps, moment) - bisect_right(self._stamps, shown)
        return f"{lost} frames in a row cannot be decoded" if lost > _WITHOUT_FRAME else ""

    def _count_bytes(self, packet: Any) -> None:
        """Add up bytes that belong to no packet, beyond those of headers."""
        if not self._gapless or packet.pos is None or packet.pos < 0:
            return
        if self._end is not None and packet.pos == self._position:  # several in one block
            self._end += packet.size
            return
        if self._end is not None:
            least, share = _BETWEEN
            between = packet.pos - self._end
            if between > least + share * (self._end - (self._position or 0)):
                self._lacking += between
        self._position, self._end = packet.pos, packet.pos + packet.size
