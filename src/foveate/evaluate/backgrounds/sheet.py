"""The eight sets as a figure: a row per example, a column per set, and whether the probe named it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from foveate.evaluate.backgrounds.challenge import Answers, Task
from foveate.evaluate.backgrounds.composites import SETS, TITLES, compose, partners

if TYPE_CHECKING:
    from PIL import Image

EXAMPLES = 6
_WIDE, _TALL = 150, 112  # pixels that a picture has at most
_GAP, _TEXT, _LINE = 4, 14, 18
_INK, _PAPER, _WRONG = (29, 32, 36), (255, 255, 255), (213, 94, 0)


def sheet(task: Task, answers: Answers, seed: int, feature: str = "whole") -> Image.Image:
    """A figure of held-out scenes of different classes and groups; of clips the frame in the middle.

    Above each picture stands whether the probe named its class (a tick) or another one (a cross), and over the columns the share of all.
    """
    from PIL import Image, ImageDraw

    from foveate.attention.sheets import font
    from foveate.evaluate.backgrounds.challenge import table

    picked = _picked(task, answers)
    height, width = task.scenes[int(answers.at[picked[0]])].frames.shape[1:3]
    scale = min(_WIDE / width, _TALL / height)
    width, height = round(width * scale), round(height * scale)
    letters, means = (
        font(),
        {row["set"]: row["accuracy"] for row in table(answers, len(task.classes)) if row["feature"] == feature},
    )
    column = max(width, 96) + _GAP
    size = (len(SETS) * column - _GAP, 2 * _LINE + len(picked) * (height + _LINE + _GAP) + 4)
    canvas = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(canvas)
    for k, which in enumerate(SETS):
        draw.text((k * column + 1, 0), TITLES[which], _INK, letters)
        draw.text((k * column + 1, _LINE), f"{100 * means[which]:.0f} % right", _INK, letters)
    pictures = {}
    for _, test in task.folds():
        test = test[np.isin(task.label[test], answers.label)]
        drawn = partners(task.label[test], task.group[test], 0, seed)
        held = [task.scenes[n] for n in test.tolist()]
        for k in range(len(test)):
            for row, place in enumerate(picked):
                if answers.at[place] == test[k]:
                    pictures[row] = [compose(held, k, which, drawn) for which in SETS]
    for row, place in enumerate(picked):
        top = 2 * _LINE + 4 + row * (height + _LINE + _GAP)
        name = task.classes[int(answers.label[place])]
        for k, picture in enumerate(pictures[row]):
            right = bool(answers.right[feature][place, k])
            draw.text((k * column + 1, top), "\u2713" if right else "\u2717", _INK if right else _WRONG, letters)
            shown = Image.fromarray(picture[len(picture) // 2]).resize((width, height), Image.Resampling.BICUBIC)
            canvas.paste(shown, (k * column, top + _LINE))
        draw.text((18, top), name, _INK, letters)
        draw.rectangle((column - _GAP, top, column + 0, top + _LINE - 1), fill=_PAPER)
    return canvas


def _picked(task: Task, answers: Answers) -> list[int]:
    """Positions of examples: classes in turn, and of each a group that was not shown yet."""
    found: list[int] = []
    shown: set[str] = set()
    for turn in range(EXAMPLES):
        label = np.unique(answers.label)[turn % len(np.unique(answers.label))]
        own = [n for n in np.flatnonzero(answers.label == label).tolist() if n not in found]
        fresh = [n for n in own if str(answers.group[n]) not in shown] or own
        if fresh:
            found.append(fresh[len(fresh) // 2])
            shown.add(str(answers.group[found[-1]]))
    return sorted(found, key=lambda n: int(answers.label[n]))
