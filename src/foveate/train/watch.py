"""Is it still learning? A look at the backbone now and then, on pictures that are always the same, and a verdict when all is lost.

Self-supervised training can collapse: every picture gets the same vector, or vectors fill only a few directions, or one prototype takes
all. The loss does not tell; it may look its best then. Three numbers do, and where people annotated some pictures, a fourth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from foveate.models.folder import IMAGENET, Colours

if TYPE_CHECKING:
    from torch import Tensor, nn

CERTAIN = 3
"""Looks in a row that have to agree before a run is stopped."""

_SPREAD, _RANK, _ANSWERS = 0.01, 0.1, 0.2  # shares of the first look that are left at most in a collapse
_LEAST_RANK = 1.5
_NEIGHBOURS, _TEMPERATURE = 20, 0.07  # as the k-NN of DINO weighs them
_BATCH = 64


@dataclass(frozen=True)
class Look:
    """What one look found."""

    step: int
    rank: float | None = None  # effective rank of the features, 1 to their number of directions; None: no pictures to look at
    spread: float | None = None  # mean distance of the pictures' features, 1 - cosine; 0: all are the same
    prototypes: float | None = None  # used in a batch, mean since the look before; None: the method has none
    knn: float | None = None  # mean average precision of neighbours' labels, 0..1; None: no annotations
    chance: float | None = None  # the same of neighbours that know nothing

    def plain(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, eq=False)
class Watch:
    """What is looked at."""

    pictures: Tensor  # u8[N, 3, S, S], S a multiple of the patch
    labels: NDArray[np.int8] | None = None  # [N, L] 1, 0, -1 = not observed
    groups: NDArray[np.int64] | None = None  # [N] pictures of one group (a video) are never neighbours of each other
    colours: Colours = IMAGENET

    def look(self, backbone: nn.Module, step: int, prototypes: float | None = None) -> Look:
        """Show the pictures to the backbone, in eval mode and without a gradient."""
        features = self.features(backbone)
        knn = chance = None
        if self.labels is not None and self.groups is not None:
            knn, chance = neighbours(features, self.labels, self.groups)
        return Look(step, effective_rank(features), mean_distance(features), prototypes, knn, chance)

    def features(self, backbone: nn.Module) -> NDArray[np.float32]:
        """f32[N, D]: the CLS vectors after the final LayerNorm."""
        import torch

        device = next(backbone.parameters()).device
        mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in self.colours)
        was = backbone.training
        backbone.train(False)
        try:
            with torch.no_grad():
                parts = (self.pictures[k : k + _BATCH].to(device).float() / 255 for k in range(0, len(self.pictures), _BATCH))
                found = [backbone((part - mean) / std).cls.float().cpu() for part in parts]
        finally:
            backbone.train(was)
        result: NDArray[np.float32] = torch.cat(found).numpy()
        return result


def effective_rank(features: NDArray[np.float32]) -> float:
    """exp of the entropy of the normalised singular values of f32[N, D] (Roy & Vetterli 2007, definition 1), 1 to min(N, D).

    Deviation from RankMe (Garrido 2023), which uses the same number: the mean over pictures is taken away first, since a constant part
    of all vectors, which every backbone has, would hide what tells them apart.
    """
    values = np.linalg.svd(features.astype(np.float64) - features.mean(0, dtype=np.float64), compute_uv=False)
    total = values.sum()
    if not np.isfinite(total) or total <= 1e-12 * max(1.0, float(np.abs(features).max())) * features.size**0.5:
        return 1.0
    share = values[values > 0] / total
    return float(np.exp(-(share * np.log(share)).sum()))


def mean_distance(features: NDArray[np.float32]) -> float:
    """Mean of 1 - cosine over all pairs of f32[N, D] (a vector and itself included), 0..1: 1 less the squared length of the mean
    unit vector."""
    length = np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    unit = features / np.maximum(length, 1e-12)
    return float(max(0.0, 1 - (unit.mean(0) ** 2).sum()))


def neighbours(features: NDArray[np.float32], labels: NDArray[np.int8], groups: NDArray[np.int64]) -> tuple[float, float]:
    """How well the labels of the most similar pictures of other groups tell those of a picture.

    A picture's score for a behaviour is the mean of its neighbours' labels weighted exp(cosine / 0.07), over its 20 most similar pictures
    in which that behaviour was observed.

    Args:
        features: f32[N, D].
        labels: i8[N, L], 1, 0, -1 = not observed.
        groups: i64[N].

    Returns:
        mean over the behaviours of average precision, and of the share of pictures that have the behaviour, which is what scores without
        any knowledge reach; 0, 0 where no behaviour has both kinds of pictures.
    """
    from sklearn.metrics import average_precision_score

    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    like = (unit @ unit.T).astype(np.float64)
    like[groups[:, None] == groups[None]] = -np.inf
    found = []
    for label in labels.T:
        seen = np.flatnonzero(label >= 0)
        near = like[np.ix_(seen, seen)]
        best = np.argsort(-near, axis=1, kind="stable")[:, :_NEIGHBOURS]
        cosine = np.take_along_axis(near, best, axis=1)
        weight = np.where(np.isfinite(cosine), np.exp((cosine - 1) / _TEMPERATURE), 0)
        asked = weight.sum(1) > 0  # somebody of another group is there
        truth = label[seen][asked]
        if len(set(truth.tolist())) < 2:
            continue
        score = (weight * label[seen][best]).sum(1)[asked] / weight.sum(1)[asked]
        found.append((float(average_precision_score(truth, score)), float(truth.mean())))
    if not found:
        return 0.0, 0.0
    knn, chance = np.mean(found, axis=0).tolist()
    return knn, chance


def verdict(looks: Sequence[Look]) -> str:
    """Why the run has to be stopped, in one sentence; empty while there is hope.

    Certain is what the last ``CERTAIN`` looks say alike, measured against the first.
    """
    if len(looks) <= CERTAIN:
        return ""
    first, last = looks[0], looks[-CERTAIN:]
    now, then = last[-1], f"at step {last[-1].step:,}, against {{}} at step {first.step:,}"
    if first.spread is not None and all(_at_most(one.spread, _SPREAD * first.spread) for one in last):
        return f"it has collapsed: all pictures get nearly the same vector (distance {now.spread:.2g} {then.format(f'{first.spread:.2g}')})"
    few = max(_LEAST_RANK, _RANK * (first.rank or 0.0))
    if (first.rank or 0.0) > 2 * few and all(_at_most(one.rank, few) for one in last):
        return (
            f"it has collapsed: vectors fill few directions (effective rank {now.rank:.1f} {then.format(f'{first.rank:.1f}')})"
        )
    begun = next((one for one in looks if one.prototypes is not None), first)  # none at step 0
    if (begun.prototypes or 0) > CERTAIN and all((one.prototypes or 0) <= 1.5 for one in last):
        before = f"against {begun.prototypes:.0f} at step {begun.step:,}"
        return f"it has collapsed: one prototype takes every picture at step {now.step:,}, {before}"
    if _answered(first) > 0.05 and all(_answered(one) < _ANSWERS * _answered(first) for one in last):
        return (
            "it has collapsed: similar vectors no longer mean similar behaviour (average precision of annotated neighbours "
            f"{now.knn:.2f} {then.format(f'{first.knn:.2f}')}; by chance {first.chance:.2f})"
        )
    return ""


def best(looks: Sequence[Look]) -> int | None:
    """Number of the first look with the highest k-NN; None while nothing annotated was looked at."""
    known = [number for number, look in enumerate(looks) if look.knn is not None]
    return max(known, key=lambda number: (looks[number].knn or 0.0, -number)) if known else None


def stale(looks: Sequence[Look], patience: int) -> bool:
    """Whether the last ``patience`` looks all found no better k-NN than one before them. 0: never."""
    found = best(looks)
    return patience > 0 and found is not None and len(looks) - 1 - found >= patience


def _at_most(value: float | None, limit: float) -> bool:
    return value is not None and value <= limit


def _answered(look: Look) -> float:
    return 0.0 if look.knn is None or look.chance is None else look.knn - look.chance


def looks_from(values: Sequence[Mapping[str, Any]]) -> list[Look]:
    """Looks again from their ``plain`` values."""
    return [Look(**value) for value in values]
