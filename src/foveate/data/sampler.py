"""The order of training: every picture once per pass, in an order that is random and can be read.

A pass is planned as numbers before anything is read. What lies together is shuffled as a whole; then every picture is moved on by a
random distance of up to ``buffer`` pictures. So the order is a function of seed and pass alone: a run goes on anywhere without reading
what came before, and the number of reading threads changes nothing. Pictures that were read and are not yet due wait in memory, about
``buffer / 2`` of them. A set no larger than the buffer stays there for good, is read once and shuffled as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from foveate import masks
from foveate.data.clips import Clips
from foveate.data.sources import Source
from foveate.schema import FoveateError

_Picture: TypeAlias = NDArray[np.uint8]

BUFFER = 8192
"""Pictures that a picture is moved on by at most: 0.8 GB in memory at 256 pixels."""

_FILL = 114  # grey, beyond pictures that are smaller than others; outside ``valid``, so that no view shows it
_AHEAD = 4  # batches whose files are read while earlier ones are waited for


@dataclass(frozen=True, eq=False)
class _Block:
    """Pictures that are read at once."""

    source: int
    start: int
    count: int


class Sampler:
    """Batches of single pictures from sources, forever, each pass without replacement and without an incomplete last batch.

    Args:
        sources: what there is; a source's number in this list is the first number of ``Clips.where``.
        batch: samples of a step over all processes.
        seed: of the order.
        rank, ranks: this process and how many there are; each gets an equal slice of every batch, the same whatever their number.
        buffer: see above.
        workers: threads that read.
        with_masks: also decode the subject's masks (all of the picture where there is none).

    Raises:
        FoveateError: fewer pictures than a batch, or a batch that cannot be divided among the processes.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        batch: int,
        seed: int = 0,
        *,
        rank: int = 0,
        ranks: int = 1,
        buffer: int = BUFFER,
        workers: int = 2,
        with_masks: bool = False,
    ) -> None:
        self.sources, self.batch, self.seed = tuple(sources), batch, seed
        self.count = sum(map(len, self.sources))
        if batch < 1 or batch % ranks:
            raise FoveateError(
                f"a batch of {batch} cannot be divided among {ranks} processes",
                remedy=f"choose a batch that is a multiple of {ranks}",
            )
        if self.count < batch:
            raise FoveateError(
                f"there are {self.count} pictures, fewer than a batch of {batch}",
                remedy="use more footage, analyse more frames of it, or choose a smaller batch",
            )
        share = batch // ranks
        self._mine = slice(rank * share, (rank + 1) * share)
        self._buffer, self._workers, self._with_masks = buffer, workers, with_masks
        self._keep = self.count <= buffer
        self._orders: dict[int, NDArray[np.int64]] = {}
        self._blocks = [
            _Block(number, start, min(source.together, len(source) - start))
            for number, source in enumerate(self.sources)
            for start in range(0, len(source), source.together)
        ]
        lengths = np.array([block.count for block in self._blocks])
        self._first = np.cumsum(lengths) - lengths  # picture number of each block's first
        self._block_of = np.repeat(np.arange(len(self._blocks)), lengths)
        self._size = tuple(max(source.size[side] for source in self.sources) for side in (0, 1))
        subjects = list(dict.fromkeys(source.subject for source in self.sources if source.subject))
        self._subject = [subjects.index(source.subject) if source.subject else -1 for source in self.sources]

    @property
    def steps_per_pass(self) -> int:
        """Batches in which every picture comes at most once."""
        return self.count // self.batch

    def order(self, number: int) -> NDArray[np.int64]:
        """i64[N]: the pictures in the order of pass ``number``."""
        random = np.random.default_rng((self.seed, number))
        if self._keep:
            return random.permutation(self.count)
        place = np.empty(len(self._blocks), np.int64)
        place[random.permutation(len(self._blocks))] = np.arange(len(self._blocks))
        stream = np.argsort(place[self._block_of], kind="stable")
        return stream[np.argsort(np.arange(self.count) + self._buffer * random.random(self.count), kind="stable")]

    def samples(self, step: int) -> NDArray[np.int64]:
        """i64[batch]: the pictures of a step, of all processes."""
        number, place = divmod(step, self.steps_per_pass)
        return self._order(number)[place * self.batch :][: self.batch]

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
        """``number`` pictures (or all), evenly spread over the sources: the same whatever the seed. To look at, not to train on."""
        return self.pictures(np.unique(np.linspace(0, self.count - 1, min(number, self.count)).round().astype(np.int64)))

    def pictures(self, chosen: NDArray[np.int64]) -> Clips:
        """Pictures by their numbers, i64[B], increasing; they are counted from source to source."""
        found = []
        for number in np.unique(self._block_of[chosen]).tolist():
            block, wanted = self._blocks[number], np.zeros(self._blocks[number].count, bool)
            wanted[chosen[self._block_of[chosen] == number] - self._first[number]] = True
            found += [picture for picture in self._load(block, wanted) if picture is not None]
        return self._clips(chosen, found, np.arange(len(chosen)))

    def _order(self, number: int) -> NDArray[np.int64]:
        if number not in self._orders:
            self._orders = {known: order for known, order in self._orders.items() if known >= number - 1} | {
                number: self.order(number)
            }
        return self._orders[number]

    def _read(self, step: int, readers: ThreadPoolExecutor) -> Iterator[Clips]:
        memory: dict[tuple[int, int], Future[list[_Picture | None]]] = {}
        asked, mine = step, np.ones(self.count, bool)
        for now in count(step):
            while asked <= now + _AHEAD:
                number, place = divmod(asked, self.steps_per_pass)
                if not self._keep and (asked == step or place == 0):
                    mine = self._mine_from(number, place)
                for block in np.unique(self._block_of[self.samples(asked)[self._mine]]).tolist():
                    if (key := self._key(number, block)) not in memory:
                        first = self._first[block]
                        wanted = mine[first : first + self._blocks[block].count]
                        memory[key] = readers.submit(self._load, self._blocks[block], wanted)
                asked += 1
            number, chosen = now // self.steps_per_pass, self.samples(now)[self._mine]
            of = [self._key(number, block) for block in self._block_of[chosen].tolist()]
            offset = (chosen - self._first[self._block_of[chosen]]).tolist()
            found = [memory[key].result()[k] for key, k in zip(of, offset, strict=True)]
            yield self._clips(chosen, found, now * self.batch + np.arange(self.batch)[self._mine])
            for key, k in zip(of, offset, strict=True) if not self._keep else ():
                pictures = memory[key].result()
                pictures[k] = None
                if all(picture is None for picture in pictures):
                    del memory[key]

    def _key(self, number: int, block: int) -> tuple[int, int]:
        """Of a block in memory; where passes meet, a block may be held for each."""
        return (0 if self._keep else number), block

    def _mine_from(self, number: int, place: int) -> NDArray[np.bool_]:
        """bool[N]: the pictures that this process has still to come in a pass, from its step ``place`` on."""
        steps = self._order(number)[: self.steps_per_pass * self.batch].reshape(self.steps_per_pass, self.batch)
        mine = np.zeros(self.count, bool)
        mine[steps[place:, self._mine]] = True
        return mine

    def _load(self, block: _Block, wanted: NDArray[np.bool_]) -> list[_Picture | None]:
        """The wanted pictures of a block, each in memory of its own, so that it can go when it has been used."""
        pictures = self.sources[block.source].read(block.start, block.count)
        return [np.array(picture) if keep else None for picture, keep in zip(pictures, wanted.tolist(), strict=True)]

    def _clips(self, chosen: NDArray[np.int64], pictures: Sequence[_Picture | None], index: NDArray[np.int64]) -> Clips:
        import torch

        height, width = self._size
        frames = np.full((len(chosen), height, width, 3), _FILL, np.uint8)
        valid, time = np.empty((len(chosen), 4), np.float32), np.empty(len(chosen))
        where = np.empty((len(chosen), 4), np.int32)
        seen = np.zeros((len(chosen), height, width), bool) if self._with_masks else None
        for i, (number, picture) in enumerate(zip(chosen.tolist(), pictures, strict=True)):
            assert picture is not None
            block = self._blocks[self._block_of[number]]
            source, position = self.sources[block.source], block.start + number - int(self._first[self._block_of[number]])
            h, w = picture.shape[:2]
            if h > height or w > width:
                raise FoveateError(
                    f"its pictures are {w} x {h}, its index says at most {source.size[1]} x {source.size[0]}",
                    file=source.name,
                    remedy="delete the folder it lies in and run `foveate run`; it is made again",
                )
            frames[i, :h, :w] = picture
            valid[i] = source.valid[position] * np.array([w / width, h / height] * 2, np.float32)
            time[i], where[i] = (
                source.time[position],
                (block.source, position, source.frame[position], self._subject[block.source]),
            )
            if seen is not None:
                rle = None if source.rles is None else source.rles[position].as_py()
                seen[i, :h, :w] = True if rle is None else masks.decode(rle, h, w)
        shaped = torch.from_numpy(frames).permute(0, 3, 1, 2)[:, None, None]
        return Clips(
            frames=shaped,
            valid=torch.from_numpy(valid),
            time=torch.from_numpy(time)[:, None, None],
            where=torch.from_numpy(where)[:, None, None],
            index=torch.from_numpy(index.astype(np.int64)),
            masks=None if seen is None else torch.from_numpy(seen)[:, None, None],
        )
