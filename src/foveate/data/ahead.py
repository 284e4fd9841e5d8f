"""Work that runs ahead of its consumer in a thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import TypeVar

AHEAD = 2
"""Batches prepared while the model works."""

_T = TypeVar("_T")


class Ahead(Iterator[_T]):
    """Runs an iterator in a thread, ``AHEAD`` items ahead; errors arrive where the item would have. Leaving the block stops it."""

    def __init__(self, source: Iterator[_T]) -> None:
        self._queue: queue.Queue[tuple[_T | None, BaseException | None]] = queue.Queue(AHEAD)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._fill, args=(source,), daemon=True)

    def _fill(self, source: Iterator[_T]) -> None:
        try:
            for item in source:
                if not self._put((item, None)):
                    return
            self._put((None, None))
        except BaseException as error:  # whatever it is, it belongs to the consumer
            self._put((None, error))

    def _put(self, entry: tuple[_T | None, BaseException | None]) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(entry, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def __enter__(self) -> Ahead[_T]:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def __next__(self) -> _T:
        item, error = self._queue.get()
        if error is not None:
            raise error
        if item is None:
            raise StopIteration
        return item
