"""The ten behaviours of the published data, what each looks like in pasture, and which can be shown together.

The names and their order (by frequency) are those of the published annotations (Guided DINOv2, supplement); the definitions are ours,
because the published ones are not given. docs/pasture.md holds the same table for people.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

ETHOGRAM = {
    "head_down": "The muzzle is at the ground. With eating it bites; without, the mouth is still.",
    "lying": "The trunk is on the ground, the legs are folded.",
    "standing": "On four legs in one place.",
    "eating": "The muzzle at the ground bites, and lifts a little with grass hanging out of it. Always with head_down.",
    "head_up": "The neck is raised steeply and the head is level: the animal is alert.",
    "moving": "It walks.",
    "regurgitating": "The head is held level, the lower jaw grinds from side to side, and every few seconds a bolus runs up the throat.",
    "turning_left": "It walks in a curve to its own left.",
    "turning_right": "It walks in a curve to its own right.",
    "drinking": "The muzzle is at the water in the trough and laps.",
}
"""Behaviour and definition. Exactly one of the postures standing, lying, moving holds at any time. A posture carries at most one state of
the head: standing any of them, lying all but drinking, moving none. Turning is a way of moving, one way at a time."""

ALL = tuple(ETHOGRAM)
BEHAVIOURS = ("standing", "lying", "moving", "eating", "head_up", "turning_left", "turning_right")
"""The seven behaviours of the demo, which annotates no head_down: there eating stands alone."""

POSTURES = ("standing", "lying", "moving")
HEADS = ("eating", "head_up", "head_down", "regurgitating", "drinking")
"""States of the head; eating and head_down can be shown together, all other pairs cannot."""
TURNS = ("turning_left", "turning_right")

Known = Literal["demo", "all"]
KNOWN: dict[Known, tuple[str, ...]] = {"demo": BEHAVIOURS, "all": ALL}

Entry = tuple[float, tuple[str, ...]]
Script = Sequence[Entry]
"""Seconds, and the behaviours shown together in them, one entry after the other."""

SHORTEST = 1.2
"""Shortest entry of a script in seconds: each transition must be over before the next begins."""


def check_script(script: Script, behaviours: tuple[str, ...] = BEHAVIOURS) -> None:
    """ValueError unless every entry is long enough and its ``behaviours`` can be shown together."""
    for seconds, shown in script:
        postures = [b for b in shown if b in POSTURES]
        heads = {b for b in shown if b in HEADS}
        turns = [b for b in shown if b in TURNS]
        if "head_down" in behaviours and "eating" in heads:
            if "head_down" not in heads:
                raise ValueError(f"{shown}: eating goes with head_down")
            heads.remove("eating")
        if len(postures) != 1 or len(heads) > 1 or len(turns) > 1 or set(shown) - set(behaviours):
            raise ValueError(f"{shown} cannot be shown together; need one of {POSTURES}, at most one of {HEADS} or {TURNS}")
        if (postures == ["moving"] and heads) or (turns and postures != ["moving"]):
            raise ValueError(f"{shown}: {HEADS} go with standing or lying, {TURNS} with moving")
        if "drinking" in heads and postures != ["standing"]:
            raise ValueError(f"{shown}: drinking goes with standing")
        if seconds < SHORTEST:
            raise ValueError(f"{shown}: {seconds} s is shorter than the transition between two behaviours ({SHORTEST} s)")
    for (_, before), (_, after) in pairwise(script):
        if {"lying", "moving"} <= set(before) | set(after):
            raise ValueError("an animal stands between lying and moving")
    if sum("drinking" in shown for _, shown in script) > 1:
        raise ValueError("an animal drinks once in a script, because its way leads to the trough once")
