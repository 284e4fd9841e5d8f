"""The eight sets as a figure: a row per example, a column per set, and whether the probe named it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from foveate.evaluate.backgrounds.challenge import Answers, Task, table
from foveate.evaluate.backgrounds.composites import SETS, TITLES, Partners, compose

if TYPE_CHECKING:
    from PIL import Image

EXAMPLES = 6
_WIDE, _TALL = 150, 112  # pixels that a picture has at most
_GAP, _LINE, _MARGIN = 4, 18, 108
_INK, _PAPER, _WRONG = (29, 32, 36), (255, 255, 255), (213, 94, 0)


def sheet(task: Task, answers: Answers, feature: str = "whole") -> Image.Image:
    """A figure of held-out scenes of different classes and groups; of clips the frame in the middle.

    Above each picture stands whether the probe named its class (a tick) or another one (a cross), and over the columns the share of all.
    """
    from PIL import Image, ImageDraw

    from foveate.attention.sheets import font

    picked, letters = _picked(task, answers), font()
    height, width = task.scenes[int(answers.at[picked[0]])].frames.shape[1:3]
    scale = min(_WIDE / width, _TALL / height)
    width, height = round(width * scale), round(height * scale)
    column, line = max(width, 96) + _GAP, height + _LINE + _GAP
    canvas = Image.new("RGB", (_MARGIN + len(SETS) * column - _GAP, 2 * _LINE + 4 + len(picked) * line), _PAPER)
    draw = ImageDraw.Draw(canvas)
    means = {row["set"]: row["accuracy"] for row in table(answers, len(task.classes)) if row["feature"] == feature}
    for k, which in enumerate(SETS):
        draw.text((_MARGIN + k * column + 1, 0), TITLES[which], _INK, letters)
        draw.text((_MARGIN + k * column + 1, _LINE), f"{100 * means[which]:.0f} % right", _INK, letters)
    behind = np.full((len(task.scenes), answers.behind.shape[1]), -1, np.int64)
    behind[answers.at] = answers.behind
    drawn = Partners(behind, np.empty((len(task.scenes), 0), np.int64))
    for row, place in enumerate(picked):
        top, name = 2 * _LINE + 4 + row * line, task.classes[int(answers.label[place])]
        draw.multiline_text((0, top + _LINE), name.replace("_", " ").replace(", ", ",\n"), _INK, letters)
        for k, which in enumerate(SETS):
            left, right = _MARGIN + k * column, bool(answers.right[feature][place, k])
            draw.text((left + 1, top), "\u2713" if right else "\u2717", _INK if right else _WRONG, letters)
            picture = compose(task.scenes, int(answers.at[place]), which, drawn)
            shown = Image.fromarray(picture[len(picture) // 2]).resize((width, height), Image.Resampling.BICUBIC)
            canvas.paste(shown, (left, top + _LINE))
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
