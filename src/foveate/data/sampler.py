"""The order of training: every picture, clip or piece of footage once per pass, in an order that is random and can be read.

A pass is planned as numbers before anything is read. What lies together is shuffled as a whole; then every item is moved on by a
random distance of up to ``buffer`` items. So the order is a function of seed and pass alone: a run goes on anywhere without reading
what came before, and the number of reading threads changes nothing. Pictures that were read and are not yet due wait in memory, about
``buffer / 2`` of them. A set no larger than the buffer stays there for good, is read once and shuffled as a whole.

Clips that begin close to each other share most of their pictures, so they are planned, read and moved on like pictures, by their first
one. Clips taken at random from pieces of footage share nothing; pieces are shuffled as a whole, and each is read when it is due.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from threading import Lock
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from foveate import masks
from foveate.data import cutting, draws
from foveate.data.clips import Clips, Shape
from foveate.data.sources import Source
from foveate.schema import FoveateError

_Picture: TypeAlias = NDArray[np.uint8]
_Numbers: TypeAlias = NDArray[np.int64]

BUFFER = 8192
"""Pictures that a picture is moved on by at most: 0.8 GB in memory at 256 pixels."""
MEMORY = 3 << 29
"""Bytes of pictures that clips may hold in memory, 1.6 GB."""
TRIES = 100
"""Clips of which a rule may choose one, as published for PreViTS."""

_FILL = 114  # grey, beyond pictures that are smaller than others; outside ``valid``, so that no view shows it
_AHEAD = 4  # batches whose files are read while earlier ones are waited for


class Rule(Protocol):
    """Which random clips are wanted (`constrained`)."""

    def accepts(self, source: Source, positions: _Numbers) -> NDArray[np.bool_]:
        """bool[N] for clips of a source, whose frames are at i64[N, T]."""
        ...


@dataclass(frozen=True, eq=False)
class _Block:
    """Items that are read at once: what begins in one group of pictures, or one piece of footage."""

    source: int
    first: int  # item
    count: int


@dataclass(frozen=True, eq=False)
class _Held:
    """What was read of a block: the pictures of the wanted items, each as long as one of them still needs it."""

    pictures: dict[int, _Picture]  # by position in the source
    uses: Counter[int]

    def release(self, positions: _Numbers) -> None:
        """One item has been used."""
        for position in positions.ravel().tolist():
            self.uses[position] -= 1
            if not self.uses[position]:
                del self.uses[position]
                del self.pictures[position]


class Sampler:
    """Batches of pictures or clips from sources, forever, each pass without replacement and without an incomplete last batch.

    Args:
        sources: what there is; a source's number in this list is the first number of ``Clips.where``.
        batch: samples of a step over all processes.
        seed: of the order.
        shape: of an item; ``sources.joined`` lets clips reach over the parts of a video.
        rank, ranks: this process and how many there are; each gets an equal slice of every batch, the same whatever their number.
        buffer: see above; None: ``BUFFER`` pictures, or so many clips that their pictures take ``MEMORY``.
        workers: threads that read.
        with_masks: also decode the subject's masks (all of the picture where there is none).
        rule: which random clips are wanted: of ``TRIES`` the first that is accepted. Where none is, it is the first of all, as without a
            rule, and its masks are empty.

    Attributes:
        left_out: sentences about the sources that no clip can be cut out of.

    Raises:
        FoveateError: fewer items than a batch, or a batch that cannot be divided among the processes.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        batch: int,
        seed: int = 0,
        *,
        shape: Shape = Shape(),  # noqa: B008 (it is frozen)
        rank: int = 0,
        ranks: int = 1,
        buffer: int | None = None,
        workers: int = 2,
        with_masks: bool = False,
        rule: Rule | None = None,
    ) -> None:
        self.sources, self.batch, self.seed, self.shape = tuple(sources), batch, seed, shape
        self._starts = [cutting.starts(source, shape) for source in self.sources]
        self.left_out = tuple(
            cutting.refusal(source, shape)
            for source, found in zip(self.sources, self._starts, strict=True)
            if len(source) and not len(found)
        )
        self._plan()
        if batch < 1 or batch % ranks:
            raise FoveateError(
                f"a batch of {batch} cannot be divided among {ranks} processes",
                remedy=f"choose a batch that is a multiple of {ranks}",
            )
        if self.count < batch:
            what = "pictures" if shape == Shape() else "pieces of footage" if shape.random else "clips"
            because = f"; left out: {'; '.join(self.left_out[:3])}" if self.left_out else ""
            raise FoveateError(
                f"there are {self.count} {what}, fewer than a batch of {batch}{because}",
                remedy="use more footage, analyse more frames of it, or choose a smaller batch",
            )
        share = batch // ranks
        self._mine = slice(rank * share, (rank + 1) * share)
        self._workers, self._with_masks, self._rule = workers, with_masks, rule
        self._size = max(source.size[0] for source in self.sources), max(source.size[1] for source in self.sources)
        room = buffer if buffer is not None else BUFFER if shape == Shape() else MEMORY // (3 * self._size[0] * self._size[1])
        self._buffer = room if buffer is not None else max(1, int(room / self._pictures_each()))
        self._keep = sum(map(len, self.sources)) <= room
        self._kept: dict[tuple[int, int], Sequence[_Picture]] = {}
        self._locks = [Lock() for _ in self.sources]
        self._orders: dict[int, _Numbers] = {}
        subjects = list(dict.fromkeys(source.subject for source in self.sources if source.subject))
        self._subject = [subjects.index(source.subject) if source.subject else -1 for source in self.sources]

    def _plan(self) -> None:
        """Items: the source of each, and the first and the one after the last of the source's starts that it may begin at."""
        self._groups = [
            np.concatenate([np.arange(a, b, one.together) for a, b in zip(one.files, (*one.files[1:], len(one)), strict=True)])
            for one in self.sources
        ]  # positions with which what is read at once begins
        ranges, cuts = [], []  # of items; the first items of blocks
        for source, begin, group in zip(self.sources, self._starts, self._groups, strict=True):
            if self.shape.random:
                found = cutting.pieces(source, self.shape, begin)
                cuts.append(np.ones(len(found), bool))
            else:
                found = np.column_stack([np.arange(len(begin)), np.arange(len(begin)) + 1])
                cuts.append(np.diff(np.searchsorted(group, begin, "right"), prepend=0) > 0)
            ranges.append(found)
        self._of = np.repeat(np.arange(len(self.sources)), [len(found) for found in ranges])
        self._range = np.concatenate([np.empty((0, 2), np.int64), *ranges])
        self.count = len(self._of)
        first = np.flatnonzero(np.concatenate([np.empty(0, bool), *cuts]))
        lengths = np.diff(first, append=self.count)
        self._blocks = [_Block(int(self._of[k]), k, n) for k, n in zip(first.tolist(), lengths.tolist(), strict=True)]
        self._block_of = np.repeat(np.arange(len(first)), lengths)

    def _pictures_each(self) -> float:
        """Pictures that a clip keeps in memory, shared with others of its block: of the source in which it is most."""
        most = 1.0
        for source, begin in zip(self.sources, self._starts, strict=True):
            if self.shape.frames > 1 and len(begin):
                between = max(float(np.median(np.diff(source.time))), 1e-9)
                apart = min(max(1, round(self.shape.step / between)), source.together)
                most = max(most, 1 + (self.shape.frames - 1) * apart / source.together)
        return most

    @property
    def steps_per_pass(self) -> int:
        """Batches in which every item comes at most once."""
        return self.count // self.batch

    def order(self, number: int) -> _Numbers:
        """i64[N]: the items in the order of pass ``number``."""
        random = np.random.default_rng((self.seed, number))
        if self._keep or self.shape.random:
            return random.permutation(self.count)
        place = np.empty(len(self._blocks), np.int64)
        place[random.permutation(len(self._blocks))] = np.arange(len(self._blocks))
        stream = np.argsort(place[self._block_of], kind="stable")
        return stream[np.argsort(np.arange(self.count) + self._buffer * random.random(self.count), kind="stable")]

    def samples(self, step: int) -> _Numbers:
        """i64[batch]: the items of a step, of all processes."""
        number, place = divmod(step, self.steps_per_pass)
        return self._order(number)[place * self.batch :][: self.batch]

    def positions(self, number: int, items: _Numbers) -> tuple[_Numbers, NDArray[np.bool_]]:
        """The pictures of items in pass ``number``: i64[N, V, T] positions in their sources; and bool[N, V], whether they are as the
        rule wants them (True without a rule)."""
        shape = self.shape
        found = np.empty((len(items), shape.draws, shape.frames), np.int64)
        wanted = np.ones((len(items), shape.draws), bool)
        for number_of in np.unique(self._of[items]).tolist():
            here, source, starts = self._of[items] == number_of, self.sources[number_of], self._starts[number_of]
            low, high = self._range[items[here]].T
            if not shape.random:
                found[here, 0] = cutting.positions(source, shape, starts[low])
                continue
            for v in range(shape.draws):
                tries = draws.uniform(self.seed, number, items[here], f"clip {v}", TRIES if self._rule else 1)
                begin = starts[low[:, None] + (tries * (high - low)[:, None]).astype(np.int64)]  # [n, tries]
                chosen = np.zeros(len(begin), np.int64)
                if self._rule is not None:
                    every = cutting.positions(source, shape, begin.ravel())
                    good = self._rule.accepts(source, every).reshape(begin.shape)
                    chosen, wanted[here, v] = good.argmax(axis=1), good.any(axis=1)
                found[here, v] = cutting.positions(source, shape, begin[np.arange(len(begin)), chosen])
        return found, wanted

    def share_wanted(self, most: int = 2_000) -> float:
        """Of the clips of the first pass those that are as the rule wants them, 0..1; of up to ``most`` items, evenly spread."""
        items = np.unique(np.linspace(0, self.count - 1, min(most, self.count)).round().astype(np.int64))
        return float(self.positions(0, items)[1].mean())

    def batches(self, step: int = 0) -> Iterator[Clips]:
        """This process's slices of the batches from ``step`` on, without end, on the CPU.

        Raises:
            FoveateError: a file is damaged; raised where the batch would have come.
        """
        with ThreadPoolExecutor(self._workers) as readers:
            try:
                yield from self._read(step, readers)
            finally:
                readers.shutdown(wait=True, cancel_futures=True)

    def evenly(self, number: int) -> Clips:
        """``number`` items (or all), evenly spread over the sources: the same whatever the seed. To look at, not to train on."""
        return self.pictures(np.unique(np.linspace(0, self.count - 1, min(number, self.count)).round().astype(np.int64)))

    def pictures(self, chosen: _Numbers) -> Clips:
        """Items by their numbers, i64[B], increasing; they are counted from source to source."""
        held = {
            block: self._load(0, self._blocks[block], chosen[self._block_of[chosen] == block])
            for block in np.unique(self._block_of[chosen]).tolist()
        }
        return self._clips(0, chosen, [held[block] for block in self._block_of[chosen].tolist()], np.arange(len(chosen)))

    def _order(self, number: int) -> _Numbers:
        if number not in self._orders:
            self._orders = {known: order for known, order in self._orders.items() if known >= number - 1} | {
                number: self.order(number)
            }
        return self._orders[number]

    def _read(self, step: int, readers: ThreadPoolExecutor) -> Iterator[Clips]:
        memory: dict[tuple[int, int], Future[_Held]] = {}  # by pass and block: where passes meet, a block may be held for each
        asked, mine = step, np.ones(self.count, bool)
        for now in count(step):
            while asked <= now + _AHEAD:
                number, place = divmod(asked, self.steps_per_pass)
                if asked == step or place == 0:
                    mine = self._mine_from(number, place)
                for k in np.unique(self._block_of[self.samples(asked)[self._mine]]).tolist():
                    if (number, k) not in memory:
                        block = self._blocks[k]
                        wanted = block.first + np.flatnonzero(mine[block.first : block.first + block.count])
                        memory[number, k] = readers.submit(self._load, number, block, wanted)
                asked += 1
            number, chosen = now // self.steps_per_pass, self.samples(now)[self._mine]
            keys = [(number, block) for block in self._block_of[chosen].tolist()]
            index = now * self.batch + np.arange(self.batch)[self._mine]
            yield self._clips(number, chosen, [memory[key].result() for key in keys], index)
            for key, positions in zip(keys, self.positions(number, chosen)[0], strict=True):
                (held := memory[key].result()).release(positions)
                if not held.pictures:
                    del memory[key]

    def _mine_from(self, number: int, place: int) -> NDArray[np.bool_]:
        """bool[N]: the items that this process has still to come in a pass, from its step ``place`` on."""
        steps = self._order(number)[: self.steps_per_pass * self.batch].reshape(self.steps_per_pass, self.batch)
        mine = np.zeros(self.count, bool)
        mine[steps[place:, self._mine]] = True
        return mine

    def _load(self, number: int, block: _Block, wanted: _Numbers) -> _Held:
        """The pictures of the wanted items of a block, each in memory of its own, so that it can go when it has been used."""
        uses = Counter(self.positions(number, wanted)[0].ravel().tolist())
        groups = self._groups[block.source]
        every = np.array(sorted(uses), np.int64)
        which = np.searchsorted(groups, every, "right") - 1
        pictures: dict[int, _Picture] = {}
        for group in np.unique(which).tolist():
            start, read = int(groups[group]), self._group(block.source, group)
            for position in every[which == group].tolist():
                picture = read[position - start]
                pictures[position] = picture if self._keep else np.array(picture)
        return _Held(pictures, uses)

    def _group(self, source: int, group: int) -> Sequence[_Picture]:
        """All pictures of a group, read once where all of a set stays in memory."""
        groups = self._groups[source]
        start, stop = int(groups[group]), int(groups[group + 1]) if group + 1 < len(groups) else len(self.sources[source])
        if not self._keep:
            return self.sources[source].read(start, stop - start)
        with self._locks[source]:
            if (source, group) not in self._kept:
                self._kept[source, group] = [np.array(one) for one in self.sources[source].read(start, stop - start)]
            return self._kept[source, group]

    def _clips(self, number: int, chosen: _Numbers, held: Sequence[_Held], index: _Numbers) -> Clips:
        import torch

        (height, width), shape = self._size, self.shape
        every = (len(chosen), shape.draws, shape.frames)
        frames = np.full((*every, height, width, 3), _FILL, np.uint8)
        valid, time = np.empty((len(chosen), 4), np.float32), np.empty(every)
        where = np.empty((*every, 4), np.int32)
        seen = np.zeros((*every, height, width), bool) if self._with_masks else None
        positions, wanted = self.positions(number, chosen)
        for i, (number_of, known) in enumerate(zip(self._of[chosen].tolist(), held, strict=True)):
            source = self.sources[number_of]
            for v, t in np.ndindex(every[1:]):
                position = int(positions[i, v, t])
                picture = known.pictures[position]
                h, w = picture.shape[:2]
                if h > height or w > width:
                    raise FoveateError(
                        f"its pictures are {w} x {h}, its index says at most {source.size[1]} x {source.size[0]}",
                        file=source.name,
                        remedy="delete the folder it lies in and run `foveate run`; it is made again",
                    )
                frames[i, v, t, :h, :w] = picture
                if seen is not None and wanted[i, v]:
                    rle = None if source.rles is None else source.rles[position].as_py()
                    seen[i, v, t, :h, :w] = True if rle is None else masks.decode(rle, h, w)
            low, high = np.split(source.valid[positions[i]], 2, axis=-1)
            content = np.concatenate([low.max(axis=(0, 1)), high.min(axis=(0, 1))])  # of all pictures of the item
            valid[i] = content * np.array([w / width, h / height] * 2, np.float32)
            time[i] = source.time[positions[i]]
            where[i, ..., 0], where[i, ..., 1] = number_of, positions[i]
            where[i, ..., 2], where[i, ..., 3] = source.frame[positions[i]], self._subject[number_of]
        return Clips(
            frames=torch.from_numpy(frames).permute(0, 1, 2, 5, 3, 4),
            valid=torch.from_numpy(valid),
            time=torch.from_numpy(time),
            where=torch.from_numpy(where),
            index=torch.from_numpy(index.astype(np.int64)),
            masks=None if seen is None else torch.from_numpy(seen),
        )
