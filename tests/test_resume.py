"""Going on from a click: what lies before it is not tracked again, and nobody can tell from the result."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from foveate import track
from foveate.project import Project
from foveate.schema import FoveateError
from foveate.store import Artefact
from foveate.track import events, resume
from foveate.track import scene as scenes
from foveate.track.events import Event, Kind
from foveate.track.identity import settle as identity
from foveate.track.prompts import add_prompts
from foveate.track.propagate import passes
from tests import tracked
from tests.pipeline import contents

FRAMES, SEGMENT = 30, 4  # eight parts
FIRST = "v,,,0,box,71,43,26,26,"
pytestmark = pytest.mark.filterwarnings("ignore:the model 'handcrafted':UserWarning")


@pytest.fixture(autouse=True)
def short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenes, "SEGMENT", SEGMENT)
    monkeypatch.setattr(identity, "SEGMENT", SEGMENT)


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished track from one box in the first frame."""
    folder = tmp_path_factory.mktemp("resume") / "study"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scenes, "SEGMENT", SEGMENT)
        tracked.tracked(tracked.make_project(folder, FRAMES, prompts=[FIRST], short_side=56, cuts="none"))
    return folder


@pytest.fixture
def study(once: Path, tmp_path: Path) -> Project:
    return Project.load(shutil.copytree(once, tmp_path / "study"))


def click(project: Project, frame: int, said: str = "") -> str:
    x, y = tracked.place(frame)
    return f"v:{frame}:{said or f'{x:.0f},{y:.0f}'}"


def from_scratch(project: Project, tmp_path: Path) -> dict[str, str]:
    """What the same project gives when nothing was there."""
    other = Project.load(shutil.copytree(project.folder, tmp_path / "scratch"))
    shutil.rmtree(other.folder / "tracks")
    return contents(tracked.tracked(other).folder)


def parts_done(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Parts that are tracked from now on."""
    done: list[int] = []
    part = passes.Sweep.part

    def counted(self: passes.Sweep, number: int, **more: Any) -> Any:
        done.append(number)
        return part(self, number, **more)

    monkeypatch.setattr(passes.Sweep, "part", counted)
    return done


def kept(target: Artefact) -> list[str]:
    return sorted(path.name for path in target.folder.glob("kept-*"))


@pytest.mark.parametrize(("frame", "said", "begins"), [(16, "", 4), (15, "", 2), (22, "absent", 4), (2, "", 0)])
def test_only_what_follows_is_tracked_again(
    study: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frame: int, said: str, begins: int
) -> None:
    target = track.artefact(study, study.videos[0])
    assert kept(target) == [f"kept-0000{part}.safetensors" for part in (2, 4, 6)]
    before = contents(target.folder)
    add_prompts(study, [click(study, frame, said)])
    done = parts_done(monkeypatch)
    found = contents(track.run(study, study.videos[0]).folder)
    assert done == list(range(begins, 8))
    assert found == from_scratch(study, tmp_path) != before
    assert kept(track.artefact(study, study.videos[0])) == [f"kept-0000{part}.safetensors" for part in (2, 4, 6)]


def test_clicks_are_moved_and_taken_back(study: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time from the first prompt that is another."""
    first = contents(study.folder / "tracks")
    add_prompts(study, [click(study, 10), click(study, 25)])
    track.run(study, study.videos[0])
    done = parts_done(monkeypatch)
    add_prompts(study, ["v:25:100,60"])
    assert contents(track.run(study, study.videos[0]).folder) == from_scratch(study, tmp_path)
    assert done[:2] == [6, 7]
    shutil.rmtree(tmp_path / "scratch")
    done.clear()
    table = study.folder / "prompts" / "prompts.csv"
    table.write_text("\n".join(table.read_text().splitlines()[:2]) + "\n")
    track.run(study, study.videos[0])
    assert done == [2, 3, 4, 5, 6, 7] and contents(study.folder / "tracks") == first


def test_an_unfinished_track_is_gone_on_with(once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped in part 5; then a click in part 6 leaves all that is done, and one in part 3 goes back to a border before it."""
    study = Project.load(shutil.copytree(once, tmp_path / "study"))
    shutil.rmtree(study.folder / "tracks")

    def stop(done: int, total: int) -> None:
        if done > 5 * SEGMENT:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        track.run(study, study.videos[0], stop)
    add_prompts(study, [click(study, 25)])
    done = parts_done(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        track.run(study, study.videos[0], stop)
    assert done == [5]
    add_prompts(study, [click(study, 15)])
    assert contents(track.run(study, study.videos[0]).folder) == from_scratch(study, tmp_path)
    assert done[1:7] == [2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("change", ["first", "settings", "damage", "gone", "backward"])
def test_what_changes_more_is_tracked_from_the_beginning(
    study: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    add_prompts(study, [click(study, 25)])
    tracks = study.folder / "tracks" / "v"
    if change == "first":
        table = study.folder / "prompts" / "prompts.csv"
        table.write_text(table.read_text().replace("71,43", "70,42"))
    elif change == "settings":
        study = tracked.make_project(
            study.folder, prompts=[FIRST, "v,,,25,point,90,50,,,"], context=3, short_side=56, cuts="none"
        )
    elif change == "damage":
        part = tracks / "part-00001.parquet"
        part.write_bytes(part.read_bytes()[:-1] + b"x")
    elif change == "gone":
        for path in tracks.glob("kept-*"):
            path.unlink()
    else:  # nothing that a backward pass has seen is kept as it is
        study = tracked.make_project(study.folder, prompts=["v,,,28,box,60,40,26,26,"], short_side=56, cuts="none")
        track.run(study, study.videos[0])
        add_prompts(study, ["v:29:80,50"])
    done = parts_done(monkeypatch)
    found = contents(track.run(study, study.videos[0]).folder)
    assert done[-8:] == list(range(8))
    if change in ("damage", "backward"):
        assert found == from_scratch(study, tmp_path)


def asking(monkeypatch: pytest.MonkeyPatch, *frames: int) -> None:
    """The tracker asks in these frames, once their part is done, until somebody clicks there."""
    happened = scenes.Scene.happened

    def with_questions(self: scenes.Scene, name: str, found: Iterable[Event]) -> None:
        answered = {prompt["frame"] for prompt in self.target.settings["prompts"]}
        part = int(name.rsplit("-", 1)[-1])
        asked = [
            Event(frame, "full", "v", Kind.ASK, frame / 10, frame, frame / 10)
            for frame in frames
            if self.part_of(frame) == part and frame not in answered
        ]
        happened(self, name, [*found, *asked])

    monkeypatch.setattr(scenes.Scene, "happened", with_questions)
    monkeypatch.setattr("foveate.track.seeds.doubt", lambda *_: "")  # these are all


def test_questions_keep_the_beginning_of_their_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asking(monkeypatch, 13, 21, 22)
    project = tracked.make_project(tmp_path / "study", FRAMES, prompts=[FIRST], short_side=56, cuts="none")
    target = tracked.tracked(project)
    assert [event.frame for event in events.read(target)] == [13, 21, 22]
    assert kept(target) == [f"kept-0000{part}.safetensors" for part in (2, 3, 4, 5, 6)]
    add_prompts(project, [click(project, 21)])
    done = parts_done(monkeypatch)
    target = track.run(project, project.videos[0])
    assert done == [5, 6, 7] and [event.frame for event in events.read(target)] == [13, 22]
    assert contents(target.folder) == from_scratch(project, tmp_path)
    add_prompts(project, [click(project, 22), click(project, 13)])
    done.clear()
    target = track.run(project, project.videos[0])
    assert done == [3, 4, 5, 6, 7] and events.read(target) == []
    assert kept(target) == [f"kept-0000{part}.safetensors" for part in (2, 4, 6)]


def test_only_a_few_states_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asking(monkeypatch, *range(FRAMES))
    monkeypatch.setattr(scenes, "SEGMENT", 2)
    target = tracked.tracked(tracked.make_project(tmp_path / "study", FRAMES, prompts=[FIRST], short_side=56, cuts="none"))
    assert len(kept(target)) <= resume.ASKED + resume.SPREAD
    assert kept(target)[:3] == [f"kept-0000{part}.safetensors" for part in (1, 2, 3)]


class Killed(BaseException):
    pass


def test_killed_while_adopting(once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every rename and removal that it makes; the next run goes on, and gives the same bytes."""
    adopt, kills = resume.adopt, 0
    scratch: dict[str, str] = {}
    for at in itertools.count(1):
        study = Project.load(shutil.copytree(once, tmp_path / str(at)))
        add_prompts(study, [click(study, 22)])
        scratch = scratch or from_scratch(study, tmp_path)
        count = 0

        def dying(do: Callable[..., Any], at: int = at) -> Callable[..., Any]:
            def act(*args: Any, **more: Any) -> Any:
                nonlocal count
                count += 1
                if count == at:
                    raise Killed
                return do(*args, **more)

            return act

        def adopt_and_stop(scene: scenes.Scene) -> int | None:
            adopt(scene)
            raise StopIteration

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", dying(os.replace))
            patch.setattr(Path, "unlink", dying(Path.unlink))
            patch.setattr(resume, "adopt", adopt_and_stop)
            with pytest.raises((Killed, StopIteration)) as stopped:
                track.run(study, study.videos[0])
        kills += stopped.type is Killed
        if at % 4 == 2 or stopped.type is StopIteration:
            assert contents(track.run(study, study.videos[0]).folder) == scratch
        else:
            assert adopt(scenes.Scene(study, study.videos[0], track.artefact(study, study.videos[0]))) in (4, None)
        if stopped.type is StopIteration:
            break
    assert kills > 4


def test_a_wrong_prompt_leaves_the_track_alone(study: Project) -> None:
    """A point outside the picture, written into the table by hand, and a mask that is empty."""
    from PIL import Image

    tracks = study.folder / "tracks"
    before = contents(tracks)
    table = study.folder / "prompts" / "prompts.csv"
    good = table.read_text()
    Image.new("L", (tracked.WIDTH, tracked.HEIGHT)).save(study.folder / "prompts" / "m.png")
    for row, problem in (("v,,,9,point,500,5,,,", "outside the view"), ("v,,,9,mask,,,,,m.png", "is empty")):
        table.write_text(f"{good}{row}\n")
        with pytest.raises(FoveateError, match=problem) as caught:
            track.run(study, study.videos[0])
        assert caught.value.row == 3 and contents(tracks) == before
    table.write_text(good)
    assert track.artefact(study, study.videos[0]).complete()


def test_a_prompt_that_is_missing_leaves_the_track_alone(tmp_path: Path) -> None:
    """One of several subjects without a prompt; a tracker that knows only one."""
    prompts = ["v,,a,0,box,71,43,26,26,", "v,,b,0,box,8,80,40,24,"]
    project = tracked.make_project(tmp_path, 8, prompts=prompts, subjects="a;b", short_side=56)
    tracked.tracked(project)
    before = contents(tmp_path / "tracks")
    for rows, settings, problem in (
        (prompts[:1], {}, "no prompt says which one is 'b'"),
        ([], {"method": "motion"}, "cannot tell them apart"),
    ):
        other = tracked.make_project(tmp_path, 8, prompts=rows, subjects="a;b", short_side=56, **settings)
        with pytest.raises(FoveateError, match=problem):
            track.run(other, other.videos[0])
        assert contents(tmp_path / "tracks") == before


def test_where_nothing_stands_out_the_track_stays(study: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_: object) -> Any:
        raise FoveateError("nothing stands out and nothing moves")

    monkeypatch.setattr(passes, "find_start", nothing)
    before = contents(study.folder / "tracks")
    (study.folder / "prompts" / "prompts.csv").unlink()
    with pytest.raises(FoveateError, match="nothing stands out"):
        track.run(study, study.videos[0])
    assert contents(study.folder / "tracks") == before


def test_several_subjects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are settled over the whole video, from the rows before that: they are kept as far as a state is."""
    prompts = ["v,,a,0,box,71,43,26,26,", "v,,b,0,box,8,80,40,24,"]
    project = tracked.make_project(tmp_path / "study", FRAMES, prompts=prompts, subjects="a;b", short_side=56, cuts="none")
    target = tracked.tracked(project)
    assert kept(target)[3:] == [f"kept-raw-0000{part}" for part in range(6)]
    assert target.files(".parquet") == [f"part-0000{part}.parquet" for part in range(8)]
    x, y = tracked.place(22)
    add_prompts(project, [f"v:a:22:{x:.0f},{y:.0f}"])
    done = parts_done(monkeypatch)
    assert contents(track.run(project, project.videos[0]).folder) == from_scratch(project, tmp_path)
    assert done[:4] == [4, 5, 6, 7]


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"x")])
def test_a_state_that_is_gone_or_damaged_is_passed_over(study: Project, damage: Callable[[Path], Any]) -> None:
    damage(study.folder / "tracks" / "v" / "kept-00004.safetensors")
    add_prompts(study, [click(study, 22)])
    scene = scenes.Scene(study, study.videos[0], track.artefact(study, study.videos[0]))
    assert resume.adopt(scene) == 2
