"""Which patches the student does not see: blocks, in half of the crops, of stratified sizes (iBOT, as in DINOv2's code)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foveate.data.draws import uniform

_TRIES = 10
_LEAST = 4  # patches that a block aims at
_ASPECT = 0.3  # narrowest; widest is its inverse


@dataclass(frozen=True)
class BlockMasks:
    """How crops are masked. Defaults: the published ones.

    Attributes:
        share: of the crops of a batch that are masked at all.
        ratio: least and most of a masked crop's patches.
        subject: share of blocks that are placed on the subject, each place as likely as it covers of it. Not published.
    """

    share: float = 0.5
    ratio: tuple[float, float] = (0.1, 0.5)
    subject: float = 0.0

    def draw(
        self,
        positions: NDArray[np.int64],
        crops: int,
        rows: int,
        columns: int,
        seed: int,
        step: int,
        shares: NDArray[np.float32] | None = None,
    ) -> NDArray[np.bool_]:
        """Masks of some crops of a batch.

        ``int(crops * share)`` crops of the whole batch are masked. Their targets are drawn one from each of as many equal parts of
        ``ratio`` and dealt out at random. This depends on (seed, step) alone, so processes that hold parts of a batch agree without a word.

        Args:
            positions: int64 ``[n]`` places of these crops in the batch, 0 .. ``crops - 1``.
            crops: in the whole batch, over all processes.
            rows: of the patch grid.
            columns: of the patch grid.
            seed: of the run.
            step: of the run.
            shares: f32 ``[n, rows * columns]``, how much of each patch is subject; None: blocks are placed anywhere.

        Returns:
            bool ``[n, rows * columns]``, true where hidden. A mask may have a few patches fewer than its target, and never more.
        """
        masked = int(crops * self.share)
        one = np.zeros(1, dtype=np.int64)
        order = np.argsort(uniform(seed, step, one, "masked crops", crops)[0])  # order[i] gets target i
        edges = np.linspace(*self.ratio, masked + 1)
        ratios = edges[:-1] + uniform(seed, step, one, "mask ratios", masked)[0] * np.diff(edges)
        targets = np.zeros(crops, dtype=np.int64)
        targets[order[:masked]] = (rows * columns * ratios).astype(np.int64)
        out = np.zeros((len(positions), rows, columns), dtype=bool)
        nowhere = np.zeros(out.shape, dtype=np.float32)
        subjects = nowhere if shares is None else shares.reshape(out.shape)
        for mask, position, subject in zip(out, positions.tolist(), subjects, strict=True):
            if targets[position]:
                _fill(mask, int(targets[position]), np.random.default_rng((seed, step, position)), subject, self.subject)
        return out.reshape(len(positions), -1)


def _fill(mask: NDArray[np.bool_], target: int, rng: np.random.Generator, subject: NDArray[np.float32], often: float) -> None:
    """Hide blocks until ``target`` patches are hidden, or ten tries in a row find none that fits into what is left.

    A block is at most half the grid, whatever the target: so the released training code sets it.
    """
    rows, columns = mask.shape
    hidden, most = 0, rows * columns // 2
    while hidden < target:
        left = min(target - hidden, most)
        for u in rng.random((_TRIES, 4)).tolist():
            area = _LEAST + u[0] * (left - _LEAST)  # where less than 4 are left: between that and 4
            aspect = math.exp((2 * u[1] - 1) * math.log(_ASPECT))
            h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if w >= columns or h >= rows:
                continue
            top, start = int(u[2] * (rows - h + 1)), int(u[3] * (columns - w + 1))
            if often and rng.random() < often:
                top, start = _on(subject, h, w, u[2]) or (top, start)
            block = mask[top : top + h, start : start + w]
            new = h * w - int(block.sum())
            if 0 < new <= left:
                block[:] = True
                hidden += new
                break
        else:
            return


def _on(subject: NDArray[np.float32], h: int, w: int, u: float) -> tuple[int, int] | None:
    """A place for a block by how much of the subject it covers; None where there is none. ``u`` is uniform in 0..1."""
    sums = np.pad(subject.astype(np.float64), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    covered = (sums[h:, w:] - sums[:-h, w:] - sums[h:, :-w] + sums[:-h, :-w]).clip(0)
    total = covered.ravel().cumsum()
    if total[-1] < 1e-3:
        return None
    place = int(np.searchsorted(total, u * total[-1], side="right"))
    top, start = divmod(min(place, covered.size - 1), covered.shape[1])
    return top, start
