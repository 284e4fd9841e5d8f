"""The coat of a subject: the colours of its patches, by which it is told from another of its shape that stands beside it.

Tokens hardly change with colour, which is why an animal is followed from day into night, and why one that differs in its coat alone is
taken in when it comes close. Colours change with the light, so they are compared with those of the last frames in which nothing like the
subject was near, patch by patch: a patch is expected to have the colour of the patches of the coat that its token is most like. By how much
those of a look-alike are off is learned while it stands apart, and where the two touch a patch belongs to whom it is nearer. One that has
the subject's colours cannot be told like this.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from foveate.track.propagate.watch import Watch
    from foveate.track.scene import Picture

FRAMES = 6  # frames whose colours are kept, and the first prompt
ENOUGH = 4  # of them that say what is usual
NEAREST = 5  # patches whose colours are expected
SHARP = 0.1  # temperature of their weights
DARK = 16.0  # of 255, added to each channel, so that noise in the dark is no colour
LEAST = 0.05  # log-ratio of two channels that is taken for usual at least
APART = 1.6  # times the usual distance that another coat must be off, to be told from it
FOLLOW = 0.1  # weight of a new frame in what is usual
LEARNED = 0.3  # likewise in what is known of another coat
OWN, THEIRS = (
    0.3,
    0.6,
)  # how near to the other coat (0: the subject's, 1: the other) patches surely are of the one and of the other
SMALL = 8.0  # patches: look-alikes of something smaller are not told, for its patches are mostly ground
RIVAL = 0.25  # of the subject's typical size: labels that lie elsewhere and make a look-alike
WHOLE = 0.4  # likewise, from which on it is one whose coat can be learned, and no tuft
RIVALRY = 10.0  # seconds for which it is expected to come close


def colours(picture: Picture, rows: int, columns: int) -> Tensor:
    """f32[P, 2], the mean colours of the patches of a picture uint8[rows * patch, columns * patch, 3]: log(red / green), log(blue / green).
    The brightness of a patch says more about the light than about the coat."""
    import torch

    height, width = picture.shape[0] // rows, picture.shape[1] // columns
    patches = torch.from_numpy(picture.copy()).view(rows, height, columns, width, 3).float().mean((1, 3))
    red, green, blue = (patches + DARK).log().flatten(0, 1).unbind(-1)
    return torch.stack([red - green, blue - green], dim=-1)


@dataclass(eq=False)
class Coat:
    """One subject's, in one view, and by how much that of a look-alike differs from it."""

    frames: deque[tuple[Tensor, Tensor]] = field(default_factory=deque)  # tokens f32[N, D], colours f32[N, 2]
    usual: float = 0.0  # distance of its own patches from the colours expected of them, the median
    other: Tensor | None = None  # f32[2], distance of a look-alike's patches from them

    @property
    def known(self) -> bool:
        return len(self.frames) >= ENOUGH

    def off(self, tokens: Tensor, seen: Tensor, labels: Tensor) -> Tensor:
        """f32[rows, columns, 2]: how far the colours around each patch are from those expected of the subject.

        Args:
            tokens: f32[P, D], unit length.
            seen: f32[P, 2], as `colours` gives them.
            labels: f32[rows, columns]; how much a patch counts for those beside it.
        """
        import torch
        from torch.nn import functional

        rows, columns = labels.shape
        known, theirs = (torch.cat(parts) for parts in zip(*self.frames, strict=True))
        weight, off = labels.flatten(), torch.zeros(len(tokens), 2)
        at = torch.nonzero(weight > 0).flatten()
        best = (tokens[at] @ known.T).topk(min(NEAREST, len(known)), dim=1)
        share = (best.values / SHARP).softmax(dim=1)
        off[at] = seen[at] - (share[..., None] * theirs[best.indices]).sum(1)
        weighed = torch.cat([off * weight[:, None], weight[:, None]], dim=1).T.reshape(1, 3, rows, columns)
        mean = functional.avg_pool2d(weighed, 3, 1, 1)[0]
        return (mean[:2] / mean[2].clamp(min=1e-6)).permute(1, 2, 0)

    @property
    def telling(self) -> bool:
        """Whether the look-alike's coat is another one."""
        return self.other is not None and float(self.other.norm()) > APART * max(self.usual, LEAST)

    def nearer(self, off: Tensor) -> Tensor:
        """f32[rows, columns]: 0 where a patch has this coat, 1 where it has the look-alike's, which must be `telling`."""
        assert self.other is not None
        return off @ self.other / float(self.other @ self.other)

    def meet(self, off: Tensor, whose: Tensor) -> None:
        """Learn the other coat from the patches ``whose`` bool[rows, columns] of a look-alike."""
        seen = off[whose].median(0).values
        self.other = seen if self.other is None else self.other + LEARNED * (seen - self.other)

    def learn(self, tokens: Tensor, seen: Tensor, labels: Tensor, inside: Tensor) -> None:
        """Take note of a sure frame in which nothing else is like the subject; ``inside``: bool[P], patches that surely are its."""
        self.other = None
        if not bool(inside.any()):
            return
        if self.frames:
            distance = float(self.off(tokens, seen, labels).norm(dim=-1).flatten()[inside].median())
            self.usual += (FOLLOW if self.usual else 1.0) * (distance - self.usual)
        self.frames.append((tokens[inside], seen[inside]))
        if len(self.frames) > FRAMES + 1:
            del self.frames[1]

    def copy(self) -> Coat:
        return replace(self, frames=deque(self.frames))

    def state(self) -> dict[str, Tensor]:
        """As tensors; tokens in half precision, which loses nothing (see ``propagator.unit``)."""
        import torch

        out = {"usual": torch.tensor(self.usual, dtype=torch.float64)}
        if self.other is not None:
            out["other"] = self.other.clone()
        for k, (tokens, seen) in enumerate(self.frames):
            out |= {f"frames.{k:03d}.tokens": tokens.half().contiguous(), f"frames.{k:03d}.colours": seen.contiguous()}
        return out

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.usual, self.other = float(state["usual"]), state.get("other")
        names = sorted({name.rsplit(".", 1)[0] for name in state if name.startswith("frames.")})
        self.frames = deque((state[f"{name}.tokens"].float(), state[f"{name}.colours"]) for name in names)


def own(nearer: Tensor) -> Tensor:
    """f32[rows, columns] in 0..1: how far each patch has the subject's coat and not the look-alike's (``nearer``: see `Coat.nearer`)."""
    return ((0.7 - nearer) / 0.4).clamp(0, 1)


def tell_apart(
    coat: Coat, watch: Watch, labels: Tensor, alike: Tensor, tokens: Tensor, seen: Tensor | None, time: float, peak: float
) -> tuple[Tensor, Tensor | None, bool]:
    """Take from the labels what has a look-alike's coat, and give back what has the subject's.

    Args:
        coat: the subject's; learns of a look-alike that is in the labels.
        watch: the subject's; told when there is one.
        labels: f32[rows, columns].
        alike: bool[rows, columns], patches that are like the subject, wherever they are.
        tokens: f32[P, D], unit length.
        seen: f32[P, 2], as `colours` gives them; None: coats are not looked at.
        time: in seconds.
        peak: label of a sure patch.

    Returns:
        the labels; how far colours are off (`Coat.off`), None where that is not known; whether a look-alike is about.
    """
    import torch

    if watch.size < SMALL:
        return labels, None, False
    contested = abs(time - watch.rival) < RIVALRY
    if seen is None or not coat.known:
        return labels, None, contested
    off = coat.off(tokens, seen, torch.maximum(labels, peak * alike))
    if not coat.telling:
        return labels, off, contested
    nearer = coat.nearer(off)
    theirs = (alike | (labels > 0.3 * peak)) & (nearer > THEIRS)
    if float(theirs.sum()) > RIVAL * watch.size and abs(time - watch.time) < RIVALRY:
        watch.rival, contested = time, True
        coat.meet(off, theirs)
        nearer = coat.nearer(off)
    if contested:
        labels = torch.maximum(labels, peak * (alike & (nearer < OWN))) * own(nearer)
    return labels, off, contested


def note_rival(coat: Coat, watch: Watch, apart: Tensor, off: Tensor | None, time: float) -> None:
    """Take note of what is like the subject and lies ``apart`` from it, bool[rows, columns]; ``off`` as `tell_apart` gives it."""
    size = float(apart.sum())
    if size <= RIVAL * watch.size:
        return
    watch.rival = time
    if off is not None and not coat.telling and size > WHOLE * watch.size:
        coat.meet(off, apart)
