"""L2-regularised logistic regression, many problems at once: every label, fold and strength of a sweep in shared matrix products.

One problem is one column of targets (1, 0, or -1 for "leave this row out of this problem", which is how unobserved labels and
held-out folds are told). Problem ``p`` with penalty ``l`` minimises

    sum_i c_ip log(1 + exp(-s_ip (w . x_i + b))) / sum_i c_ip  +  l/2 |w|^2

where ``s`` is the sign of the target, ``c`` is 1 (or the class weight, when balanced) and ``x`` is standardised on the rows given. This is
scikit-learn's ``LogisticRegression`` with ``C = 1 / (l * sum_i c_ip)``; the mean in place of its sum keeps one grid of penalties
meaningful for any number of rows. The intercept is free.

The solver is L-BFGS in float64 on all problems side by side, each with its own step length. Three things make it fast: logits are linear
in the weights, so a line search needs no matrix product; a preconditioner from a sketch of the features' covariance; and, when there are
far fewer rows than features, an exact change to coordinates of the row space. A problem stops when its loss is within ``GAP`` of the
optimum.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import softplus

GAP = 1e-10
"""The penalty bounds ``loss - optimum`` by ``|gradient|^2 / (2 penalty)`` (strong convexity in the weights; the intercept is free):
iteration ends when that is below this many nats per row."""

MAX_ITERATIONS = 1000
_MEMORY = 12  # pairs of L-BFGS
_BLOCK = 512  # rows of a design gathered at once: in float64, so that memory stays small for long videos as well
_DENSE = 1 << 25  # elements of a design that may be kept in memory (float64: 256 MiB)
_LOGITS = 1 << 23  # logits (rows x problems) iterated on at once (float64: 64 MiB per array)
_SKETCH = 512  # rows that the preconditioner is made of


@dataclass(frozen=True)
class Windows:
    """A design matrix that is never stored whole: row ``i`` is ``vectors[index[i]]``, concatenated in order.

    Attributes:
        vectors: float ``[n, D]``.
        index: int64 ``[N, W]`` rows of ``vectors``.
    """

    vectors: NDArray[np.floating]
    index: NDArray[np.int64]

    @property
    def rows(self) -> int:
        return int(self.index.shape[0])

    @property
    def width(self) -> int:
        return int(self.index.shape[1] * self.vectors.shape[1])

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Windows:
        """The design of some rows."""
        return Windows(self.vectors, self.index[rows])

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Float64 blocks ``[<= 512, W * D]`` with the rows they stand for."""
        for first in range(0, self.rows, _BLOCK):
            part = slice(first, min(first + _BLOCK, self.rows))
            yield part, torch.from_numpy(self.gather(part))

    def gather(self, rows: slice | NDArray[np.int64]) -> NDArray[np.float64]:
        index = self.index[rows]
        return self.vectors[index].reshape(len(index), -1).astype(np.float64)


@dataclass(frozen=True)
class Solution:
    """What ``fit`` found, for raw vectors (the standardisation is folded in).

    Attributes:
        weight: float64 ``[S, P, W * D]`` for S penalties and P problems.
        bias: float64 ``[S, P]``.
        converged: bool ``[S, P]``; problems with one class only count as converged, see ``fit``.
        iterations: int ``[S, P]``.
    """

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    converged: NDArray[np.bool_]
    iterations: NDArray[np.int64]


def logits(design: Windows, weight: NDArray[np.floating], bias: NDArray[np.floating]) -> NDArray[np.float64]:
    """``[N, P]`` logits of ``P`` problems; ``weight`` is ``[P, W * D]`` and acts on raw vectors."""
    out = np.empty((design.rows, len(bias)))
    w, b = torch.from_numpy(weight.astype(np.float64)), torch.from_numpy(bias.astype(np.float64))
    for part, x in design.blocks():
        out[part] = torch.addmm(b, x, w.T).numpy()
    return out


def fit(design: Windows, target: NDArray[np.int8], penalties: Sequence[float], balance: bool = False) -> Solution:
    """Solve every problem with every penalty.

    Args:
        design: N rows of F features.
        target: int8 ``[N, P]``: 1, 0, or -1 to leave the row out of that problem.
        penalties: S positive numbers, in any order.
        balance: weight the two classes of each problem equally.

    Returns:
        Weights and biases for raw vectors. A problem with rows of one class, or none, has no finite optimum: it gets weights 0 and
        the intercept logit((n1 + .5) / (n + 1)).
    """
    if min(penalties) <= 0:
        raise ValueError("penalties must be positive")
    target_t = torch.from_numpy(np.ascontiguousarray(target.T))
    ones, n = (target_t == 1).sum(1).double(), (target_t >= 0).sum(1).double()
    solvable = (ones > 0) & (ones < n)
    shape = (len(penalties), target.shape[1])
    weight, converged = np.zeros((*shape, design.width)), np.ones(shape, dtype=bool)
    bias = np.broadcast_to(torch.logit((ones + 0.5) / (n + 1)).numpy(), shape).copy()
    iterations = np.zeros(shape, dtype=np.int64)
    if not bool(solvable.any()):
        return Solution(weight, bias, converged, iterations)

    space = _prepare(design)
    order = sorted(range(len(penalties)), key=lambda s: -penalties[s])
    some = max(1, _LOGITS // design.rows)
    for columns in torch.split(torch.nonzero(solvable)[:, 0], some):
        cost = _costs(target_t[columns], balance)
        start = torch.zeros(len(columns), space.width + 1, dtype=torch.float64)
        start[:, -1] = torch.logit((cost * (target_t[columns] == 1)).sum(1))
        positive = space.gradient(cost * (target_t[columns] == 1))
        for s in order:  # from strong to weak, each starting from the one before
            start, done, steps = _minimise(space, cost, positive, penalties[s], start)
            p = columns.numpy()
            raw = (start[:, :-1] if space.back is None else start[:, :-1] @ space.back.T) / space.scale
            weight[s, p], bias[s, p] = raw.numpy(), (start[:, -1] - raw @ space.mean).numpy()
            converged[s, p], iterations[s, p] = done.numpy(), steps.numpy()
    return Solution(weight, bias, converged, iterations)


def _costs(target: Tensor, balance: bool) -> Tensor:
    """``[P, N]`` weight of every row in every problem; each problem's sum to 1."""
    cost = (target >= 0).double()
    if balance:
        for value in (0, 1):
            chosen = target == value
            cost = torch.where(chosen, cost / chosen.sum(1, keepdim=True), cost)
    return cost / cost.sum(1, keepdim=True)


@dataclass(frozen=True)
class _Space:
    """Standardised features, possibly in coordinates of their row space, with a preconditioner.

    ``near ~ covariance``: its leading eigenvectors ``basis`` [width, q] (None: the axes themselves) with eigenvalues ``spectrum``,
    and ``rest`` for all other directions.
    """

    design: Windows
    mean: Tensor  # [F]
    scale: Tensor  # [F]
    dense: Tensor | None  # [N, width], when it fits
    back: Tensor | None  # [F, width] from coordinates to standardised features; None: they are the same
    basis: Tensor | None
    spectrum: Tensor
    rest: float

    @property
    def width(self) -> int:
        return int(self.mean.shape[0] if self.back is None else self.back.shape[1])

    def _blocks(self) -> Iterator[tuple[slice, Tensor]]:
        if self.dense is not None:
            yield slice(0, len(self.dense)), self.dense
        else:
            for part, x in self.design.blocks():
                yield part, x.sub_(self.mean).div_(self.scale)

    def logits(self, theta: Tensor) -> Tensor:
        """``[P, N]`` of parameters ``[P, width + 1]``, the intercept last."""
        out = torch.empty(len(theta), self.design.rows, dtype=torch.float64)
        for part, x in self._blocks():
            out[:, part] = theta[:, :-1] @ x.T
        return out.add_(theta[:, -1:])

    def gradient(self, residual: Tensor) -> Tensor:
        """``[P, width + 1]`` of residuals ``[P, N]``: the transpose of ``logits``."""
        out = torch.zeros(len(residual), self.width + 1, dtype=torch.float64)
        for part, x in self._blocks():
            out[:, :-1] += residual[:, part] @ x
        out[:, -1] = residual.sum(1)
        return out

    def precondition(self, g: Tensor, spread: Tensor, penalty: float) -> Tensor:
        """Times the inverse of ``spread * covariance + penalty``: the Hessian, were the probabilities' variance ``spread`` [P, 1]
        the same for all rows."""
        out = torch.empty_like(g)
        out[:, -1:] = g[:, -1:] / spread
        inside = 1 / (spread * self.spectrum + penalty)
        if self.basis is None:
            out[:, :-1] = g[:, :-1] * inside
        else:
            outside = 1 / (spread * self.rest + penalty)
            along = g[:, :-1] @ self.basis
            out[:, :-1] = outside * g[:, :-1] + (along * (inside - outside)) @ self.basis.T
        return out


def _prepare(design: Windows) -> _Space:
    n, f = design.rows, design.width
    total = torch.zeros(f, dtype=torch.float64)
    for _, x in design.blocks():
        total += x.sum(0)
    mean = total / n
    square = torch.zeros(f, dtype=torch.float64)
    for _, x in design.blocks():
        square += (x - mean).square_().sum(0)
    scale = (square / n).sqrt_()
    scale[scale <= 1e-9 * mean.abs().clamp(min=1e-30)] = 1.0  # a constant feature stays at 0 and gets no weight

    def standardised(rows: slice | NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(design.gather(rows)).sub_(mean).div_(scale)

    if 2 * n <= f:
        x = standardised(slice(0, n))
        values, vectors = _eigen(x @ x.T)
        back = x.T @ (vectors / values.sqrt())
        return _Space(design, mean, scale, vectors * values.sqrt(), back, None, values / n, 0.0)
    sketch = standardised(np.linspace(0, n - 1, min(n, _SKETCH)).astype(np.int64))
    values, vectors = _eigen(sketch @ sketch.T)
    basis, spectrum = sketch.T @ (vectors / values.sqrt()), values / len(sketch)
    rest = max(0.0, f - float(spectrum.sum())) / max(1, f - len(spectrum))
    dense = standardised(slice(0, n)) if n * f <= _DENSE else None
    return _Space(design, mean, scale, dense, None, basis, spectrum, rest)


def _eigen(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and vectors of a Gram matrix without its null space."""
    values, vectors = torch.linalg.eigh(gram)
    keep = values > 1e-12 * values[-1].clamp(min=1e-30)
    return values[keep], vectors[:, keep]


def _minimise(space: _Space, cost: Tensor, positive: Tensor, penalty: float, start: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """L-BFGS (Nocedal and Wright 2006, algorithm 7.4) on all problems; finished ones leave the batch.

    ``positive`` is the gradient's constant part, sum over the positive rows of cost x. Returns parameters, converged, iterations.
    """
    result, converged = start.clone(), torch.zeros(len(start), dtype=torch.bool)
    iterations = torch.zeros(len(start), dtype=torch.int64)
    pull = torch.full((space.width + 1,), penalty, dtype=torch.float64)
    pull[-1] = 0
    alive = torch.arange(len(start))
    theta, z = start, space.logits(start)

    def value(z: Tensor, theta: Tensor) -> Tensor:
        return (cost * softplus(z, threshold=40)).sum(1) - (positive * theta).sum(1) + (pull * theta * theta).sum(1) / 2

    def slope(z: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        probability = torch.sigmoid(z)
        spread = (cost * probability * (1 - probability)).sum(1, keepdim=True).clamp(min=1e-6)
        return space.gradient(cost * probability) - positive + pull * theta, spread

    loss, (g, spread) = value(z, theta), slope(z, theta)
    memory, moved = _Memory(space, penalty), torch.ones(len(start), dtype=torch.bool)
    for step in range(MAX_ITERATIONS + 1):
        done = g.square().sum(1) <= GAP * 2 * penalty
        d = memory.direction(g, spread)
        downhill = (g * d).sum(1)
        stay = ~done & moved & (downhill < 0)
        if step == MAX_ITERATIONS:
            stay = torch.zeros_like(stay)
        if not bool(stay.all()):
            result[alive[~stay]], converged[alive[~stay]], iterations[alive[~stay]] = theta[~stay], done[~stay], step
            if not bool(stay.any()):
                break
            alive, theta, z, g, d, loss, downhill = (v[stay] for v in (alive, theta, z, g, d, loss, downhill))
            cost, positive = cost[stay], positive[stay]
            memory.keep(stay)
        zd = space.logits(d)
        t = _line_search(cost, z, zd, theta, d, positive, pull, loss, downhill)
        theta, z, moved = theta + t * d, z.addcmul_(t, zd), t[:, 0] > 0
        loss, before = value(z, theta), g
        g, spread = slope(z, theta)
        memory.add(t * d, g - before)
    return result, converged, iterations


def _line_search(
    cost: Tensor,
    z: Tensor,
    zd: Tensor,
    theta: Tensor,
    d: Tensor,
    positive: Tensor,
    pull: Tensor,
    loss: Tensor,
    downhill: Tensor,
) -> Tensor:
    """Step lengths ``[P, 1]`` with sufficient decrease: 1, halved as often as needed for each problem. No matrix product."""
    linear = (pull * theta * d).sum(1) - (positive * d).sum(1)
    base = (pull * theta * theta).sum(1) / 2 - (positive * theta).sum(1)
    curve = (pull * d * d).sum(1) / 2
    t = torch.ones_like(loss)
    todo = torch.arange(len(t))
    for _ in range(40):
        s = t[todo]
        trial = (cost[todo] * softplus(z[todo] + s[:, None] * zd[todo], threshold=40)).sum(1)
        trial += base[todo] + s * linear[todo] + s * s * curve[todo]
        todo = todo[trial > loss[todo] + 1e-4 * s * downhill[todo]]
        if not len(todo):
            return t[:, None]
        t[todo] /= 2
    t[todo] = 0  # rounding hides any decrease: the problem ends here, and says whether it had converged
    return t[:, None]


class _Memory:
    """The last steps and gradient changes of every problem, and the direction that follows from them."""

    def __init__(self, space: _Space, penalty: float) -> None:
        self.space, self.penalty = space, penalty
        self.steps: list[Tensor] = []  # each [P, width + 1]
        self.changes: list[Tensor] = []
        self.inverse: list[Tensor] = []  # 1 / (step . change), [P, 1]; 0 drops a useless pair

    def add(self, step: Tensor, change: Tensor) -> None:
        curvature = (step * change).sum(1, keepdim=True)
        self.steps.append(step)
        self.changes.append(change)
        self.inverse.append(torch.where(curvature > 1e-300, 1 / curvature, torch.zeros_like(curvature)))
        if len(self.steps) > _MEMORY:
            self.steps, self.changes, self.inverse = self.steps[1:], self.changes[1:], self.inverse[1:]

    def keep(self, stay: Tensor) -> None:
        self.steps, self.changes, self.inverse = ([v[stay] for v in old] for old in (self.steps, self.changes, self.inverse))

    def direction(self, g: Tensor, spread: Tensor) -> Tensor:
        q, alphas = g.clone(), []
        for s, y, r in zip(reversed(self.steps), reversed(self.changes), reversed(self.inverse), strict=True):
            alpha = r * (s * q).sum(1, keepdim=True)
            q -= alpha * y
            alphas.append(alpha)
        q = self.space.precondition(q, spread, self.penalty)
        for s, y, r, alpha in zip(self.steps, self.changes, self.inverse, reversed(alphas), strict=True):
            q += s * (alpha - r * (y * q).sum(1, keepdim=True))
        return -q
