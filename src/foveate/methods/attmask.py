"""AttMask (Kakogeorgiou 2022): iBOT that hides what the teacher looks at.

Masks are those of ``AttentionMasks``, for ``methods.ibot`` in the place of random blocks; ``attmask()`` is that with the published values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from foveate.data.draws import uniform

if TYPE_CHECKING:
    from foveate.methods.ibot import IbotConfig


@dataclass(frozen=True)
class AttentionMasks:
    """How crops are masked by attention. Defaults: the published ones.

    Attributes:
        which: high = what is looked at most; hint = the same, but some of the very highest are shown; low = what is looked at least.
        ratio: of a masked crop's patches that are hidden, by ``int``.
        share: probability that a crop is masked.
        shown: with hint, patches that are shown again, as a share of all.
        highest: with hint, the share of patches of which these are drawn.
    """

    which: Literal["high", "hint", "low"] = "high"
    ratio: float = 0.3
    share: float = 0.5
    shown: float = 0.03  # .1 of what is hidden
    highest: float = 0.1

    def draw(self, attention: NDArray[np.float32], index: NDArray[np.int64], seed: int, step: int) -> NDArray[np.bool_]:
        """bool ``[2B, P]``, true where hidden.

        Args:
            attention: f32 ``[2B, P]`` of the CLS token of the teacher's last block, mean over heads, view by view.
            index: int64 ``[B]`` numbers of the samples.
            seed, step: of the run.
        """
        patches = attention.shape[1]
        u = np.concatenate([uniform(seed, step, index, f"attention mask {v}", 1 + patches) for v in (0, 1)])
        order = np.argsort(attention if self.which == "low" else -attention, axis=1, kind="stable")
        hidden = np.zeros(attention.shape, bool)
        np.put_along_axis(hidden, order[:, : int(patches * self.ratio)], True, axis=1)
        hidden[u[:, 0] >= self.share] = False
        if self.which == "hint":
            top = order[:, : int(patches * self.highest)]
            lots = np.argsort(np.take_along_axis(u[:, 1:], top, axis=1), axis=1)[:, : int(patches * self.shown)]
            np.put_along_axis(hidden, np.take_along_axis(top, lots, axis=1), False, axis=1)
        return hidden


def attmask(which: Literal["high", "hint", "low"] = "high") -> IbotConfig:
    """AttMask's published settings for ViT-S: 10 small crops, both teachers' temperatures climb to .07 over 30 epochs."""
    from dataclasses import replace

    from foveate.data.augment import Augmentation
    from foveate.methods.ibot import IbotConfig

    views = Augmentation(small=96, smalls=10, large_area=(0.25, 1.0), small_area=(0.05, 0.25), nominal_blur=True)
    config = IbotConfig()
    return replace(config, views=views, masks=AttentionMasks(which), teacher_temperature=config.patch_temperature)
