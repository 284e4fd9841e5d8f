"""Pasture: rendered footage of animals with exact masks and labels, to try, test and teach with.

An articulated animal follows a script of behaviours in a procedural place, seen by two cameras. ``simulate`` writes a whole project;
``render_clip`` gives arrays.
"""

from __future__ import annotations

from foveate.simulate.behaviour import BEHAVIOURS, Script
from foveate.simulate.clip import Clip, Difficulty, render_clip
from foveate.simulate.pasture import PastureSettings, simulate

__all__ = ["BEHAVIOURS", "Clip", "Difficulty", "PastureSettings", "Script", "render_clip", "simulate"]
