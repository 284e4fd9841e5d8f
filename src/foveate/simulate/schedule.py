"""When an animal does what: scripts drawn at random that keep given shares of time.

``draw_script`` is the demo's, for its seven behaviours; ``draw_day`` draws from any list and can favour one behaviour.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from foveate.schema import FoveateError
from foveate.simulate.ethogram import Entry, Script


@dataclass(frozen=True)
class Shares:
    """Shares of a video's time that a schedule aims at; what remains is standing with the head at rest."""

    lying: float
    moving: float
    turning_left: float  # part of moving
    turning_right: float  # part of moving
    eating: float
    head_up: float


def draw_shares(lying: float, rng: np.random.Generator) -> Shares:
    """One animal's shares: around ``lying`` for lying, and distributions that do not depend on it for all else."""
    left, right = rng.uniform(0.15, 0.175), rng.uniform(0.15, 0.175)
    return Shares(
        lying=float(np.clip(lying + rng.normal(0, 0.03), 0.09, 0.5)),
        moving=left + right + rng.uniform(0.055, 0.075),
        turning_left=left,
        turning_right=right,
        eating=float(np.clip(rng.normal(0.15, 0.02), 0.1, 0.2)),
        head_up=float(np.clip(rng.normal(0.16, 0.03), 0.1, 0.22)),
    )


def draw_script(shares: Shares, seconds: float, rng: np.random.Generator) -> list[Entry]:
    """A script of ``seconds`` that comes as near to ``shares`` as bouts of more than a second allow."""
    walks = _draw_walks(shares, seconds, rng)
    lies = _split(max(1.8, shares.lying * seconds), 1 + int(shares.lying * seconds / 5), 1.8, rng)
    bouts = [*walks, *(_lying(lie) for lie in lies)]
    standing = seconds - sum(length for bout in bouts for length, _ in bout)
    while len(bouts) > 2 and standing < _PAUSE * (len(bouts) - 1):  # too little standing left to part them: join two of a kind
        last = bouts.pop()
        if len(lies) > 1:
            bouts[-1] = _lying(bouts[-1][0][0] + last[0][0])
            lies = lies[:-1]
        else:
            bouts = [[*bouts[0], *bouts[1]], *bouts[2:], last]
    if standing < _PAUSE * (len(bouts) - 1):
        raise FoveateError(
            f"videos of {seconds:g} s are too short for all behaviours with {100 * shares.lying:.0f} % of the time lying",
            remedy="make them longer (--minutes), or the share of lying smaller",
        )
    bouts = _alternate([b for b in bouts if b[0][1] != ("lying",)], [b for b in bouts if b[0][1] == ("lying",)], rng)
    ends = rng.permutation(2)[: max(0, min(2, int(standing / _PAUSE) - (len(bouts) - 1)))]
    pauses = _split(standing, len(bouts) - 1 + len(ends), _PAUSE, rng)
    sequence: list[Entry] = []
    if 0 in ends:
        sequence.append((pauses.pop(), ("standing",)))
    for number, bout in enumerate(bouts):
        sequence += bout
        if number < len(bouts) - 1 or 1 in ends:
            sequence.append((pauses.pop(), ("standing",)))
    return _place_heads(sequence, shares, seconds, rng)


_Bout = list[Entry]


def _alternate(walks: list[_Bout], lies: list[_Bout], rng: np.random.Generator) -> list[_Bout]:
    """Walking between two bouts of lying where there is enough of it, so that an animal does not lie the same way round every time."""
    more, fewer = (
        (walks, lies) if len(walks) > len(lies) or (len(walks) == len(lies) and rng.uniform() < 0.5) else (lies, walks)
    )
    order: list[_Bout] = []
    for i, bout in enumerate(more):
        order += [bout, *fewer[i * len(fewer) // len(more) : (i + 1) * len(fewer) // len(more)]]
    return order


def _lying(seconds: float) -> list[Entry]:
    return [(seconds, ("lying",))]


_PAUSE = 1.4  # shortest standing between two bouts, seconds


def _draw_walks(shares: Shares, seconds: float, rng: np.random.Generator) -> list[list[Entry]]:
    """Bouts of walking, each a few pieces of walking straight and turning."""
    straight = shares.moving - shares.turning_left - shares.turning_right
    pieces: list[Entry] = []
    for share, shown in (
        (shares.turning_left, ("moving", "turning_left")),
        (shares.turning_right, ("moving", "turning_right")),
    ):
        total = max(1.5, share * seconds)
        pieces += [(length, shown) for length in _split(total, max(1, int(total / 5)), 1.5, rng)]
    total = max(1.3, straight * seconds)
    pieces += [(length, ("moving",)) for length in _split(total, max(1, int(total / 2.5)), 1.3, rng)]
    pieces = [pieces[i] for i in rng.permutation(len(pieces))]
    n = max(1, round(seconds / 10))
    cuts = np.linspace(0, len(pieces), n + 1).round().astype(int)
    return [pieces[a:b] for a, b in pairwise(cuts.tolist()) if b > a]


def _place_heads(sequence: Script, shares: Shares, seconds: float, rng: np.random.Generator) -> list[Entry]:
    """Cut standing and lying into slots and let the animal eat or raise its head in some, until their shares are used up."""
    slots: list[Entry] = []
    for length, shown in sequence:
        parts = [length] if "moving" in shown else _split(length, max(1, round(length / 3)), 1.3, rng)
        slots += [(part, shown) for part in parts]
    left = {"eating": shares.eating * seconds, "head_up": shares.head_up * seconds}
    for head, postures in (("eating", ("standing",)), ("head_up", ("standing", "lying"))):
        for i in rng.permutation(len(slots)):
            length, shown = slots[i]
            if len(shown) == 1 and shown[0] in postures and left[head] > length / 2:
                slots[i] = (length, (*shown, head))
                left[head] -= length
    return slots


def _split(total: float, n: int, shortest: float, rng: np.random.Generator) -> list[float]:
    """``total`` in ``n`` random parts (fewer if need be), none below ``shortest`` unless ``total`` is."""
    n = max(1, min(n, int(total / shortest)))
    spare = total - n * shortest
    return [float(shortest + spare * share) for share in rng.dirichlet(np.full(n, 2.0))] if n > 1 else [total]


# How often each thing that an animal can show at once is drawn. Lying has a share of its own.
_LYING = {
    ("lying",): 1.0,
    ("lying", "head_up"): 0.8,
    ("lying", "head_down"): 0.8,
    ("lying", "regurgitating"): 1.6,
}
_UPRIGHT = {
    ("standing",): 0.8,
    ("standing", "head_up"): 1.0,
    ("standing", "head_down"): 1.0,
    ("standing", "head_down", "eating"): 1.6,
    ("standing", "regurgitating"): 1.0,
    ("standing", "drinking"): 1.2,
    ("moving",): 0.9,
    ("moving", "turning_left"): 1.1,
    ("moving", "turning_right"): 1.1,
}
_MAIN = 0.7
"""Share of a video's time that its main behaviour takes, about."""


def draw_day(
    behaviours: tuple[str, ...], lying: float, seconds: float, rng: np.random.Generator, main: str | None = None
) -> list[Entry]:
    """A script of ``seconds`` over ``behaviours``: about a share ``lying`` of it lying, in one piece, and drinking at most once.

    ``main`` is a behaviour that is to take most of the time.

    Raises:
        ValueError: fewer than 8 seconds.
    """
    if seconds < 8:
        raise ValueError(f"{seconds} s are too short for a script of all behaviours, which needs 8")
    decks = [_deck(states, behaviours, main) for states in (_LYING, _UPRIGHT)]
    share = _MAIN if main == "lying" else (1 - _MAIN) * lying if main else lying
    down = share * seconds if share * seconds >= 1.8 else 0.0
    first = float(rng.uniform(0, 1)) * (seconds - down) if down else 0.0
    if first < 4:
        first = 0.0
    elif seconds - down - first < 4:
        first = seconds - down
    parts = [(decks[1], first), (decks[0], down), (decks[1], seconds - down - first)]
    script: list[Entry] = []
    drunk = False
    for deck, length in parts:
        if length <= 0:
            continue
        entries = _entries(deck, length, drunk, rng, main is not None)
        drunk |= any("drinking" in shown for _, shown in entries)
        script += entries
    return _turn_away(_stand_between(script), rng)


def _turn_away(script: list[Entry], rng: np.random.Generator) -> list[Entry]:
    """Whoever walks after drinking turns first, because straight ahead is the trough."""
    drunk, out = False, list[Entry]()
    for seconds, shown in script:
        if drunk and "moving" in shown:
            shown = shown if len(shown) > 1 else ("moving", f"turning_{rng.choice(['left', 'right'])}")
            drunk = False
        drunk |= "drinking" in shown
        out.append((seconds, shown))
    return out


_Deck = dict[tuple[str, ...], float]


def _deck(states: _Deck, behaviours: tuple[str, ...], main: str | None) -> _Deck:
    """The states that ``behaviours`` can tell apart. Those with ``main`` get a weight that gives them ``_MAIN`` of the time."""
    known: _Deck = {}
    for shown, weight in states.items():
        # Where head_down is not in the list, a head at the ground is shown only to eat.
        kept = tuple(b for b in shown if b in behaviours)
        if kept not in known and len(kept) >= len(shown) - ("eating" in kept):
            known[kept] = weight
    wanted = sum(w for shown, w in known.items() if main in shown)
    others = sum(w for shown, w in known.items() if main not in shown)
    if not wanted or not others:
        return known
    factor = _MAIN / (1 - _MAIN) * others / wanted
    return {shown: w * factor if main in shown else w for shown, w in known.items()}


def _entries(deck: _Deck, length: float, drunk: bool, rng: np.random.Generator, favour: bool) -> list[Entry]:
    """Entries of 2 to 4.5 seconds that fill ``length``; the state whose share of the time lags most comes next, with some luck.

    ``favour``: one state may follow itself, as a state that takes most of the time must.
    """
    used = dict.fromkeys(deck, 0.0)
    out: list[Entry] = []
    for seconds in _split(length, max(1, round(length / rng.uniform(2.8, 3.4))), 2.0, rng):
        left = [s for s in deck if not ("drinking" in s and drunk) and (favour or not out or out[-1][1] != s)]
        shown = min(left, key=lambda s: (used[s] + rng.uniform(0, 1) * seconds) / deck[s])
        used[shown] += seconds
        drunk |= "drinking" in shown
        out.append((seconds, shown))
    return out


def _stand_between(script: list[Entry]) -> list[Entry]:
    """Between lying and moving, and at each end of moving next to lying, the animal stands for ``_PAUSE``."""
    out: list[Entry] = []
    for i, (seconds, shown) in enumerate(script):
        beside = [script[j][1] for j in (i - 1, i + 1) if 0 <= j < len(script)]
        pause = "moving" in shown and any("lying" in other for other in beside)
        if not pause:
            out.append((seconds, shown))
        elif seconds < 2 * _PAUSE:
            out.append((seconds, ("standing",)))
        elif i and "lying" in script[i - 1][1]:
            out += [(_PAUSE, ("standing",)), (seconds - _PAUSE, shown)]
        else:
            out += [(seconds - _PAUSE, shown), (_PAUSE, ("standing",))]
    return out
