"""Pasture: rendered footage of animals with exact masks and labels, to try, test and teach with.

Articulated animals follow scripts of behaviours in a procedural place, seen by two cameras. ``simulate`` writes a whole project;
``render_clip`` gives arrays. The defaults are the demo's: one animal and seven behaviours; ``PastureSettings`` leads to the complete scene.
"""

from __future__ import annotations

from foveate.simulate.clip import Clip, Difficulty, render_clip
from foveate.simulate.ethogram import ALL, BEHAVIOURS, ETHOGRAM, Script
from foveate.simulate.pasture import simulate
from foveate.simulate.plan import PastureSettings

__all__ = ["ALL", "BEHAVIOURS", "ETHOGRAM", "Clip", "Difficulty", "PastureSettings", "Script", "render_clip", "simulate"]
