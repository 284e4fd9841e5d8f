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

* pictures that are darker than usual are brightened first (``brightened``), for the backbone has seen few of them;
* a gallery of looks (``gallery.py``) votes beside the prompted frames and says whether what was found still is the subject. Where it is
  not, the subject counts as lost; then the whole view is searched, and only what is clearly like the gallery is accepted;
* what looks as its place did with no subject there is ground (``ground.py``); something that is like the subject beside it is told by its
  coat (``coat.py``).

Memory is constant: four prompted frames (the first and the three newest), ``context`` recent ones, the gallery, the coat and the ground.
Everything here works on arrays of tokens and knows nothing of videos.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from foveate.settings import TrackSettings
from foveate.track.propagate.coat import RIVALRY, SMALL, Coat, note_rival, tell_apart
from foveate.track.propagate.gallery import Gallery
from foveate.track.propagate.ground import Ground
from foveate.track.propagate.parts import hold_size, keep_connected, most_alike, of_its_size, one_each
from foveate.track.propagate.watch import Watch

if TYPE_CHECKING:
    from torch import Tensor

    Voters = tuple[Tensor, Tensor, Tensor | None, float]
    Ballot = tuple[Tensor, Tensor]

DEPTH = 0.75  # share of the backbone's blocks that is used
TRUST = 0.1  # added to the cosine with a prompted frame
PROMPTS = 4  # prompted frames kept: the first and the newest
LEARNED = 0.05  # likewise for the gallery
GONE = 0.35  # of the prompt's peak: a subject whose strongest label is weaker is lost
DWINDLED, RETURNED = (
    0.1,
    0.25,
)  # share of its size that a subject must have left, of recent frames or, after a loss, of the prompt
CERTAIN, SAME = 0.6, 0.3  # certainty and identity of a sure frame
SHARPER = 1.5  # power of the labels by which subjects share a patch
ALIKE = 0.8  # likeness of a sure frame, as a share of what is typical
STRANGE = 0.8  # likeness below which a patch is something else
CHANGED = 0.75  # share of what is typical that the likeness of a subject may fall to at once
LIKELY = 0.15  # so much more, and nothing speaks against it
DEFICIT = 0.15  # of its likeness to the subject against that to the background: with so much it is background
ENOUGH = 0.3  # likeness to the subject beyond that to the background, as a share of what is typical, that a patch needs by which it grows
LEAST = 0.05  # taken for typical at least
SOON = (0.1, 0.4)  # seconds since it was last seen, from which on that counts at all, and in full
UNLIKE = 0.6  # likeness of all of it, with less it is something else
BACK = 0.75  # that something found in the whole view needs
KNOWN = 0.62  # mean likeness of the rest of the view to the background seen so far: after a cut, with less it is another place
ELSEWHERE = (
    0.95  # likeness that something in another place needs: any animal resembles another more than the ground that is known
)
INSIDE = 0.9  # of the peak: patches whose look is learned
GROWN, CROWDED = 1.35, 1.1  # of its typical size: then something else may be part of it; likewise with a look-alike near
WORN = 0.8  # with less its outline is not taken for its shape there
SIMILAR = 0.35  # likeness beyond that to the background, as a share of what is typical, that makes a patch elsewhere one of a look-alike


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
    likeness: float = (
        1.0  # to the gallery, as a share of what is typical of it; where it is lost, of what is most like it in the view
    )
    sure: bool = True
    searched: bool = False  # in the whole view, without a place to begin at


def unit(tokens: Tensor, centre: Tensor) -> Tensor:
    """f32[P, D] of length 1 from [rows, columns, D], after ``centre`` f32[D] is taken away. Rounded to half precision, as they are kept on
    disk, so that a tracker that is stored and read back goes on with the same numbers."""
    from torch.nn import functional

    flat = functional.normalize(tokens.float().flatten(0, -2) - centre, dim=-1)
    return flat.half().float().contiguous()  # a stored one is: products of another layout differ in the last digit


def ballot(query: Tensor, memory: Voters, topk: int) -> Ballot:
    """The ``topk`` patches of one memory that each of the ``query`` patches is most similar to.

    Args:
        query: f32[Q, D], unit length.
        memory: tokens f32[P, D], labels f32[P], allowed bool[Q, P] or None for all, amount added to the cosine.
        topk: number of patches that vote.

    Returns:
        their cosines and their labels, f32[Q, topk] each.
    """
    import torch

    tokens, labels, allowed, extra = memory
    cosine = query @ tokens.T + extra
    if allowed is not None:
        cosine = cosine.masked_fill(~allowed, -torch.inf)
    best = cosine.topk(min(topk, cosine.shape[1]), dim=1)
    return best.values, labels[best.indices]


def elected(ballots: Sequence[Ballot], topk: int, temperature: float) -> Tensor:
    """Labels f32[Q] of the patches that were asked: the mean of those of the ``topk`` most similar patches of all memories together,
    weighted exp(cosine / temperature)."""
    import torch

    cosine, labels = (torch.cat(parts, 1) for parts in zip(*ballots, strict=True))
    top = cosine.topk(min(topk, cosine.shape[1]), dim=1)
    weight = (top.values / temperature).softmax(dim=1)
    return (weight * labels.gather(1, top.indices)).sum(dim=1)


def believed(likeness: Tensor, surplus: Tensor) -> Tensor:
    """f32[P] in 0..1: how far a patch may be the subject, whatever the recent frames say. Something new that comes beside the subject is
    like nothing that is known, so its nearest voters mean little."""
    return ((likeness - STRANGE) / LIKELY).clamp(0, 1) * (1 + surplus / DEFICIT).clamp(0, 1)


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
    galleries: list[Gallery] = field(init=False)
    watches: list[Watch] = field(init=False)
    ground: Ground = field(default_factory=Ground)
    coats: list[Coat] = field(init=False)
    outlines: list[Tensor | None] = field(init=False)  # of each subject, labels of the last sure frame in which it had its size

    def __post_init__(self) -> None:
        self.galleries = [Gallery() for _ in range(self.subjects)]
        self.watches = [Watch() for _ in range(self.subjects)]
        self.coats = [Coat() for _ in range(self.subjects)]
        self.outlines = [None] * self.subjects

    def started(self, subject: int) -> bool:
        return any(memory.given[subject] for memory in self.prompted)

    def step(
        self,
        tokens: Tensor,
        given: Mapping[int, Tensor] | None = None,
        absent: Collection[int] = (),
        time: float = 0.0,
        colours: Tensor | None = None,
    ) -> list[Found | None]:
        """Find every subject in the next frame.

        Args:
            tokens: [rows, columns, D] of the frame.
            given: subject -> f32[rows, columns], the share of each patch that a prompt says is the subject.
            absent: subjects that somebody says are not there; what was taken for them in recent frames is forgotten.
            time: of the frame, in seconds; they may go backwards.
            colours: f32[rows * columns, 2] of its patches (``coat.colours``); without them look-alikes are not told by their coats.

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
            else self._find(s, query, time, colours)
            if self.started(s) and s not in absent
            else None
            for s in range(self.subjects)
        ]
        empty = torch.zeros(self.rows, self.columns)
        labels = share_out(
            torch.stack([f.labels if f else empty for f in found], dim=-1), [s in given for s in range(self.subjects)]
        )
        if self.subjects > 1:  # of those prompted here the place is known
            labels = one_each(labels, [0.0 if s in given else watch.size for s, watch in enumerate(self.watches)], 0.3)
        found = [f and replace(f, labels=labels[..., s]) for s, f in enumerate(found)]
        seen = tuple(f is not None and bool(f.labels.any()) for f in found)
        memory = Memory(query, labels.flatten(0, 1), seen, tuple(s in given for s in range(self.subjects)))
        if given:
            self.prompted = self._kept([*self.prompted, memory])
        # A correction ends what the recent frames say about its subject, and so does a loss.
        if over := {*given, *absent, *(s for s in range(self.subjects) if not seen[s])}:
            forget = [replace(m, known=tuple(k and s not in over for s, k in enumerate(m.known))) for m in self.recent]
            self.recent = deque(forget)
        self.recent.append(memory)
        while len(self.recent) > self.settings.context:
            self.recent.popleft()
        for subject in absent:
            self.watches[subject].lost = True
        for subject, one in enumerate(found):
            if one is not None:
                self._learn(subject, query, one, time, colours)
        if all(one is not None and one.sure for s, one in enumerate(found) if self.started(s)):
            self.ground.learn(query, labels.amax(-1))
        return found

    def cut(self) -> None:
        """The next frame belongs to another shot: what the recent frames say about places is of no use there."""
        self.recent.clear()
        self.ground = Ground()
        self.coats = [Coat() for _ in range(self.subjects)]  # it may be lit in another way
        for watch in self.watches:
            watch.lost = watch.cut = True

    def _learn(self, subject: int, query: Tensor, found: Found, time: float, colours: Tensor | None) -> None:
        """Note where the subject was seen, and, where that is sure, what it and the rest looked like."""
        from torch.nn import functional

        gallery, watch = self.galleries[subject], self.watches[subject]
        if not found.labels.any():
            watch.lost = True
        if not found.sure or not found.labels.any():
            watch.doubtful += 1
            return
        labels = found.labels.flatten()
        around = functional.max_pool2d(found.labels[None], 3, 1, 1).flatten()
        outside, inside = query[around < 0.02], query[labels >= INSIDE * float(labels.max())]
        if found.prompted:
            gallery.subject.keep(inside)
            gallery.background.keep(outside)
        own = gallery.subject.likeness(query, itself=found.prompted)
        other = gallery.background.likeness(query)
        contested = not found.prompted and abs(time - watch.rival) < RIVALRY
        if not contested or WORN * watch.size <= float(found.labels.sum()) <= CROWDED * watch.size:
            self.outlines[subject] = found.labels
        likeness, surplus = (float((value * labels).sum() / labels.sum()) for value in (own, own - other))
        if colours is not None and not contested:
            self.coats[subject].learn(query, colours, found.labels, labels >= INSIDE * found.peak)
        watch.saw(found.labels, likeness, surplus, time, whole=not contested)
        if not found.prompted:
            gallery.subject.learn(query[(labels >= INSIDE * found.peak) & (own > other) & (own > ALIKE * watch.likeness)])
            gallery.background.learn(query[(around < 0.02) & (own < ALIKE * watch.likeness)])

    def _kept(self, prompted: list[Memory]) -> list[Memory]:
        """Of each subject's prompted frames the first and the newest."""
        keep: set[int] = set()
        for subject in range(self.subjects):
            own = [i for i, memory in enumerate(prompted) if memory.given[subject]]
            keep |= {*own[:1], *own[-(PROMPTS - 1) :]}
        return [memory for i, memory in enumerate(prompted) if i in keep]

    def _find(self, subject: int, query: Tensor, time: float, colours: Tensor | None) -> Found:
        import torch
        from torch.nn import functional

        radius, topk, temperature = self.settings.radius, self.settings.topk, self.settings.temperature
        watch, gallery = self.watches[subject], self.galleries[subject]
        prompts: list[Voters] = [(m.tokens, m.labels[:, subject], None, TRUST) for m in self.prompted if m.given[subject]]
        recent = [m for m in self.recent if m.known[subject]]
        peak = max(float(labels.max()) for _, labels, _, _ in prompts)
        known = [ballot(query, memory, topk) for memory in (*prompts, (*gallery.labelled(peak), None, LEARNED))]
        # What the prompted frames and the gallery say, anywhere; this is all there is when the subject has not been seen for a while.
        remembered = labels = elected(known, topk, temperature)
        before = None
        if recent:
            before = recent[-1].labels[:, subject].view(self.rows, self.columns)
            reach = torch.stack([m.labels[:, subject] for m in recent]).amax(0).view(1, 1, self.rows, self.columns)
            reach = functional.max_pool2d(reach, 2 * radius + 1, 1, radius).flatten()
            # Elsewhere the recent frames could only take labels away, and there are none.
            at = torch.nonzero((reach > 0.02 * peak) | (labels > 0.1 * peak)).flatten()
            near = self._near(at, radius)
            others: list[Voters] = [(m.tokens, m.labels[:, subject], near, 0.0) for m in recent if not m.given[subject]]
            here = [(cosine[at], their[at]) for cosine, their in known] + [ballot(query[at], memory, topk) for memory in others]
            labels = labels.index_put((at,), elected(here, topk, temperature))
        own, other = gallery.subject.likeness(query), gallery.background.likeness(query)
        labels = labels * self.ground.free(query, own)
        # A subject that has changed all over is measured by the patches of it that changed least.
        inside = own[labels > 0.5 * peak]
        typical = max(watch.likeness, 1e-6)
        if len(inside):
            typical *= min(1.0, max(CHANGED, float(inside.quantile(0.9)) / typical))
        core = believed(own / typical, own - other).view(1, self.rows, self.columns)
        # Over a short time the recent frames know best, whatever a patch looks like.
        late = min(1.0, max(0.0, abs(time - watch.time) - SOON[0]) / (SOON[1] - SOON[0])) if recent else 1.0
        labels = labels * (1 - late + late * functional.max_pool2d(core, 3, 1, 1).flatten())
        grid = labels.view(self.rows, self.columns)
        alike = ((own > ALIKE * watch.likeness) & (own - other > SIMILAR * max(watch.surplus, LEAST))).view_as(grid)
        alike &= watch.size >= SMALL
        grid, off, contested = tell_apart(self.coats[subject], watch, grid, alike, query, colours, time, peak)
        if before is None:
            grid = most_alike(grid, own - other, 0.3 * peak)
        else:
            grid = keep_connected(grid, before, 0.3 * peak)
            outline = self.outlines[subject]
            if outline is not None and float(grid.sum()) > (CROWDED if contested else GROWN) * watch.size:
                shape = of_its_size(grid, outline, before, 0.3 * peak)
                grown = ((own - other).view_as(grid) / max(watch.surplus, LEAST) - ENOUGH) / ENOUGH
                if contested:
                    grown = torch.zeros_like(grid)
                grid = grid * torch.maximum(shape, grown.clamp(1 - late, 1))
        apart = alike & (functional.max_pool2d(grid[None], 3, 1, 1)[0] < 0.3 * peak)
        note_rival(self.coats[subject], watch, apart, off, time)
        weight = grid.flatten()
        likeness = float((own * weight).sum() / weight.sum().clamp(min=1e-6)) / max(watch.likeness, 1e-6)
        likeness = min(1.0, max(0.0, likeness))
        enough = self._weight(weight, peak) / max(self._least(subject, peak), 1e-6)
        # Specks like it are everywhere.
        nowhere = Found(torch.zeros_like(grid), peak, 0.0, 0.0, likeness=likeness * min(1.0, enough), sure=False)
        if float(grid.max()) < GONE * peak or enough < 1:
            return nowhere
        needed = UNLIKE * late if recent else BACK
        if watch.cut:  # until it is surely seen again
            rest = other[functional.max_pool2d(grid[None], 3, 1, 1).flatten() < 0.02]
            needed = ELSEWHERE if not len(rest) or float(rest.mean()) < KNOWN else BACK
        if likeness < needed:
            return nowhere
        # Beside a look-alike its patches would be taken in to keep the size.
        held = grid if before is None or contested else hold_size(grid, int((before > 0.5 * peak).sum()), peak)
        inside = torch.nonzero((held >= 0.5 * float(held.max())).flatten()).flatten()
        agreed = min(1.0, float(remembered[inside].mean()) / peak)
        certainty = min(1.0, float(weight[inside].mean()) / peak)
        sure = certainty >= CERTAIN and agreed >= SAME and likeness >= ALIKE
        return Found(held, peak, certainty, agreed, likeness=likeness, sure=sure, searched=not recent)

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

    def turned(self) -> Propagator:
        """Another one that knows the same and goes back from the newest frame; what it sees is not learned here."""
        other = replace(self)
        other.prompted, other.recent, other.centre = self.prompted, deque([self.recent[-1]]), self.centre
        other.galleries = [gallery.copy() for gallery in self.galleries]
        other.ground = replace(self.ground)
        other.coats = [coat.copy() for coat in self.coats]
        other.outlines = list(self.outlines)
        other.watches = [replace(watch, down=-watch.down, right=-watch.right) for watch in self.watches]
        return other

    # --- what is kept on disk between segments ---

    def state(self) -> dict[str, Tensor]:
        """All of the memory as tensors; tokens in half precision, which loses nothing (see ``unit``)."""
        import torch

        out = {} if self.centre is None else {"centre": self.centre}
        out |= {f"ground.{name}": value for name, value in self.ground.state().items()}
        for kind, memories in (("prompted", self.prompted), ("recent", self.recent)):
            for i, memory in enumerate(memories):
                out[f"{kind}.{i:03d}.tokens"] = memory.tokens.half().contiguous()
                out[f"{kind}.{i:03d}.labels"] = memory.labels.clone(memory_format=torch.contiguous_format)
                out[f"{kind}.{i:03d}.flags"] = torch.tensor([memory.known, memory.given])
        for i, (gallery, watch) in enumerate(zip(self.galleries, self.watches, strict=True)):
            out |= {f"gallery.{i:03d}.{name}": value for name, value in gallery.state().items()}
            out |= {f"coat.{i:03d}.{name}": value for name, value in self.coats[i].state().items()}
            out[f"watch.{i:03d}"] = watch.state()
            if (outline := self.outlines[i]) is not None:
                out[f"outline.{i:03d}"] = outline.contiguous()
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
        self.ground.restore({name.removeprefix("ground."): v for name, v in state.items() if name.startswith("ground.")})
        for i, gallery in enumerate(self.galleries):
            own = f"gallery.{i:03d}."
            if f"{own}kept" in state:
                gallery.restore({name.removeprefix(own): value for name, value in state.items() if name.startswith(own)})
                self.watches[i] = Watch.restored(state[f"watch.{i:03d}"])
                coat = f"coat.{i:03d}."
                self.coats[i].restore(
                    {name.removeprefix(coat): value for name, value in state.items() if name.startswith(coat)}
                )
                self.outlines[i] = state.get(f"outline.{i:03d}")


def share_out(labels: Tensor, fixed: Sequence[bool]) -> Tensor:
    """Labels f32[rows, columns, S] of which no patch holds more than 1 in all; prompted subjects keep theirs, the others share the rest.
    Where several of them want a patch, who wants it more gets more than that (``SHARPER``): doubt would spread from frame to frame."""
    import torch

    keep = torch.tensor(list(fixed))
    held = torch.where(keep, labels, 0.0).sum(-1, keepdim=True).clamp(max=1)
    others = torch.where(keep, 0.0, labels)
    contested = (others > 0).sum(-1, keepdim=True) > 1
    claims = torch.where(contested, others**SHARPER, others)
    claims = claims * (others.sum(-1, keepdim=True) / claims.sum(-1, keepdim=True).clamp(min=1e-9)).where(contested, 1.0)
    scale = ((1 - held) / claims.sum(-1, keepdim=True).clamp(min=1e-6)).clamp(max=1)
    return torch.where(keep, labels, claims * scale)
