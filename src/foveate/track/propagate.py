"""Tracker ``propagate``: labels travel from frame to frame along the similarity of ViT patch tokens.

Label propagation as in the DAVIS protocol of DINO (Caron et al. 2021, after Jabri et al. 2020): every patch takes the labels of its most
similar patches in the prompted frame and in the last few frames, weighted exp(cosine / temperature). Ours differs where it pays:

* tokens from three quarters of the depth instead of the last block: they tell *this* animal from another one of its kind;
* the mean token of the prompted frame is taken from all tokens first, because what all patches share says nothing about labels;
* the prompted frame may be compared over any distance, and counts more by ``TRUST`` of cosine: it is the only one a person vouched for;
* parts of the labels that lie apart from the subject and were not there before are dropped, so that they cannot grow; what stands a patch
  or two from it is taken for its other side, behind something thin such as a pole;
* labels are kept soft, but when they fade they are scaled up so that the subject keeps its size: otherwise each frame's doubts are the
  next frame's labels, and a small or fast subject melts away;
* where a subject is smaller than a patch the threshold follows its peak.

Memory is constant: four prompted frames (the first and the three newest) and ``context`` recent ones. Everything here works on arrays of
tokens and knows nothing of videos.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from foveate.settings import TrackSettings

if TYPE_CHECKING:
    from torch import Tensor

    Voters = tuple[Tensor, Tensor, Tensor | None, float]

DEPTH = 0.75  # share of the backbone's blocks that is used
TRUST = 0.1  # added to the cosine with a prompted frame
PROMPTS = 4  # prompted frames kept: the first and the newest
GONE = 0.35  # of the prompt's peak: a subject whose strongest label is weaker is lost
APART = 0.2  # share of the main part's weight that a part lying apart needs, beside having been there before
BEHIND = 0.1  # likewise for a part that no more than two patches separate from the main part: something thin may hide what lies between
FADED = 0.35  # of the peak: how weak a label may be and still be held to keep the subject's size
FAR = 0.25  # weight of a part that does not touch where the subject was, against one that does
DWINDLED, RETURNED = (
    0.1,
    0.25,
)  # share of its size that a subject must have left, of recent frames or, after a loss, of the prompt


@dataclass(frozen=True, eq=False)
class Memory:
    """One frame that others are compared with."""

    tokens: Tensor  # f32[P, D], unit length
    labels: Tensor  # f32[P, S], share of each patch that is the subject
    known: tuple[bool, ...]  # [S] subjects that were seen in it
    given: tuple[bool, ...]  # [S] subjects that were prompted in it


@dataclass(frozen=True, eq=False)
class Found:
    """Where a subject is in one frame."""

    labels: Tensor  # f32[rows, columns] in 0..1; all 0 when lost
    peak: float  # label of a sure patch: 1, less where the subject is smaller than a patch
    certainty: float  # 0..1, mean label of the subject's patches before they were scaled, as a share of the peak
    identity: float  # 0..1, how far the prompted frames alone agree
    prompted: bool = False


def unit(tokens: Tensor, centre: Tensor) -> Tensor:
    """f32[P, D] of length 1 from [rows, columns, D], after ``centre`` f32[D] is taken away. Rounded to half precision, as they are kept on
    disk, so that a tracker that is stored and read back goes on with the same numbers."""
    from torch.nn import functional

    flat = functional.normalize(tokens.float().flatten(0, -2) - centre, dim=-1)
    return flat.half().float().contiguous()  # a stored one is: products of another layout differ in the last digit


def vote(query: Tensor, memories: Sequence[Voters], topk: int, temperature: float) -> Tensor:
    """Labels of ``query`` patches from the ``topk`` most similar patches of all memories together.

    Args:
        query: f32[Q, D], unit length.
        memories: (tokens f32[P, D], labels f32[P], allowed bool[Q, P] or None for all, amount added to the cosine).
        topk: number of patches that vote.
        temperature: of the softmax over their cosines; the same weights as exp(cosine / temperature), normalised.

    Returns:
        f32[Q], a weighted mean of labels.
    """
    import torch

    values, labels = [], []
    for tokens, label, allowed, extra in memories:
        cosine = query @ tokens.T + extra
        if allowed is not None:
            cosine = cosine.masked_fill(~allowed, -torch.inf)
        best = cosine.topk(min(topk, cosine.shape[1]), dim=1)  # of each memory, so that the whole never lies in memory
        values.append(best.values)
        labels.append(label[best.indices])
    every, their = torch.cat(values, 1), torch.cat(labels, 1)
    top = every.topk(min(topk, every.shape[1]), dim=1)
    weight = (top.values / temperature).softmax(dim=1)
    return (weight * their.gather(1, top.indices)).sum(dim=1)


def keep_connected(labels: Tensor, before: Tensor | None, level: float) -> Tensor:
    """Labels [rows, columns] without the parts that lie apart.

    Kept: the heaviest part, where one that does not touch the labels ``before`` counts less, and further parts that mostly lie where labels
    were before, or lie beside the heaviest part with two patches between them at most, and weigh enough. A part is a set of patches above
    ``level`` that touch, corners included.
    """
    import numpy as np
    import torch
    from scipy.ndimage import binary_dilation
    from scipy.ndimage import label as components

    values = labels.numpy()
    touching = np.ones((3, 3))
    part, count = components(values > level, touching)
    if count < 2:
        return labels
    numbers = np.arange(1, count + 1)
    weight = np.bincount(part.ravel(), values.ravel(), count + 1)[1:]
    share = np.ones(count)
    if before is not None and bool((before > level).any()):
        there = binary_dilation(before.numpy() > level)
        share = np.bincount(part.ravel(), there.ravel(), count + 1)[1:] / np.bincount(part.ravel(), minlength=count + 1)[1:]
    main = int((weight * np.where(share > 0, 1, FAR)).argmax())
    group = np.zeros(count + 1, int)  # of each part: parts that touch once each has grown by a patch
    group[part] = components(binary_dilation(part > 0, touching), touching)[0]
    beside = (group[1:] == group[main + 1]) & (weight > BEHIND * weight[main])
    keep = (numbers == main + 1) | beside | ((share > 0.5) & (weight > APART * weight[main]))
    kept = np.isin(part, numbers[keep])
    gone = binary_dilation((part > 0) & ~kept, touching) & ~kept  # with the faint rim around it
    return torch.where(torch.from_numpy(gone), 0.0, labels)


def hold_size(labels: Tensor, patches: int, peak: float) -> Tensor:
    """Labels scaled up, if need be, so that as many patches as before reach half the peak; those weaker than ``FADED`` of it never do."""
    if patches == 0:
        return labels
    weakest = float(labels.flatten().sort(descending=True).values[patches - 1])
    threshold = min(0.5 * peak, max(FADED * peak, weakest))
    return (labels * (0.5 * peak / threshold)).clamp(max=peak)


@dataclass(eq=False)
class Propagator:
    """The subjects of one view, followed through frames that are given one by one."""

    settings: TrackSettings
    rows: int
    columns: int
    subjects: int
    prompted: list[Memory] = field(default_factory=list)
    recent: deque[Memory] = field(default_factory=deque)
    centre: Tensor | None = None  # f32[D], mean token of the first prompted frame

    def started(self, subject: int) -> bool:
        return any(memory.given[subject] for memory in self.prompted)

    def step(
        self, tokens: Tensor, given: Mapping[int, Tensor] | None = None, absent: Collection[int] = ()
    ) -> list[Found | None]:
        """Find every subject in the next frame.

        Args:
            tokens: [rows, columns, D] of the frame.
            given: subject -> f32[rows, columns], the share of each patch that a prompt says is the subject.
            absent: subjects that somebody says are not there; what was taken for them in recent frames is forgotten.

        Returns:
            One Found per subject; None for those without a prompt so far.
        """
        import torch

        given = given or {}
        if self.centre is None:
            if not given:
                return [None] * self.subjects
            self.centre = tokens.float().mean((0, 1))
        query = unit(tokens, self.centre)
        found: list[Found | None] = [
            Found(given[s], float(given[s].max()), 1.0, 1.0, True)
            if s in given
            else self._find(s, query)
            if self.started(s) and s not in absent
            else None
            for s in range(self.subjects)
        ]
        empty = torch.zeros(self.rows, self.columns)
        labels = share_out(
            torch.stack([f.labels if f else empty for f in found], dim=-1), [s in given for s in range(self.subjects)]
        )
        found = [f and replace(f, labels=labels[..., s]) for s, f in enumerate(found)]
        seen = tuple(f is not None and bool(f.labels.any()) for f in found)
        memory = Memory(query, labels.flatten(0, 1), seen, tuple(s in given for s in range(self.subjects)))
        if given:
            self.prompted = self._kept([*self.prompted, memory])
        if corrected := {*given, *absent}:  # this ends what the recent frames say about its subject
            forget = [replace(m, known=tuple(k and s not in corrected for s, k in enumerate(m.known))) for m in self.recent]
            self.recent = deque(forget)
        self.recent.append(memory)
        while len(self.recent) > self.settings.context:
            self.recent.popleft()
        return found

    def cut(self) -> None:
        """The next frame belongs to another shot: what the recent frames say about places is of no use there."""
        self.recent.clear()

    def _kept(self, prompted: list[Memory]) -> list[Memory]:
        """Of each subject's prompted frames the first and the newest."""
        keep: set[int] = set()
        for subject in range(self.subjects):
            own = [i for i, memory in enumerate(prompted) if memory.given[subject]]
            keep |= {*own[:1], *own[-(PROMPTS - 1) :]}
        return [memory for i, memory in enumerate(prompted) if i in keep]

    def _find(self, subject: int, query: Tensor) -> Found:
        import torch
        from torch.nn import functional

        radius, topk, temperature = self.settings.radius, self.settings.topk, self.settings.temperature
        prompts: list[Voters] = [(m.tokens, m.labels[:, subject], None, TRUST) for m in self.prompted if m.given[subject]]
        recent = [m for m in self.recent if m.known[subject]]
        peak = max(float(labels.max()) for _, labels, _, _ in prompts)
        # What the prompted frames alone say, anywhere; this is all there is when the subject has not been seen for a while.
        labels = vote(query, prompts, topk, temperature)
        before = None
        if recent:
            before = recent[-1].labels[:, subject].view(self.rows, self.columns)
            reach = torch.stack([m.labels[:, subject] for m in recent]).amax(0).view(1, 1, self.rows, self.columns)
            reach = functional.max_pool2d(reach, 2 * radius + 1, 1, radius).flatten()
            # Elsewhere the recent frames could only take labels away, and there are none.
            at = torch.nonzero((reach > 0.02 * peak) | (labels > 0.1 * peak)).flatten()
            near = self._near(at, radius)
            others: list[Voters] = [(m.tokens, m.labels[:, subject], near, 0.0) for m in recent if not m.given[subject]]
            labels[at] = vote(query[at], prompts + others, topk, temperature)
        grid = keep_connected(labels.view(self.rows, self.columns), before, 0.3 * peak)
        nowhere = Found(torch.zeros_like(grid), peak, 0.0, 0.0)
        if float(grid.max()) < GONE * peak or self._weight(grid.flatten(), peak) < self._least(subject, peak):
            return nowhere
        held = grid if before is None else hold_size(grid, int((before > 0.5 * peak).sum()), peak)
        inside = torch.nonzero((held >= 0.5 * float(held.max())).flatten()).flatten()
        agreed = float(vote(query[inside], prompts, topk, temperature).mean()) / peak
        return Found(held, peak, min(1.0, float(grid.flatten()[inside].mean()) / peak), min(1.0, agreed))

    def _weight(self, labels: Tensor, peak: float) -> float:
        return float(labels.where(labels > 0.3 * peak, 0.0).sum())

    def _least(self, subject: int, peak: float) -> float:
        """Something smaller is not taken for the subject. It may dwindle a little at a time, but after a loss it must have come back."""
        recent = [self._weight(m.labels[:, subject], peak) for m in self.recent if m.known[subject]]
        if recent:
            return DWINDLED * max(recent)
        return RETURNED * min(self._weight(m.labels[:, subject], peak) for m in self.prompted if m.given[subject])

    def _near(self, at: Tensor, radius: int) -> Tensor:
        """bool[Q, P]: which patches lie within the radius (in both directions) of the patches ``at``."""
        import torch

        place = torch.arange(self.rows * self.columns)
        row, column = place // self.columns, place % self.columns
        return ((row[at, None] - row).abs() <= radius) & ((column[at, None] - column).abs() <= radius)

    # --- what is kept on disk between segments ---

    def state(self) -> dict[str, Tensor]:
        """All of the memory as tensors; tokens in half precision, which loses nothing (see ``unit``)."""
        import torch

        out = {} if self.centre is None else {"centre": self.centre}
        for kind, memories in (("prompted", self.prompted), ("recent", self.recent)):
            for i, memory in enumerate(memories):
                out[f"{kind}.{i:03d}.tokens"] = memory.tokens.half().contiguous()
                out[f"{kind}.{i:03d}.labels"] = memory.labels.clone(memory_format=torch.contiguous_format)
                out[f"{kind}.{i:03d}.flags"] = torch.tensor([memory.known, memory.given])
        return out

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue where ``state`` was taken."""

        def memories(kind: str) -> list[Memory]:
            names = sorted({name.rsplit(".", 1)[0] for name in state if name.startswith(kind)})
            return [
                Memory(state[f"{n}.tokens"].float(), state[f"{n}.labels"], *map(tuple, state[f"{n}.flags"].tolist()))
                for n in names
            ]

        self.prompted, self.recent = memories("prompted"), deque(memories("recent"))
        self.centre = state.get("centre")


def share_out(labels: Tensor, fixed: Sequence[bool]) -> Tensor:
    """Labels f32[rows, columns, S] of which no patch holds more than 1 in all; prompted subjects keep theirs, the others share the rest."""
    import torch

    keep = torch.tensor(list(fixed))
    held = torch.where(keep, labels, 0.0).sum(-1, keepdim=True).clamp(max=1)
    others = torch.where(keep, 0.0, labels)
    total = others.sum(-1, keepdim=True)
    scale = ((1 - held) / total.clamp(min=1e-6)).clamp(max=1)
    return torch.where(keep, labels, others * scale)
