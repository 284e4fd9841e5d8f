"""What each video of a pasture study holds, before anything is drawn: split, group, subjects, conditions, place, scripts.

The place of a video can be tied to what happens in it: with ``background_correlation`` R the study has as many pens as there are ``MAINS``,
every video has one of these as the behaviour that takes most of its time, and a training video is filmed in the pen of its main behaviour
with probability R, otherwise in any pen. In all other videos the pen is drawn without regard to the behaviour.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from foveate.schema import FoveateError
from foveate.simulate.clip import Difficulty
from foveate.simulate.ethogram import KNOWN, Known, Script
from foveate.simulate.schedule import draw_day, draw_script, draw_shares

GROUPS = ("control", "treatment")

MAINS = ("lying", "moving", "eating", "head_up")
"""What can be tied to a place."""


@dataclass(frozen=True)
class PastureSettings:
    """A study of two groups. The same settings give the same bytes; the defaults are the demo's."""

    seed: int = 0
    annotated: int = 12  # videos with annotations; the groups alternate
    unannotated: int = 12  # further videos, of further animals, for comparing the groups
    test: int = 3  # annotated videos in the test split, the others train
    seconds: float = 20.0
    fps: float = 5.0
    width: int = 480  # of one view; the picture holds two, one above the other
    height: int = 270
    step: float = 0.4  # seconds between analysed frames, a multiple of those between frames
    lying: tuple[float, float] = (0.08, 0.32)  # mean share of time lying in control and treatment: the planted difference
    difficulty: Difficulty = field(default_factory=Difficulty)
    behaviours: Known = "demo"  # all: the ten of the published data, with a trough in every pen
    animals: int = 1  # subjects per video, each of its own identity
    distractors: int = 0  # look-alikes per video that are no subjects
    night: float = 0.0  # share of videos in grey infrared
    bars: bool = False  # the cameras look through the bars of the pen
    background_correlation: float | None = None  # None: every video has a place of its own

    @property
    def names(self) -> tuple[str, ...]:
        """The behaviours that are annotated."""
        return KNOWN[self.behaviours]

    @property
    def plain(self) -> bool:
        """Whether a video holds one animal by day on an open pasture that follows the demo's schedule."""
        one = self.behaviours == "demo" and self.animals == 1 and not self.distractors
        return one and not self.night and not self.bars and self.background_correlation is None

    def check(self) -> None:
        """FoveateError with a remedy when a number is out of its range."""
        r = self.background_correlation
        for wrong, problem, remedy in (
            (self.annotated < 1 or self.unannotated < 0, "there are no videos", "ask for 2 videos or more"),
            (not 0 <= self.test <= self.annotated, f"{self.test} test videos of {self.annotated}", "test fewer"),
            (
                self.seconds < 10,
                f"videos of {self.seconds:g} s are too short for a script",
                "make them 10 s (0.17 minutes) or longer",
            ),
            (not 1 <= self.animals <= 6, f"{self.animals} animals in a video", "choose 1 to 6; more do not fit into the pen"),
            (not 0 <= self.distractors <= 6, f"{self.distractors} look-alikes in a video", "choose 0 to 6"),
            (not 0 <= self.night <= 1, f"night is {self.night:g}", "give a share of the videos, 0 to 1"),
            (r is not None and not 0 <= r <= 1, f"the background correlation is {r}", "give a strength from 0 to 1"),
        ):
            if wrong:
                raise FoveateError(problem, remedy=remedy)


DEMO = PastureSettings()


@dataclass(frozen=True)
class Plan:
    """One video to be."""

    index: int
    split: Literal["train", "test", ""]
    group: str
    subjects: tuple[str, ...]
    night: bool
    main: str  # behaviour that takes most of the time; empty: none
    pen: int  # which of the study's shared places; -1: a place of its own


def video_name(index: int) -> str:
    return f"pen_{index + 1:02d}"


def subject_name(index: int) -> str:
    return f"sheep_{index + 1:02d}"


def plan(settings: PastureSettings) -> list[Plan]:
    """All videos of a study. Nights are spread over the splits in proportion, main behaviours over the groups."""
    splits: list[Literal["train", "test", ""]] = ["train"] * (settings.annotated - settings.test)
    splits += ["test"] * settings.test
    splits += [""] * settings.unannotated
    rng = np.random.default_rng((settings.seed, 500))
    nights: set[int] = set()
    for split in ("train", "test", ""):
        own = [i for i, other in enumerate(splits) if other == split]
        nights |= {own[i] for i in rng.permutation(len(own))[: round(settings.night * len(own))]}
    out = []
    r = settings.background_correlation
    for i, split in enumerate(splits):
        main = pen = -1
        if r is not None:
            main = (i // len(GROUPS)) % len(MAINS)
            tied, free = bool(rng.uniform() < r), int(rng.integers(len(MAINS)))
            pen = main if split == "train" and tied else free
        subjects = tuple(subject_name(i * settings.animals + k) for k in range(settings.animals))
        out.append(Plan(i, split, GROUPS[i % len(GROUPS)], subjects, i in nights, MAINS[main] if r is not None else "", pen))
    return out


def scripts(settings: PastureSettings, video: Plan) -> list[Script]:
    """What every animal of a video does: first its subjects, then the look-alikes."""
    lying = settings.lying[GROUPS.index(video.group)]
    out: list[Script] = []
    for k in range(settings.animals + settings.distractors):
        rng = np.random.default_rng((settings.seed, video.index, 100, k) if k else (settings.seed, video.index, 100))
        if settings.behaviours == "demo" and not video.main:
            out.append(draw_script(draw_shares(lying, rng), settings.seconds, rng))
        else:
            share = float(np.clip(rng.normal(lying, 0.03), 0.0, 0.6))
            thirsty = k < 2  # no more find a place at the trough
            names = settings.names if thirsty else tuple(b for b in settings.names if b != "drinking")
            out.append(draw_day(names, share, settings.seconds, rng, video.main or None))
    return out
