"""What is done to the rows, and told, when a subject is lost: absences, returns, questions, frames taken back or filled in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from foveate.schema import State
from foveate.track.events import Event, Kind
from foveate.track.propagate.ladder import ASK_AFTER, Ladder
from foveate.track.propagate.propagator import Found

STEP = 0.5


def row(frame: int, *, seen: bool = True) -> dict[str, Any]:
    state = State.TRACKED if seen else State.LOST
    return {"frame": frame, "time": frame * STEP, "state": state.value, "rle": b"x" if seen else None, "score": 0.9}


def found(*, seen: bool = True, likeness: float = 1.0, sure: bool = True) -> Found:
    labels = torch.ones(3, 3) if seen else torch.zeros(3, 3)
    return Found(labels, 1.0, 0.9, 0.9, likeness=likeness, sure=sure and seen, source="appearance")


def play(ladder: Ladder, script: str, start: int = 0, *, likeness: float = 0.1, border: bool = False) -> list[dict[str, Any]]:
    """One letter a frame: ``s`` sure, ``d`` doubtful and looking wrong, ``.`` not seen, with ``likeness`` of what is most like it."""
    rows = []
    for frame, letter in enumerate(script, start):
        rows.append(row(frame, seen=letter != "."))
        about = {"s": 1.0, "d": 0.65, ".": likeness}[letter]
        ladder.see(rows[-1], found(seen=letter != ".", likeness=about, sure=letter == "s"), border)
    return rows


def kinds(events: list[Event]) -> list[tuple[Kind, int, int]]:
    return [(event.kind, event.frame, event.until_frame) for event in events]


def test_an_absence_is_marked_from_its_first_frame_and_the_return_is_told() -> None:
    ladder = Ladder("all", "a")
    rows = play(ladder, "sss......ss", border=True)
    assert [r["state"] for r in rows] == ["tracked"] * 3 + ["absent"] * 6 + ["tracked"] * 2
    assert kinds(ladder.close()) == [(Kind.ABSENT, 3, 8), (Kind.RETURN, 9, 9)]


def test_a_short_loss_in_the_middle_is_no_absence() -> None:
    ladder = Ladder("all", "a")
    rows = play(ladder, "ss..ss")
    assert [r["state"] for r in rows[2:4]] == ["lost", "lost"]
    assert kinds(ladder.close()) == [(Kind.DRIFT, 2, 3), (Kind.REPROMPT, 4, 4)]


def test_the_note_of_a_return_names_what_is_known() -> None:
    for source, note in (("appearance", "appearance, after 0.5 s"), ("", "after 0.5 s")):
        ladder = Ladder("all", "a")
        play(ladder, "ss..")
        ladder.see(row(4), replace(found(), source=source), False)
        assert ladder.close()[-1].note == note


def test_frames_on_something_else_are_taken_back() -> None:
    ladder = Ladder("all", "a")
    rows = play(ladder, "ssdd...s", border=True)
    assert all(r["rle"] is None and r["state"] == "absent" for r in rows[2:7])
    assert ladder.close()[0].frame == 2


def test_where_something_like_it_stays_somebody_is_asked_once() -> None:
    ladder = Ladder("all", "a")
    long = int(ASK_AFTER / STEP) + 4
    rows = play(ladder, "s" + "." * long, likeness=0.7)
    first = ladder.close()
    assert [e.kind for e in first] == [Kind.ASK] and {r["state"] for r in rows[1:]} == {"lost"}
    play(ladder, "." * long, start=1 + long, likeness=0.7)
    assert [e.kind for e in ladder.end()] == [Kind.DRIFT]


def test_filled_frames_replace_the_loss() -> None:
    ladder = Ladder("all", "a")
    rows = play(ladder, "ss....")
    assert ladder.searching
    ladder.fill([row(5), row(4)])
    play(ladder, "s", start=6)
    assert [r["state"] for r in rows] == ["tracked"] * 2 + ["lost"] * 2 + ["tracked"] * 2
    assert kinds(ladder.close()) == [(Kind.BACKWARD, 4, 5), (Kind.DRIFT, 2, 3), (Kind.REPROMPT, 6, 6)]


def test_what_somebody_said_is_not_filled_in() -> None:
    ladder = Ladder("all", "a")
    play(ladder, "ss")
    said = row(2, seen=False)
    ladder.told(said)
    play(ladder, "..", start=3)
    assert not ladder.searching
    ladder.close()
    assert said["state"] == "absent"


def test_stored_and_restored_tells_the_same() -> None:
    straight, first = Ladder("all", "a"), Ladder("all", "a")
    for ladder in (straight, first):
        play(ladder, "sss...", border=True)
        ladder.close()
    second = Ladder("all", "a")
    second.restore(first.state())
    assert [kinds(x.end()) for x in (straight, second) if play(x, "...s", start=6)] == [
        [(Kind.ABSENT, 3, 8), (Kind.RETURN, 9, 9)]
    ] * 2
