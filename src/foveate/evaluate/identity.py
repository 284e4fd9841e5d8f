"""IDF1: how much of the time each subject bears its own name.

Ristani et al., "Performance Measures and a Data Set for Multi-Target, Multi-Camera Tracking" (ECCV 2016 workshops), equations 5 to 10: true
and found identities are matched one to one over the whole recording, so that as many frames as can be agree. A swap that is never undone
therefore costs all frames after it (or before it), whereas measures of single frames would count it once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foveate.masks import Mask

OVERLAP = 0.5
"""Least region IoU at which a mask counts as being on a subject, the field's convention."""


@dataclass(frozen=True)
class Identities:
    """Frames (of one subject each) in which true and found identity agree, and those in which they do not."""

    agreed: int  # IDTP
    found: int  # all masks found: IDTP + IDFP
    true: int  # all true masks: IDTP + IDFN
    named: Mapping[str, str]  # true identity -> the found one it is matched with

    @property
    def precision(self) -> float:
        """IDP, 0..1; 0 where nothing was found."""
        return self.agreed / self.found if self.found else 0.0

    @property
    def recall(self) -> float:
        """IDR, 0..1; 0 where there is nothing."""
        return self.agreed / self.true if self.true else 0.0

    @property
    def f1(self) -> float:
        """IDF1, 0..1; 1 where there is nothing and nothing was found."""
        return 2 * self.agreed / (self.found + self.true) if self.found + self.true else 1.0


def identities(
    frames: Iterable[tuple[Mapping[str, Mask], Mapping[str, Mask]]], overlap: float = OVERLAP, named_alike: bool = False
) -> Identities:
    """Compare identities over a recording.

    Args:
        frames: for each frame the true masks by identity and those found, bool[H, W]; empty masks count as not there.
        overlap: least IoU of two masks that are on the same subject.
        named_alike: names mean the same subject on both sides (one that was pointed at has to keep its own name), so that nothing is
            matched: the stricter question. Otherwise names are only labels.
    """
    agree: Counter[tuple[str, str]] = Counter()
    true: Counter[str] = Counter()
    found: Counter[str] = Counter()
    for theirs, ours in frames:
        theirs, ours = ({name: mask for name, mask in masks.items() if mask.any()} for masks in (theirs, ours))
        true.update(theirs.keys())
        found.update(ours.keys())
        for name, mask in theirs.items():
            for other, guess in ours.items():
                shared = int((mask & guess).sum())
                if shared and shared >= overlap * int((mask | guess).sum()):
                    agree[name, other] += 1
    rows, columns = sorted(true), sorted(found)
    table = np.array([[agree[row, column] for column in columns] for row in rows], np.int64).reshape(len(rows), len(columns))
    named = {row: row for row in rows if row in found} if named_alike else _matched(table, rows, columns)
    return Identities(sum(agree[pair] for pair in named.items()), found.total(), true.total(), named)


def _matched(table: NDArray[np.int64], rows: list[str], columns: list[str]) -> dict[str, str]:
    """One column for each row, so that the sum of the table's cells is largest."""
    from scipy.optimize import linear_sum_assignment

    return {rows[i]: columns[j] for i, j in zip(*linear_sum_assignment(-table), strict=True)}
