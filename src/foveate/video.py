"""Reading video files: which frames exist and when they are shown, and the wanted ones as arrays.

A frame is identified by its presentation timestamp, never by its number times a nominal frame rate: variable frame rate, a start that
is not zero, B-frames, edit lists and damaged tails are all normal in footage. `read_timeline` makes one pass over the packets (no
decoding), then decodes the first and the last group of pictures and compares; where the container turns out to be wrong, it decodes
everything once and believes the decoder.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from foveate.schema import FoveateError
from foveate.videowriter import VideoWriter

__all__ = ["Clock", "Timeline", "VideoWriter", "read_frames", "read_timeline"]

Clock = Literal["pts", "count"]
"""How a decoded frame is recognised: by its presentation timestamp, or by counting from the first one where the file has no usable
timestamps (bare streams, AVI with B-frames)."""

_HEAD = 32  # frames decoded at the start to check a timeline
_TAIL = 1500  # longest last group of pictures that is decoded as a check
_SEEK_GAIN = 8  # frames that a seek must save to be worth it
_FREEZE = 2.0  # seconds that an undecodable stretch may last; within it the picture stands still, as in a player
_SKIPPABLE = ("h264",)  # a picture marked "not a reference" is one for nobody; in HEVC it may be one for higher temporal layers

_log = logging.getLogger("foveate")


@dataclass(frozen=True, eq=False)
class Timeline:
    """The presented frames of one video, in order.

    Timestamps strictly increase: of two pictures with the same timestamp the first counts, a player shows only one of them.
    """

    pts: NDArray[np.int64]  # [N] in units of the stream's time base; the frame number where `clock` is count
    time: NDArray[np.float64]  # [N] seconds since the first presented frame
    keyframe: NDArray[np.bool_]  # [N]
    width: int  # pixels, after rotation
    height: int
    rotation: int  # degrees clockwise that turn the stored picture upright: 0, 90, 180 or 270
    mirrored: bool  # the stored picture is mirrored left-right before it is turned
    duration: float  # seconds from the first frame to the end of the last
    codec: str
    clock: Clock = "pts"
    seekable: bool = True  # False: every read starts at the first frame
    skippable: bool = True  # False: every picture must be decoded, because the container does not say which is which
    damaged_after: float | None = None  # seconds from which on the file is broken; None: nothing found

    def __len__(self) -> int:
        return len(self.pts)

    @property
    def frame(self) -> NDArray[np.int64]:
        """[N] frame numbers."""
        return np.arange(len(self.pts), dtype=np.int64)

    @cached_property
    def start(self) -> NDArray[np.int64]:
        """[N] the frame that decoding has to begin at to get each frame; -1 where that is before the first presented frame."""
        frames = self.frame
        return np.maximum.accumulate(np.where(self.keyframe, frames, -1))


# --- the timeline --------------------------------------------------------------------------------------------------------------


def read_timeline(path: Path) -> Timeline:
    """Find out which frames a video file presents, and when.

    Raises:
        FoveateError: the file is missing, empty, not a video, holds no picture, or ends before its index (no ``moov``).
    """
    timeline = _by_demuxing(path)
    if timeline is not None and (checked := _check(path, timeline)) is not None:
        return checked
    _log.warning("%s: the container's timestamps disagree with the pictures; decoding all of it once", path)
    return _by_decoding(path)


def _by_demuxing(path: Path) -> Timeline | None:
    """The timeline according to the container; None when it gives no usable timestamps."""
    pts: list[int] = []
    keys: list[bool] = []
    last_duration = damaged = 0
    with opened(path) as (container, stream):
        try:
            for packet in container.demux(stream):
                if packet.size == 0 or packet.is_discard:  # the closing packet; what an edit list cuts away
                    continue
                if packet.is_corrupt:
                    damaged = 1
                    continue
                if packet.pts is None:
                    return None
                if not pts or packet.pts >= max(pts[-64:]):
                    last_duration = packet.duration or 0
                pts.append(packet.pts)
                keys.append(packet.is_keyframe)
        except _error():
            damaged = 1
        if not pts:
            return None
        return _assemble(container, stream, np.array(pts), np.array(keys), last_duration, bool(damaged))


def _assemble(
    container: Any, stream: Any, pts: NDArray[np.int64], keys: NDArray[np.bool_], last: int = 0, damaged: bool = False
) -> Timeline:
    """A timeline from unsorted timestamps; picture size and orientation are filled in by the caller, from a decoded picture."""
    pts, first = np.unique(pts.astype(np.int64), return_index=True)
    rate = stream.average_rate or stream.guessed_rate
    base = stream.time_base or Fraction(1, 1)
    if last <= 0:  # the container does not say how long the last picture stands: as long as most do
        last = int(np.median(np.diff(pts))) if len(pts) > 1 else round(1 / (rate * base)) if rate else 0
    ticks = pts - pts[0]
    duration = float(int(ticks[-1] + last) * base)
    declared = ((container.duration or 0) - max(container.start_time or 0, 0)) / 1_000_000
    # A recording that broke off announces more than it holds; sound may run on a little longer than the picture.
    damaged |= declared - duration > max(1.0, 0.02 * declared)
    return Timeline(
        pts=pts,
        time=ticks * base.numerator / base.denominator,
        keyframe=keys[first],
        width=stream.codec_context.width,
        height=stream.codec_context.height,
        rotation=0,
        mirrored=False,
        duration=duration,
        codec=stream.codec_context.name,
        damaged_after=duration if damaged else None,
    )


def _check(path: Path, timeline: Timeline) -> Timeline | None:
    """Compare with the decoder at both ends; the timeline with the picture's size and orientation, or None if it is wrong."""
    head: list[int | None] = []
    shape: dict[str, Any] = {}
    with opened(path) as (container, stream):
        for frame in _decode(container.demux(stream), stream):
            shape = shape or _shape(frame)
            if not head or frame.pts != head[-1]:
                head.append(frame.pts)
            if len(head) == min(_HEAD, len(timeline)):
                break
    if head != timeline.pts[: len(head)].tolist() or not head:
        return None
    begin = int(timeline.start[-1])
    if len(head) < len(timeline) and len(timeline) - max(begin, 0) <= _TAIL:
        with opened(path) as (container, stream):
            packets = container.demux(stream) if begin <= 0 else _seek(container, stream, timeline, begin)
            if packets is None:
                return None
            pictures = [(f.pts, f.is_corrupt) for f in _decode(packets, stream)]
        tail = [pts for pts, _ in pictures if pts is None or begin < 0 or pts >= timeline.pts[begin]]
        if list(dict.fromkeys(tail)) != timeline.pts[max(begin, 0) :].tolist():
            return None
        # Parameter sets that stand in the stream and contradict the header are lost by a jump: all that follows is garbage.
        shape["seekable"] = begin <= 0 or not pictures[0][1]
    return replace(timeline, **shape)


def _by_decoding(path: Path) -> Timeline:
    """The timeline according to the decoder: slow, for files whose container cannot be believed."""
    stamps: list[int | None] = []
    keys: list[bool] = []
    decoding: list[int | None] = []  # the packets' decoding timestamps
    shape: dict[str, Any] = {}

    def noted(packets: Iterator[Any]) -> Iterator[Any]:
        for packet in packets:
            if packet.size and not packet.is_discard:
                decoding.append(packet.dts)
            yield packet

    with opened(path) as (container, stream):
        for frame in _decode(noted(container.demux(stream)), stream):
            shape = shape or _shape(frame)
            stamps.append(frame.pts)
            keys.append(bool(frame.key_frame))
        if not stamps:
            raise FoveateError("no picture in it can be decoded", file=path, remedy=_REPAIR)
        if _rising(stamps, 0):
            return replace(
                _assemble(container, stream, np.array(stamps), np.array(keys)), seekable=False, skippable=False, **shape
            )
        # The decoder's order is right even where its timestamps are not (AVI with B-frames). The packets' decoding times, in order,
        # are then when the pictures are shown; a bare stream has not even these, only its rate.
        if len(decoding) == len(stamps) and _rising(decoding, 1):
            timeline = _assemble(container, stream, np.array(decoding), np.array(keys))
        else:
            step = 1 / (stream.guessed_rate or Fraction(25)) / stream.time_base
            ticks = np.array([round(i * step) for i in range(len(stamps))])
            timeline = _assemble(container, stream, ticks, np.array(keys))
    return replace(timeline, clock="count", seekable=False, skippable=False, pts=timeline.frame, **shape)


def _rising(stamps: list[int | None], least: int) -> bool:
    """Every timestamp is known and each is at least ``least`` beyond the one before."""
    return None not in stamps and bool((np.diff(np.array(stamps, np.int64)) >= least).all())


def _shape(frame: Any) -> dict[str, Any]:
    """Size after rotation, and orientation, from a decoded picture.

    The display matrix maps stored to shown pixels: x' = a x + c y, y' = b x + d y with a, b, c, d in {-1, 0, 1}. Any such map is a
    mirroring (or none) followed by quarter turns.
    """
    width, height = frame.width, frame.height
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return {"width": width, "height": height}
    a, b, _, c, d, *_ = (round(v / 65536) for v in np.frombuffer(bytes(data), "<i4").tolist())
    mirrored = a * d - b * c < 0
    along_x, along_y = (-a, -b) if mirrored else (a, b)  # where the shown picture's +x comes to lie
    rotation = {(1, 0): 0, (0, 1): 90, (-1, 0): 180, (0, -1): 270}.get((along_x, along_y), 0)
    if rotation in (90, 270):
        width, height = height, width
    return {"width": width, "height": height, "rotation": rotation, "mirrored": mirrored}


# --- reading pictures ------------------------------------------------------------------------------------------------------------


def read_frames(
    path: Path, timeline: Timeline, wanted: NDArray[np.int64], *, size: tuple[int, int] | None = None
) -> Iterator[NDArray[np.uint8]]:
    """Yield the wanted frames, upright, in order.

    Only wanted pictures are converted to RGB, pictures that nothing depends on are not even decoded, and gaps are jumped over where
    a keyframe allows it. A picture that cannot be decoded is replaced by the one before it for at most two seconds, as a player does.

    Args:
        path: the video file.
        timeline: what `read_timeline` says about it.
        wanted: frame numbers, strictly increasing.
        size: (width, height) to scale the upright picture to, straight from the decoder's format; None: as it is.

    Yields:
        uint8 [height, width, 3], RGB, 0..255.

    Raises:
        FoveateError: the file cannot be opened, or a wanted stretch cannot be decoded.
        ValueError: wanted is not strictly increasing, or out of range.
    """
    wanted = np.asarray(wanted, np.int64)
    if len(wanted) == 0:
        return
    if wanted[0] < 0 or wanted[-1] >= len(timeline) or (np.diff(wanted) <= 0).any():
        raise ValueError("wanted frames must be strictly increasing and within the timeline")
    begins = timeline.start[wanted] if timeline.seekable else np.zeros_like(wanted)
    # A new run begins where the keyframe to start from lies so far ahead that jumping there is worth it.
    cuts = np.flatnonzero(begins > np.concatenate([[0], wanted[:-1]]) + _SEEK_GAIN)
    convert = _converter(timeline, size)
    with opened(path) as (container, stream):
        for first, last in itertools.pairwise(sorted({0, *cuts.tolist(), len(wanted)})):
            packets = _seek(container, stream, timeline, int(begins[first])) if first in cuts else container.demux(stream)
            if packets is None:
                yield from read_frames(path, replace(timeline, seekable=False), wanted[first:], size=size)
                return
            for frame in _pick(path, packets, stream, timeline, wanted[first:last]):
                yield convert(frame)


def _pick(path: Path, packets: Iterator[Any], stream: Any, timeline: Timeline, wanted: NDArray[np.int64]) -> Iterator[Any]:
    """One decoded picture per wanted frame: its own, or the one before it where its own is lost."""
    targets = timeline.pts[wanted].tolist()
    skippable = timeline.skippable and stream.codec_context.name in _SKIPPABLE
    previous: Any = None
    previous_stamp = i = 0

    def stand_in() -> Any:
        gap = float(timeline.time[wanted[i]] - timeline.time[np.searchsorted(timeline.pts, previous_stamp, "right") - 1])
        if previous is None or gap > _FREEZE:
            raise FoveateError(f"the picture at {timeline.time[wanted[i]]:.2f} s cannot be decoded", file=path, remedy=_REPAIR)
        _log.warning("%s: the picture at %.2f s is damaged; the one before it is used", path, timeline.time[wanted[i]])
        return previous

    for number, frame in enumerate(_decode(packets, stream, set(targets) if skippable else None)):
        stamp = frame.pts if timeline.clock == "pts" else number
        if stamp is None:
            continue
        while targets[i] < stamp:
            yield stand_in()
            i += 1
            if i == len(targets):
                return
        if stamp == targets[i]:
            yield frame
            i += 1
            if i == len(targets):
                return
        previous, previous_stamp = frame, stamp
    while i < len(targets):
        yield stand_in()
        i += 1


def _decode(packets: Iterator[Any], stream: Any, wanted: Container[int] | None = None) -> Iterator[Any]:
    """Pictures in presentation order. With ``wanted`` (timestamps), pictures beside them are decoded only if others refer to them:
    leaving out a non-reference picture changes no other one."""
    context, broken = stream.codec_context, _error()
    while True:
        try:
            packet = next(packets, None)
        except broken:  # what lies beyond cannot be read
            packet = None
        if packet is not None and packet.is_corrupt:
            continue
        if wanted is not None and packet is not None:
            context.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
        at_end = packet is None or packet.size == 0
        with suppress(broken):
            yield from context.decode(None if at_end else packet)
        if at_end:
            return


def _seek(container: Any, stream: Any, timeline: Timeline, begin: int) -> Iterator[Any] | None:
    """Packets from a keyframe at or shortly before frame ``begin``; None where the container cannot do that.

    Seeking goes by decoding time in some containers and lands too late after B-frames, so an earlier keyframe is tried as well.
    """
    keys = np.flatnonzero(timeline.keyframe[: begin + 1])
    for back in (1, 2, 9):
        try:
            container.seek(int(timeline.pts[keys[-min(back, len(keys))]]), stream=stream)
            packets = container.demux(stream)
            first = next((p for p in packets if p.is_keyframe and p.pts is not None), None)
        except _error():
            continue
        if first is not None and first.pts <= timeline.pts[begin]:
            return itertools.chain([first], packets)
    return None


def _converter(timeline: Timeline, size: tuple[int, int] | None) -> Callable[[Any], NDArray[np.uint8]]:
    """The function from a decoded picture to an upright RGB array."""
    width, height = size or (timeline.width, timeline.height)
    turns = timeline.rotation // 90
    if turns % 2:
        width, height = height, width

    def convert(frame: Any) -> NDArray[np.uint8]:
        # Size is given in every case, because a stream may change its own halfway.
        array: NDArray[np.uint8] = frame.to_ndarray(
            format="rgb24", width=width, height=height, interpolation="BICUBIC", threads=1
        )
        if timeline.mirrored:
            array = array[:, ::-1]
        return np.ascontiguousarray(np.rot90(array, -turns))

    return convert


# --- opening ---------------------------------------------------------------------------------------------------------------------

_REPAIR = "make a repaired copy with `ffmpeg -i FILE -c:v libx264 -crf 15 NEW.mp4` and name it in videos.csv, or remove the row"


def _error() -> type[Exception]:
    """What PyAV raises; imported late, because `foveate status` needs no decoder."""
    import av.error

    return av.error.FFmpegError


@contextmanager
def opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The container and its picture stream, decoding on one thread (foveate runs one video per process)."""
    import av
    from av.stream import Discard

    try:
        container = av.open(str(path.absolute()), metadata_errors="replace")
    except av.error.FFmpegError as error:
        raise _cannot_open(path, error) from None
    with container:
        streams = [s for s in container.streams.video if not s.disposition & s.disposition.attached_pic]
        if not streams:
            sound = " (it holds sound)" if container.streams.audio else ""
            raise FoveateError(f"there is no picture in this file{sound}", file=path, remedy="remove the row from videos.csv")
        stream = streams[0]
        if stream.codec_context is None:
            raise FoveateError("its codec is not known", file=path, remedy=_REPAIR)
        for other in container.streams:
            if other is not stream:
                other.discard = Discard["all"]
        stream.codec_context.thread_count = 1
        yield container, stream


def _cannot_open(path: Path, error: Exception) -> FoveateError:
    import av.error

    if isinstance(error, av.error.FileNotFoundError):
        return FoveateError("no such file", file=path, remedy="correct the path in videos.csv, or remove the row")
    if isinstance(error, av.error.PermissionError):
        return FoveateError("cannot be read (permission denied)", file=path, remedy="check the permissions")
    if isinstance(error, av.error.IsADirectoryError) or path.is_dir():
        return FoveateError("this is a folder, not a video file", file=path, remedy="name the video file in videos.csv")
    if path.stat().st_size == 0:
        return FoveateError("the file is empty", file=path, remedy="copy it again from the camera, or remove the row")
    with path.open("rb") as handle:
        start = handle.read(12)
    if start[4:8] in (b"ftyp", b"mdat", b"wide", b"free", b"skip"):
        return FoveateError(
            "the recording was cut off before its index (moov) was written, so nothing in it can be found",
            file=path,
            remedy="copy it again from the camera, or repair it with `untrunc` and a good file of the same camera",
        )
    return FoveateError("this is not a video that can be read", file=path, remedy=_REPAIR)
