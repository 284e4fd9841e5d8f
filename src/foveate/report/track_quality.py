"""What the section on tracks says of the whole study: shares, times not seen, doubtful frames, open questions; a bounded number each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING

from foveate.project import Project
from foveate.report import absences, doubts, tracks
from foveate.report.sources import Notes, Sources
from foveate.schema import State

if TYPE_CHECKING:
    import pandas as pd

UNSEEN, ASKED, ANIMALS = 40, 60, 60
"""Rows of the tables on tracks; the CSV files have all of them."""


@dataclass(frozen=True)
class Judged:
    """What the section on tracks says of the whole study."""

    animals: list[tracks.Animal]
    animals_more: int
    unseen: list[absences.Unseen]
    unseen_more: int
    doubtful: list[doubts.Pictured]
    asked: list[doubts.Asked]
    asked_more: int


def judge(project: Project, followed: list[tracks.Sheet], sources: Sources, notes: Notes) -> Judged:
    """Shares, times not seen, doubtful frames and open questions; pictures of a bounded number of them."""
    chosen = doubts.choose([doubt for f in sheet.followed for doubt in f.doubts] for sheet in followed)
    drawn = notes.attempt("doubtful frames", partial(doubts.picture_doubts, project, chosen, sources))
    asked = [doubts.Asked(question) for sheet in followed for question in sheet.questions]
    notes.attempt("doubtful frames", partial(doubts.picture_questions, project, asked[: doubts.QUESTIONS]))
    animals, gone = tracks.animals(followed), tracks.unseen(followed)
    shown = tracks.longest(gone, UNSEEN)
    return Judged(
        animals=sorted(animals, key=lambda one: (one.share("sure"), one.subject))[:ANIMALS],
        animals_more=max(0, len(animals) - ANIMALS),
        unseen=shown,
        unseen_more=len(gone) - len(shown),
        doubtful=drawn if isinstance(drawn, list) else [],
        asked=asked[:ASKED],
        asked_more=max(0, len(asked) - ASKED),
    )


def track_tables(followed: Sequence[tracks.Sheet]) -> dict[str, pd.DataFrame]:
    """Everything that the section shows, and what it leaves out for want of room, by the name of the CSV file.

    ``tracks.csv``: frames and shares of every video, view and subject; ``unseen.csv``: the times in which a subject was not seen;
    ``track_events.csv``: what happened; ``least_certain.csv``: doubtful frames, worst first; ``questions.csv``: where a click is needed.
    """
    import pandas as pd

    if not followed:
        return {}
    shares = [
        {
            "video": sheet.video,
            "group": sheet.group,
            "view": f.view,
            "subject": f.subject,
            "followed_by": sheet.how,
            "analysed_frames": f.frames,
            "seen_frames": f.seen,
            "share_seen": f.share_seen,
            **{f"share_{state.value}": f.share(state) for state in State},
            "times_lost": sum(one.state == State.LOST for one in f.unseen),
        }
        for sheet in followed
        for f in sheet.followed
    ]
    doubtful = sorted(
        (doubt for sheet in followed for f in sheet.followed for doubt in f.doubts), key=lambda doubt: doubt.order
    )
    keys = ("video", "view", "subject", "frame", "time", "state", "certainty")
    tables = {
        "tracks.csv": pd.DataFrame(shares),
        "unseen.csv": pd.DataFrame([asdict(one) | {"seconds": one.seconds} for one in tracks.unseen(followed)]),
        "track_events.csv": pd.DataFrame([{"video": sheet.video} | asdict(e) for sheet in followed for e in sheet.events]),
        "least_certain.csv": pd.DataFrame(
            [{key: getattr(one, key) for key in keys} | {"area_ratio": one.ratio} for one in doubtful]
        ),
        "questions.csv": pd.DataFrame([one.plain() for sheet in followed for one in sheet.questions]),
    }
    return {name: table for name, table in tables.items() if len(table)}
