"""What is done to the rows, and told, when a subject is lost: absences, returns, questions, frames taken back or filled in."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.schema import SEEN, State
from foveate.settings import View
from foveate.track.events import Event, Kind
from foveate.track.ladder import ASK_AFTER, HIDDEN, Ladder, at_border

STEP = 0.5
VIEW = View(x=0, y=0, w=120, h=96)
MIDDLE, BORDER = (50.0, 40.0, 20.0, 16.0), (97.0, 40.0, 20.0, 16.0)


def row(frame: int, *, state: State = State.TRACKED, border: bool = False) -> dict[str, Any]:
    seen = state in SEEN
    place = (BORDER if border else MIDDLE) if seen else (None,) * 4
    about = {"frame": frame, "time": frame * STEP, "state": state.value, "rle": b"x" if seen else None, "score": 0.9}
    return about | dict(zip("xywh", place, strict=True))


def play(ladder: Ladder, script: str, start: int = 0, *, likeness: float = 0.1, border: bool = False) -> list[dict[str, Any]]:
    """One letter a frame: ``s`` sure, ``d`` doubtful and looking wrong, ``u`` doubtful and looking right, ``.`` not seen, with ``likeness``
    of what is most like it, ``p`` prompted, ``a`` said to be absent, ``|`` a cut before the next frame, ``/`` a part ends there."""
    rows: list[dict[str, Any]] = []
    for letter in script:
        if letter == "|":
            ladder.cut()
            continue
        if letter == "/":
            ladder.events = ladder.close()  # so that they are found at the end
            continue
        states = {".": State.LOST, "a": State.LOST, "s": State.TRACKED, "p": State.PROMPTED}
        rows.append(row(start + len(rows), state=states.get(letter, State.UNCERTAIN), border=border))
        about = {"s": 1.0, "p": 1.0, "u": 0.9, "d": 0.65, ".": likeness}
        if letter == "a":
            ladder.told(rows[-1])
        else:
            ladder.see(rows[-1], about[letter], prompted=letter == "p", searched=True)
    return rows


def states(rows: list[dict[str, Any]]) -> str:
    return "".join({"lost": "L", "absent": "A"}.get(r["state"], "s") for r in rows)


def kinds(events: list[Event]) -> list[tuple[Kind, int, int]]:
    return [(event.kind, event.frame, event.until_frame) for event in events]


def test_an_absence_is_marked_from_its_first_frame_and_the_return_is_told() -> None:
    ladder = Ladder("all", "a", VIEW)
    rows = play(ladder, "sss......ss", border=True)
    assert [r["state"] for r in rows] == ["tracked"] * 3 + ["absent"] * 6 + ["tracked"] * 2
    assert kinds(ladder.close()) == [(Kind.ABSENT, 3, 8), (Kind.RETURN, 9, 9)]


def test_a_short_loss_in_the_middle_is_no_absence() -> None:
    ladder = Ladder("all", "a", VIEW)
    rows = play(ladder, "ss..ss")
    assert [r["state"] for r in rows[2:4]] == ["lost", "lost"]
    assert kinds(ladder.close()) == [(Kind.DRIFT, 2, 3), (Kind.PROPOSAL, 4, 4)]


def test_events_tell_how_it_was_found() -> None:
    for searched, kind in ((True, Kind.PROPOSAL), (False, Kind.REPROMPT)):
        ladder = Ladder("all", "a", VIEW)
        play(ladder, "ss..")
        ladder.see(row(4), 0.9, searched=searched)
        found = ladder.close()[-1]
        assert (found.kind, found.note, found.score) == (kind, "after 0.5 s", 0.9)


def test_frames_on_something_else_are_taken_back() -> None:
    ladder = Ladder("all", "a", VIEW)
    rows = play(ladder, "ssdd...s", border=True)
    assert all(r["rle"] is None and r["state"] == "absent" for r in rows[2:7])
    assert ladder.close()[0].frame == 2


def test_where_something_like_it_stays_somebody_is_asked_once() -> None:
    ladder = Ladder("all", "a", VIEW)
    long = int(ASK_AFTER / STEP) + 4
    rows = play(ladder, "s" + "." * long, likeness=0.7)
    first = ladder.close()
    assert [e.kind for e in first] == [Kind.ASK] and {r["state"] for r in rows[1:]} == {"lost"}
    play(ladder, "." * long, start=1 + long, likeness=0.7)
    assert [e.kind for e in ladder.end()] == [Kind.DRIFT]


def test_filled_frames_replace_the_loss() -> None:
    ladder = Ladder("all", "a", VIEW)
    rows = play(ladder, "ss....")
    assert ladder.searching
    ladder.fill([row(5), row(4)])
    play(ladder, "s", start=6)
    assert [r["state"] for r in rows] == ["tracked"] * 2 + ["lost"] * 2 + ["tracked"] * 2
    assert kinds(ladder.close()) == [(Kind.BACKWARD, 4, 5), (Kind.DRIFT, 2, 3), (Kind.PROPOSAL, 6, 6)]


def test_what_somebody_said_is_not_filled_in() -> None:
    ladder = Ladder("all", "a", VIEW)
    play(ladder, "ss")
    said = row(2, state=State.LOST)
    ladder.told(said)
    play(ladder, "..", start=3)
    assert not ladder.searching
    ladder.close()
    assert said["state"] == "absent"


def test_stored_and_restored_tells_the_same() -> None:
    straight, first = Ladder("all", "a", VIEW), Ladder("all", "a", VIEW)
    for ladder in (straight, first):
        play(ladder, "sss...", border=True)
        ladder.close()
    second = Ladder("all", "a", VIEW)
    second.restore(first.state())
    assert [kinds(x.end()) for x in (straight, second) if play(x, "...s", start=6)] == [
        [(Kind.ABSENT, 3, 8), (Kind.RETURN, 9, 9)]
    ] * 2


def test_an_absence_in_the_middle_of_the_picture_is_asked_about() -> None:
    ladder = Ladder("all", "a", VIEW)
    rows = play(ladder, "s" + "." * int(ASK_AFTER / STEP + 2))
    (asked, absent) = ladder.end()
    assert asked.kind == Kind.ASK and "taken for absent" in asked.note and "middle" in asked.note
    assert absent.kind == Kind.ABSENT and states(rows)[1:] == "A" * (len(rows) - 1)
    ladder = Ladder("all", "a", VIEW)
    play(ladder, "s" + "." * int(ASK_AFTER / STEP + 2), border=True)
    assert [event.kind for event in ladder.end()] == [Kind.ABSENT]


def test_where_it_was_last_seen_counts_though_it_was_doubtful() -> None:
    """A frame that is not taken back says where it was; one that is taken back does not."""
    for script, expected in (("suu..s", "sssAAs"), ("sudd..s", "ssLLLLs")):
        ladder = Ladder("all", "a", VIEW)
        rows = play(ladder, script[0])
        rows += play(ladder, script[1:], 1, border=script[2] == "u")
        assert states(rows) == expected


def test_what_is_found_after_a_cut_is_told() -> None:
    ladder = Ladder("all", "a", VIEW)
    play(ladder, "ss|ss")
    (found,) = ladder.close()
    assert (found.kind, found.frame, found.note) == (Kind.PROPOSAL, 2, "after a cut")
    play(ladder, "|p|.s", 4)
    assert kinds(ladder.close()) == [(Kind.ABSENT, 5, 5), (Kind.RETURN, 6, 6)]  # nothing like it was in the new shot


def test_a_subject_that_is_not_in_the_new_shot_is_asked_for_in_these_words() -> None:
    ladder = Ladder("all", "a", VIEW)
    play(ladder, "ss|" + "." * int(ASK_AFTER / STEP + 2))
    assert "not found after a cut" in next(event.note for event in ladder.end() if event.kind == Kind.ASK)


def test_a_loss_across_the_border_of_parts_is_told_as_the_rows_tell_it() -> None:
    """One second of it is settled when the first part ends, the rest is long enough for an absence."""
    ladder = Ladder("all", "a", VIEW)
    rows = play(ladder, "ss../" + "." * int(HIDDEN / STEP) + "s")
    assert states(rows) == "ssLL" + "A" * int(HIDDEN / STEP) + "s"
    assert kinds(ladder.close()) == [(Kind.DRIFT, 2, 3), (Kind.ABSENT, 4, 8), (Kind.RETURN, 9, 9)]


@given(st.text("sdu.pa|/", max_size=40), st.floats(0, 1), st.booleans())
@settings(max_examples=200, deadline=None)
def test_events_always_say_what_rows_say(script: str, likeness: float, border: bool) -> None:
    """Every row without a box lies in one event of its kind, and no other row does; stored and restored at any part, it is the same."""
    ladder, other = Ladder("all", "a", VIEW), Ladder("all", "a", VIEW)
    rows = play(ladder, "s" + script, likeness=likeness, border=border)
    happened = ladder.end()
    spans = [e for e in happened if e.kind in (Kind.ABSENT, Kind.DRIFT)]
    for one in rows:
        about = [event for event in spans if event.frame <= one["frame"] <= event.until_frame]
        expected = {"A": [Kind.ABSENT], "L": [Kind.DRIFT]}.get(states([one]), [])
        assert [event.kind for event in about] == expected
    begun, told = 0, []
    for piece in ("s" + script).split("/"):
        begun += len(play(other, piece, begun, likeness=likeness, border=border))
        told += other.close()
        kept, other = other.state(), Ladder("all", "a", VIEW)
        other.restore(kept)
    assert sorted([*told, *other.end()]) == sorted(happened)


def test_the_border_is_a_twelfth_of_the_shorter_side() -> None:
    for x, y, w, h, expected in (
        (8, 8, 104, 80, False),
        (7.9, 8, 20, 20, True),
        (60, 8, 52.1, 20, True),
        (60, 60, 20, 28.1, True),
    ):
        assert at_border({"x": x, "y": y, "w": w, "h": h}, VIEW) == expected
