"""How much a backbone leans on the background: a linear probe on what it makes of pictures as they are, asked about the eight sets.

Xiao et al., "Noise or Signal: The Role of Image Backgrounds in Object Recognition" (ICLR 2021), sections 2 to 4:

    accuracy     share of the pictures of a set that the probe puts into their class, mean over classes (IN-9 has equally many of each)
    gap          Mixed-Same less Mixed-Rand: what the right background is worth where the subject is there anyway (BG-Gap)
    adversarial  share of the subjects that are named rightly on every one of several backgrounds of other classes

The backbone is frozen, and the probe has seen no picture that it is asked about, nor any of the same group (animal, video). Published:
ResNet-50 trained on ImageNet, original 95.6, Mixed-Same 86.2, Mixed-Rand 78.9, gap 7.3, adversarial 22.3 (with all backgrounds of the
test set; the fewer are tried, the higher it is).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from foveate.actions.folds import assign_folds
from foveate.actions.logistic import Windows, fit, logits
from foveate.evaluate.backgrounds.composites import SETS, Partners, Pictures, Scene, compose, mixed, only_bg_t, partners
from foveate.jobs import Progress, silent
from foveate.schema import FoveateError

if TYPE_CHECKING:
    from foveate.evaluate.encoders import Encoder

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Of the probe; chosen on training groups alone."""
FOLDS = 3
DRAWS = 2000
LEAST = 5  # groups below which no interval is given
_BATCH = 32

Features = dict[str, NDArray[np.float32]]
"""By way of reading, f32[N, D]: ``whole`` (CLS token, or mean of the last map) and ``subject`` (mean of the patches on the subject)."""


@dataclass(frozen=True, eq=False)
class Task:
    """N scenes to be told apart.

    Attributes:
        scenes: of one way of showing; all usable.
        label: i64[N], numbers of ``classes``.
        group: [N] what must not be on both sides: animal, or video.
        train, test: bool[N] where a split is given; None: every group is held out once.
    """

    scenes: Sequence[Scene]
    label: NDArray[np.int64]
    group: NDArray[np.str_]
    classes: tuple[str, ...]
    train: NDArray[np.bool_] | None = None
    test: NDArray[np.bool_] | None = None

    def folds(self) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Positions to train on and to test on."""
        if self.train is not None and self.test is not None:
            return [(np.flatnonzero(self.train), np.flatnonzero(self.test))]
        of = fold_of(self.label, self.group, FOLDS)
        return [(np.flatnonzero(of != k), np.flatnonzero(of == k)) for k in np.unique(of)]


@dataclass(frozen=True, eq=False)
class Answers:
    """Of M pictures that were held out and could be put into all eight sets.

    Attributes:
        label: i64[M]; group: [M].
        right: by way of reading, bool[M, 8] in the order of ``SETS``.
        withstood: by way of reading, bool[M]: right on every background of another class that was tried.
        at: i64[M], their positions in the task; behind: i64[M, 3], those of the scenes behind them in the mixed sets.
    """

    label: NDArray[np.int64]
    group: NDArray[np.str_]
    right: dict[str, NDArray[np.bool_]]
    withstood: dict[str, NDArray[np.bool_]]
    at: NDArray[np.int64]
    behind: NDArray[np.int64]


def fold_of(label: NDArray[np.int64], group: NDArray[np.str_], folds: int) -> NDArray[np.int64]:
    """i64[N]: whole groups, as even in classes as can be; as many folds as asked for, or as there are groups."""
    names, number = np.unique(group, return_inverse=True)
    counts = np.zeros((len(names), 1 + int(label.max()) + 1), np.int64)
    np.add.at(
        counts, number, np.column_stack([np.ones(len(label), np.int64), np.eye(counts.shape[1] - 1, dtype=np.int64)[label]])
    )
    return assign_folds(counts, min(folds, len(names)))[number]


def ask(
    task: Task,
    encoder: Encoder,
    asked: int,
    adversaries: int = 3,
    seed: int = 0,
    progress: Progress = silent,
    answers: bool = False,
) -> Answers:
    """Train the probe on scenes as they are and ask it about held-out ones in all eight sets.

    Args:
        task: what is to be told apart.
        encoder: the backbone.
        asked: held-out scenes that are put into all eight sets, at most, evenly over classes.
        adversaries: backgrounds of other classes that each held-out subject is put on.
        seed: of the draw of backgrounds.
        progress: told of the pictures shown.
        answers: the encoder's vectors are shares of the classes, from a network that was trained on the training side: no probe is.

    Raises:
        FoveateError: a class is missing on one side, or nothing can be put into all eight sets.
    """
    folds = task.folds()
    total = len(task.scenes) + min(asked, len(task.scenes)) * (len(SETS) - 1 + adversaries)
    shown = 0

    def look(pictures: Iterator[Pictures], count: int, masks: Sequence[NDArray[np.bool_]]) -> Features:
        nonlocal shown
        found = features(encoder, pictures, masks)
        progress(shown := min(total, shown + count), total)
        return found

    plain = look((scene.frames for scene in task.scenes), len(task.scenes), [scene.masks for scene in task.scenes])
    parts: list[Answers] = []
    for train, test in folds:
        present = np.unique(task.label[train])
        test = test[np.isin(task.label[test], present)]
        drawn = partners(task.label[test], task.group[test], adversaries, seed)
        have = (drawn.mixed >= 0).all(1)
        if len(present) < 2 or not have.any():
            continue
        kept = _evenly(np.flatnonzero(have), task.label[test], asked // len(folds))
        held = [task.scenes[n] for n in test.tolist()]
        masks = [held[k].masks for k in kept.tolist()]
        seen = [{name: values[test[kept]] for name, values in plain.items()}]
        seen += [look((compose(held, k, which, drawn) for k in kept.tolist()), len(kept), masks) for which in SETS[1:]]
        against = [look((_against(held, k, drawn, a) for k in kept.tolist()), len(kept), masks) for a in range(adversaries)]
        truth, right, withstood = task.label[test[kept]], {}, {}
        for name, known in plain.items():
            given = [one[name] for one in (*seen, *against)]
            together = np.concatenate(given)
            guess = together.argmax(1) if answers else probe(known[train], task.label[train], task.group[train]).named(together)
            guess = guess.reshape(len(given), -1)
            right[name] = (guess[: len(SETS)] == truth).T
            # Where fewer backgrounds of other classes are there than wanted, the picture as it is stands in for those that are missing.
            tried = np.where(drawn.adversaries[kept].T >= 0, guess[len(SETS) :], guess[0])
            withstood[name] = (np.concatenate([guess[:1], tried]) == truth).all(0) if adversaries else right[name][:, 0]
        parts.append(Answers(truth, task.group[test[kept]], right, withstood, test[kept], test[drawn.mixed[kept]]))
    if not parts:
        raise FoveateError(
            "no picture can be put on the background of another: each class needs pictures of several groups (animals, videos)",
            remedy="name more footage, or fewer classes",
        )
    progress(total, total)
    return Answers(
        np.concatenate([part.label for part in parts]),
        np.concatenate([part.group for part in parts]),
        {name: np.concatenate([part.right[name] for part in parts]) for name in plain},
        {name: np.concatenate([part.withstood[name] for part in parts]) for name in plain},
        np.concatenate([part.at for part in parts]),
        np.concatenate([part.behind for part in parts]),
    )


def _evenly(rows: NDArray[np.int64], label: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most so many of the rows, as many of each class as can be, spread over them; at least one of each class."""
    classes = np.unique(label[rows])
    own = [rows[label[rows] == one] for one in classes]
    picked = [one[np.unique(np.linspace(0, len(one) - 1, max(1, most // len(classes))).round().astype(int))] for one in own]
    return np.sort(np.concatenate(picked))


def _against(held: Sequence[Scene], k: int, drawn: Partners, number: int) -> Pictures:
    other = int(drawn.adversaries[k, number])
    return held[k].frames if other < 0 else mixed(held[k], only_bg_t(held[other]))


def features(encoder: Encoder, pictures: Iterator[Pictures], masks: Sequence[NDArray[np.bool_]]) -> Features:
    """What the backbone makes of scenes u8[T, H, W, 3]; those of pictures alone also where the subject is (bool[1, H, W])."""
    import torch

    from foveate.models.pretrained import subject_mean

    waiting: list[tuple[int, Pictures]] = []
    found: dict[str, dict[int, NDArray[np.float32]]] = {}

    def show() -> None:
        stacked = torch.from_numpy(np.stack([picture for _, picture in waiting])).permute(0, 1, 4, 2, 3)
        places = [n for n, _ in waiting]
        if stacked.shape[1] > 1:
            vectors = {"whole": encoder.clips(stacked)}
        else:
            tokens = encoder.pictures(stacked[:, 0])
            on = torch.from_numpy(np.stack([masks[n][0] for n in places]).astype(np.float32)).to(encoder.device)
            vectors = {"whole": tokens.whole, "subject": subject_mean(tokens.patches, on)}
        for name, values in vectors.items():
            found.setdefault(name, {}).update(zip(places, values.cpu().numpy(), strict=True))
        waiting.clear()

    for n, picture in enumerate(pictures):
        if waiting and (len(waiting) == _BATCH or waiting[0][1].shape != picture.shape):
            show()
        waiting.append((n, picture))
    if waiting:
        show()
    return {name: np.stack([values[n] for n in sorted(values)]) for name, values in found.items()}


@dataclass(frozen=True, eq=False)
class Probe:
    """A linear classifier: f64[C, D], f64[C], and the classes i64[C]."""

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    classes: NDArray[np.int64]

    def named(self, asked: NDArray[np.float32]) -> NDArray[np.int64]:
        """The class of each row of f32[M, D], that with the largest logit."""
        found: NDArray[np.int64] = self.classes[logits(_design(asked), self.weight, self.bias).argmax(1)]
        return found


def probe(known: NDArray[np.float32], label: NDArray[np.int64], group: NDArray[np.str_]) -> Probe:
    """One logistic regression per class against the rest, classes weighing alike, on f32[N, D].

    The strength of the penalty is the one with which groups that were left out are named best, among the rows given alone.
    """
    classes, number = np.unique(label, return_inverse=True)
    inner = fold_of(number, group, FOLDS)
    folds = int(inner.max()) + 1
    design = _design(known)
    targets = (number[:, None] == np.arange(len(classes))).astype(np.int8)
    columns = [np.where((inner == k)[:, None], np.int8(-1), targets) for k in range(folds if folds > 1 else 0)]
    solution = fit(design, np.concatenate([*columns, targets], axis=1), PENALTIES, balance=True)
    best, score = len(PENALTIES) // 2, -1.0
    for s in range(len(PENALTIES) if columns else 0):
        guess = np.empty(len(known), np.int64)
        for k in range(folds):
            of = slice(k * len(classes), (k + 1) * len(classes))
            guess[inner == k] = logits(design.take(inner == k), solution.weight[s, of], solution.bias[s, of]).argmax(1)
        found = float(np.mean([(guess[number == c] == c).mean() for c in range(len(classes))]))
        if found > score:
            best, score = s, found
    last = slice(len(columns) * len(classes), None)
    return Probe(solution.weight[best, last], solution.bias[best, last], classes)


def _design(vectors: NDArray[np.float32]) -> Windows:
    return Windows(vectors, np.arange(len(vectors))[:, None])


# --- numbers ---------------------------------------------------------------------------------------------------------------------


def table(answers: Answers, classes: int, seed: int = 0) -> list[dict[str, Any]]:
    """One row per way of reading and set, and of ``gap`` and ``adversarial``.

    Returns:
        feature, set, accuracy (of ``gap`` a difference), low, high (95 % interval from drawing groups with replacement; None below
        ``LEAST`` groups), chance (one over the number of classes; of the gap 0), pictures, groups.
    """
    rows = []
    groups, of = np.unique(answers.group, return_inverse=True)
    draws = np.random.default_rng(seed).integers(0, len(groups), (DRAWS, len(groups)))
    times = np.stack([np.bincount(draw, minlength=len(groups)) for draw in draws])  # [draws, groups]
    every = np.ones((1, len(groups)), np.int64)
    for name, right in answers.right.items():
        values = np.column_stack([right, answers.withstood[name]])  # [M, 9]
        shape = (len(groups), classes, values.shape[1])
        hits, seen = np.zeros(shape), np.zeros(shape[:2])
        np.add.at(hits, (of, answers.label), values)
        np.add.at(seen, (of, answers.label), 1)
        mean, spread = _accuracy(every, hits, seen)[0], _accuracy(times, hits, seen)
        gap = SETS.index("mixed_same"), SETS.index("mixed_rand")
        entries: list[tuple[str, Any, Any, float]] = [
            (which, mean[k], spread[:, k], 1 / classes) for k, which in enumerate(SETS)
        ]
        entries.append(("gap", mean[gap[0]] - mean[gap[1]], spread[:, gap[0]] - spread[:, gap[1]], 0.0))
        entries.append(("adversarial", mean[-1], spread[:, -1], 1 / classes))
        for which, value, around, chance in entries:
            interval = np.quantile(around, [0.025, 0.975]) if len(groups) >= LEAST else [None, None]
            low, high = (None if end is None else float(end) for end in interval)
            row = {"feature": name, "set": which, "accuracy": float(value), "low": low, "high": high, "chance": chance}
            rows.append(row | {"pictures": len(values), "groups": len(groups)})
    return rows


def _accuracy(times: NDArray[np.int64], hits: NDArray[np.float64], seen: NDArray[np.float64]) -> NDArray[np.float64]:
    """f64[draws, K] mean over classes of the share that is right, groups counting ``times`` [draws, groups]; a class that a draw lacks is
    left out of it."""
    right, count = np.einsum("dg,gck->dck", times, hits), (times @ seen)[..., None]
    share = np.where(count > 0, right / np.maximum(count, 1), np.nan)
    found: NDArray[np.float64] = np.nanmean(share, axis=1)
    return found
