"""Events of a track: written part by part, gathered once, read back as they were."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foveate.schema import FoveateError
from foveate.store import Artefact
from foveate.track import events
from foveate.track.events import Event, Kind


def target(folder: Path) -> Artefact:
    made = Artefact(folder / "tracks" / "a video, é", "track", 1, {}, {})
    made.begin()
    return made


def event(frame: int, kind: Kind = Kind.DRIFT, **more: object) -> Event:
    return Event(frame, "full", "ewe", kind, frame / 25, frame, frame / 25, **more)  # type: ignore[arg-type]


def test_a_part_done_again_replaces_its_own_events_and_all_are_gathered(tmp_path: Path) -> None:
    made = target(tmp_path)
    events.write(made, "00001", [event(30)])
    events.write(made, "00000", [event(20), event(10, Kind.ASK, score=0.25, note='it says "here", there')])
    events.write(made, "00001", [event(40)])
    events.gather(made)
    assert [e.frame for e in events.read(made)] == [10, 20, 40]
    assert events.read(made)[0] == event(10, Kind.ASK, score=0.25, note='it says "here", there')
    assert not list(made.folder.glob("events-*"))
    events.gather(made)  # once more, as after a kill just before the seal
    assert len(events.read(made)) == 3


def test_a_kill_while_gathering_loses_nothing(tmp_path: Path) -> None:
    made = target(tmp_path)
    events.write(made, "00000", [event(1)])
    events.write(made, "00001", [event(2)])
    before = {path.name: path.read_bytes() for path in made.folder.glob("events-*")}
    events.gather(made)
    name, content = before.popitem()  # killed after events.csv was there and one of the parts was gone
    made.path(name).write_bytes(content)
    events.gather(made)
    assert [e.frame for e in events.read(made)] == [1, 2]


def test_a_damaged_file_is_an_error_for_people(tmp_path: Path) -> None:
    made = target(tmp_path)
    events.write(made, "00000", [event(1)])
    events.gather(made)
    made.path(events.FILE).write_text("frame,view\nx,y\n")
    with pytest.raises(FoveateError, match="events"):
        events.read(made)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.text(alphabet=st.characters(blacklist_categories=["Cs", "Cc"])), st.floats(0, 1e5), st.integers(0, 10**9))
def test_any_note_comes_back(tmp_path: Path, note: str, time: float, frame: int) -> None:
    made = target(tmp_path)
    made.path(events.FILE).unlink(missing_ok=True)
    one = Event(frame, "top", "a;b", Kind.SWAP, time, frame + 1, time + 1, None, note)
    events.write(made, "x", [one])
    events.gather(made)
    (back,) = events.read(made)
    assert (back.note, back.subject, back.frame) == (note, "a;b", frame)
    assert back.time == pytest.approx(time, abs=1e-6)
