"""Names through meetings: two animals in a rendered strip of a video, and a tracker that exchanged them."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from foveate import masks, timeline, track
from foveate.project import Project
from foveate.schema import State
from foveate.store import Artefact, read_parquet
from foveate.track import events
from foveate.track.events import Event, Kind
from foveate.track.identity import crossings, likeness
from foveate.track.identity import settle as identity
from foveate.track.identity.crossings import Fragment, History, Meeting, fragments, meetings, read_history
from foveate.track.scene import STATE, Row, Scene
from tests.tracked import HEIGHT, WIDTH, make_project
from tests.videos import make_video

pytestmark = pytest.mark.filterwarnings("ignore:the model 'handcrafted':UserWarning")

FRAMES, PERIOD = 64, 16
COATS = {"a": (200, 190, 170), "b": (205, 188, 168)}
SUBJECTS = ("a", "b")
Bool = NDArray[np.bool_]


def centre(name: str, frame: int) -> tuple[float, float]:
    """They meet in the middle of every period, pass in the even ones and turn back in the odd ones."""
    period, phase = divmod(frame, PERIOD)
    side = 1 if (period + 1) // 2 % 2 == 0 else -1
    course = 1 - 2 * phase / PERIOD if period % 2 == 0 else abs(1 - 2 * phase / PERIOD)
    sign = side if name == "a" else -side
    return WIDTH / 2 + sign * 55 * course, HEIGHT / 2 + (6 if name == "a" else -6)


def outline(name: str, frame: int) -> Bool:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    cx, cy = centre(name, frame)
    return np.asarray(np.hypot((x - cx) / 1.5, y - cy) < 13)


def spot(frame: int) -> Bool:
    """The mark that only ``a`` has: 1 % of it."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    cx, cy = centre("a", frame)
    return np.asarray((abs(x - cx) < 1.6) & (abs(y - cy + 4) < 1.6))


def picture(frame: int, marked: bool) -> NDArray[np.uint8]:
    rng = np.random.default_rng(frame)
    image = np.empty((HEIGHT, WIDTH, 3))
    image[:] = (70, 110, 60)
    for name in ("b", "a"):
        image[outline(name, frame)] = (202, 189, 169)
    if marked:
        image[spot(frame)] = (60, 60, 190)
    return np.clip(image + rng.normal(0, 3, image.shape), 0, 255).astype(np.uint8)


def exchanged(frame: int) -> bool:
    """The tracker takes the one for the other after the second meeting, and back after the fourth."""
    return 1.5 * PERIOD <= frame < 3.5 * PERIOD


def study(folder: Path, marked: bool = True) -> tuple[Scene, Artefact]:
    """A project whose tracker has just ended, with the exchange in its rows."""
    folder.mkdir()
    make_video(folder / "v.mp4", (picture(k, marked) for k in range(FRAMES)), fps=10, crf=10)
    prompts = [f"v,full,{name},0,point,{centre(name, 0)[0]:.0f},{centre(name, 0)[1]:.0f},,," for name in SUBJECTS]
    project = make_project(folder, prompts=prompts, subjects="a;b")
    timeline.run(project, project.videos[0])
    return tracked(project)


def tracked(project: Project) -> tuple[Scene, Artefact]:
    target = track.artefact(project, project.videos[0])
    target.begin()
    scene = Scene(project, project.videos[0], target)
    scene.write(scene.part_file(0), rows_of(scene, "full", True))
    lost = Event(30, "full", "a", Kind.DRIFT, 3.0, 30, 3.0)
    scene.happened("part-00000", [lost])
    return scene, target


def rows_of(scene: Scene, view: str, wrong: bool) -> list[Row]:
    """What the tracker says: right everywhere, or ``wrong`` while it takes the one for the other."""
    rows = []
    for frame in range(FRAMES):
        for name in SUBJECTS:
            shown = SUBJECTS[1 - SUBJECTS.index(name)] if wrong and exchanged(frame) else name
            mask = outline(shown, frame)
            if shown == "b":
                mask &= ~outline("a", frame)
            state = State.PROMPTED if frame == 0 else State.TRACKED
            rows.append(scene.row(view, name, frame, state, mask if mask.any() else None, 0.9, 0.5))
    return rows


def names(target: Artefact) -> dict[str, float]:
    """Share of an animal's frames, away from meetings, in which the row of that name lies on it."""
    table = read_parquet(target.path("part-00000.parquet")).to_pylist()
    right: dict[str, list[bool]] = {name: [] for name in SUBJECTS}
    for row in table:
        near = [outline(name, row["frame"]) for name in SUBJECTS]
        if not (near[0] & near[1]).any():
            mask = masks.decode(row["rle"], HEIGHT, WIDTH)
            right[row["subject"]].append(bool((mask & outline(row["subject"], row["frame"])).any()))
    return {name: float(np.mean(values)) for name, values in right.items()}


def test_an_exchange_is_undone_by_a_mark_of_one_per_cent(tmp_path: Path) -> None:
    scene, target = study(tmp_path / "p")
    assert spot(0).sum() / outline("a", 0).sum() < 0.013
    identity.settle(scene)
    events.gather(target)
    assert min(names(target).values()) == 1
    found = events.read(target)
    swaps = [event for event in found if event.kind is Kind.SWAP]
    assert {event.subject for event in swaps} == {"a", "b"} and all(event.score and event.score > 0.95 for event in swaps)
    assert len({event.frame for event in found if event.kind is Kind.CROSSING}) == 4
    assert not [event for event in found if event.kind is Kind.DOUBT]
    # What the tracker reported of the label goes with the rows.
    assert [event.subject for event in found if event.kind is Kind.DRIFT] == ["b"]
    table = read_parquet(target.path("part-00000.parquet")).to_pandas()
    assert (table.groupby("frame").size() == 2).all() and (table.groupby("frame")["subject"].nunique() == 2).all()
    assert table["identity_score"].min() > 0.8
    assert (table.loc[table["frame"] == 0, "state"] == "prompted").all()


def test_animals_that_look_alike_are_left_to_the_tracker_and_called_doubtful(tmp_path: Path) -> None:
    scene, target = study(tmp_path / "p", marked=False)
    identity.settle(scene)
    events.gather(target)
    found = events.read(target)
    assert not [event for event in found if event.kind is Kind.SWAP]
    assert [event for event in found if event.kind is Kind.DOUBT]
    table = read_parquet(target.path("part-00000.parquet")).to_pandas()
    late = table[table["frame"] > 3.7 * PERIOD]
    assert (late["state"] == "uncertain").all() and (late["identity_score"] < identity.SURE).all()
    assert (table.loc[table["frame"] < 4, "state"] != "uncertain").all()


def test_killed_anywhere_it_ends_in_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "SAMPLES", 3)
    scene, target = study(tmp_path / "p")
    raw = {path.name: path.read_bytes() for path in target.folder.iterdir()}
    identity.settle(scene)
    events.gather(target)
    whole = {path.name: path.read_bytes() for path in target.folder.iterdir()}

    class Killed(Exception):
        pass

    for number in (1, 2):
        target.discard()
        target.folder.mkdir(parents=True)
        for name, data in raw.items():
            (target.folder / name).write_bytes(data)
        calls = 0
        replace = os.replace

        def dying(*paths: object, number: int = number, replace: object = replace) -> None:
            nonlocal calls
            calls += 1
            if calls == number:
                raise Killed
            replace(*paths)  # type: ignore[operator]

        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr("os.replace", dying)
            identity.settle(scene)
            events.gather(target)
        identity.settle(scene)
        events.gather(target)
        assert {path.name: path.read_bytes() for path in target.folder.iterdir()} == whole


def test_killed_after_its_events_are_gathered_it_is_not_settled_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the tracker reported apart, cuts among it, is in ``events.csv`` then, and names would be settled without it."""
    monkeypatch.setattr(identity, "SAMPLES", 3)
    scene, target = study(tmp_path / "p")
    scene.happened("shots-00000", [Event(PERIOD // 2, "full", "", Kind.CUT, 0.0, PERIOD // 2, 0.0)])
    identity.settle(scene)
    events.gather(target)
    whole = {path.name: path.read_bytes() for path in target.folder.iterdir()}
    identity.settle(scene)
    events.gather(target)
    assert {path.name: path.read_bytes() for path in target.folder.iterdir()} == whole


def test_one_subject_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "settle", lambda scene: pytest.fail("looked at"))
    project = make_project(tmp_path, frames=6, prompts=["v,full,,0,point,84,56,,,"])
    timeline.run(project, project.videos[0])
    target = track.run(project, project.videos[0])
    assert target.files(".parquet") == ["part-00000.parquet"] and not target.has(STATE)


def test_views_are_settled_each_for_itself_and_share_their_subjects(tmp_path: Path) -> None:
    """The tracker exchanges the animals in the lower view alone."""
    folder = tmp_path / "p"
    folder.mkdir()
    make_video(folder / "v.mp4", (np.tile(picture(k, True), (2, 1, 1)) for k in range(FRAMES)), fps=10, crf=10)
    views = {view: {"x": 0, "y": k * HEIGHT, "w": WIDTH, "h": HEIGHT} for k, view in enumerate(("above", "below"))}
    prompts = [
        f"v,{view},{name},0,point,{centre(name, 0)[0]:.0f},{centre(name, 0)[1]:.0f},,," for name in SUBJECTS for view in views
    ]
    project = make_project(folder, prompts=prompts, subjects="a;b", views=views)
    timeline.run(project, project.videos[0])
    target = track.artefact(project, project.videos[0])
    target.begin()
    scene = Scene(project, project.videos[0], target)
    scene.write(scene.part_file(0), [row for view in views for row in rows_of(scene, view, view == "below")])
    identity.settle(scene)
    table = read_parquet(target.path("part-00000.parquet")).to_pandas()
    assert all(sorted(found) == list(SUBJECTS) for found in table.groupby(["frame", "view"])["subject"].agg(list))
    wide = table[table["frame"] % PERIOD == 1].pivot_table(index=["frame", "subject"], columns="view", values="x")
    assert len(wide) == 2 * FRAMES // PERIOD and (abs(wide["above"] - wide["below"]) < 3).all()
    events.gather(target)
    assert {event.view for event in events.read(target) if event.kind is Kind.SWAP} == {"below"}


# --- meetings ------------------------------------------------------------------------------------------------------------------


def history(scene: Scene) -> History:
    return read_history([read_parquet(scene.target.path("raw-00000.parquet"))], "full", SUBJECTS, HEIGHT, WIDTH)


def test_meetings_are_where_masks_touch(tmp_path: Path) -> None:
    scene, _ = study(tmp_path / "p")
    seen = history(scene)
    cuts = meetings(seen)
    assert len(cuts) == 4 and all(cut.group == (0, 1) for cut in cuts)
    for k, cut in enumerate(cuts):
        assert cut.first < (k + 0.5) * PERIOD < cut.last
    pieces = fragments(seen, cuts)
    assert [piece.anchored for piece in pieces] == [True, True] + [False] * 8
    covered = np.zeros((2, FRAMES), int)
    for piece in pieces:
        covered[piece.label, piece.first : piece.last + 1] += 1
    for cut in cuts:
        covered[:, cut.first : cut.last + 1] += 1
    assert (covered == 1).all()


def plain(seen: Bool, boxes: NDArray[np.float64], prompted: Bool | None = None) -> History:
    n = seen.shape[1]
    where = np.where(seen[..., None], boxes, np.nan)
    nothing = np.zeros(n, np.bool_)
    pairs = [(i, j) for i in range(len(seen)) for j in range(i + 1, len(seen))]
    return History(
        np.arange(n),
        np.arange(n) / 2,
        where,
        np.where(seen, 100, 0),
        seen,
        np.zeros_like(seen) if prompted is None else prompted,
        dict.fromkeys(pairs, nothing),
        dict.fromkeys(pairs, nothing),
    )


def test_a_loss_beside_another_animal_is_a_meeting_and_one_far_away_is_not() -> None:
    seen = np.ones((3, 20), np.bool_)
    seen[0, 5:9] = False
    boxes = np.zeros((3, 20, 4))
    boxes[..., 2:] = 10
    boxes[1, :, 0], boxes[2, :, 0] = 15, 200
    assert meetings(plain(seen, boxes)) == [Meeting(5, 8, (0, 1))]
    seen[2, 6:12] = False  # who comes back may be either
    assert meetings(plain(seen, boxes)) == [Meeting(5, 11, (0, 1, 2))]


def test_animals_that_touch_all_the_time_keep_their_names() -> None:
    seen = np.ones((2, 12), np.bool_)
    history = plain(seen, np.tile([0.0, 0.0, 10.0, 10.0], (2, 12, 1)))
    history.touch[0, 1][:] = True
    cuts = meetings(history)
    assert not fragments(history, cuts)
    answer = identity.name_fragments(history, cuts, [], likeness.Prints.none(0))
    assert (answer.names == [0, 1]).all() and (answer.share[0].diagonal() > 0.9).all()


def test_what_a_person_said_is_absent_stays_so_until_it_is_seen_again() -> None:
    seen = np.ones((2, 12), np.bool_)
    seen[0, 3:7], seen[1, 9:] = False, False
    boxes = np.tile([0.0, 0.0, 10.0, 10.0], (2, 12, 1))
    boxes[~seen] = np.nan
    told = crossings.told_absent(plain(seen, boxes), [(4, 0), (9, 1), (1, 1)])
    assert told == {(4, 0), (5, 0), (6, 0), (9, 1), (10, 1), (11, 1)}


def test_a_correction_is_a_meeting_of_no_length() -> None:
    seen = np.ones((2, 20), np.bool_)
    boxes = np.zeros((2, 20, 4))
    boxes[..., 2:] = 10
    boxes[1, :, 0] = 200
    prompted = np.zeros((2, 20), np.bool_)
    prompted[:, 0] = prompted[1, 12] = True
    found = plain(seen, boxes, prompted)
    assert meetings(found) == [Meeting(12, 11, (0, 1))]
    pieces = fragments(found, meetings(found))
    assert [(piece.first, piece.last, piece.anchored) for piece in pieces if piece.label == 1] == [
        (0, 11, True),
        (12, 19, True),
    ]
    assert [(piece.first, piece.last, piece.anchored) for piece in pieces if piece.label == 0] == [
        (0, 11, True),
        (12, 19, False),
    ]


# --- looks ---------------------------------------------------------------------------------------------------------------------


def world(seed: int, apart: float, periods: int) -> tuple[History, list[Meeting], list[Fragment], likeness.Prints, list[int]]:
    """Fragments in 300 dimensions of noise, of two animals ``apart`` by so much; swapped at about every third meeting."""
    rng = np.random.default_rng((seed, periods))
    axis = rng.normal(size=300)
    axis *= apart / 2 / np.linalg.norm(axis)
    pieces, cuts, means, truth, order = [], [], [], [], [0, 1]
    for k in range(periods):
        for label in (0, 1):
            pieces.append(Fragment(k * 10, k * 10 + 6, label, k == 0))
            means.append(rng.normal(0, 0.4, 300) + (axis if order[label] else -axis))
            truth.append(order[label])
        if k + 1 < periods:
            cuts.append(Meeting(k * 10 + 7, k * 10 + 9, (0, 1)))
        order = order[::-1] if rng.uniform() < 1 / 3 else order
    seen = np.ones((2, periods * 10), np.bool_)
    prints = likeness.Prints(np.array(means), np.full(len(means), 10), np.ones(300), (300,))
    return plain(seen, np.zeros((2, periods * 10, 4))), cuts, pieces, prints, truth


def test_animals_that_touch_when_they_are_pointed_at_keep_their_names() -> None:
    """The prompts lie in a meeting, so that no fragment holds one; and a correction within a later meeting counts for what follows."""
    hist, cuts, pieces, prints, truth = world(3, 18.0, 12)
    hist.prompted[:, 0] = True
    early = [replace(piece, first=4, anchored=False) if piece.first == 0 else piece for piece in pieces]
    answer = identity.name_fragments(hist, [Meeting(0, 3, (0, 1)), *cuts], early, prints, motion=False)
    assert (answer.names[1:].ravel() == truth).mean() > 0.95

    nothing = likeness.Prints.none(len(pieces))
    assert identity.name_fragments(hist, cuts, pieces, nothing, motion=False).share[-1, 0, 0] < 0.6
    hist.prompted[0, cuts[-1].first + 1] = True
    assert identity.name_fragments(hist, cuts, pieces, nothing, motion=False).share[-1, 0, 0] > 0.9


def right(answer: identity.whois.Answer, truth: list[int]) -> float:
    return float(np.mean(answer.names.ravel() == truth))


@pytest.mark.parametrize("periods", [2, 4, 12, 40])
def test_looks_name_animals_that_differ(periods: int) -> None:
    found = [identity.name_fragments(*args, motion=False) for *args, _ in [world(k, 18.0, periods) for k in range(4)]]
    truths = [world(k, 18.0, periods)[-1] for k in range(4)]
    assert np.mean([right(answer, truth) for answer, truth in zip(found, truths, strict=True)]) > 0.95


@pytest.mark.parametrize("periods", [3, 12, 40])
def test_looks_are_silent_where_animals_do_not_differ(periods: int) -> None:
    """Noise can always be split in two; that must not pass for knowledge."""
    exchanged = 0
    for k in range(8):
        *args, _ = world(k, 0.0, periods)
        exchanged += bool((identity.name_fragments(*args, motion=False).names != (0, 1)).any())
    assert exchanged <= 1


def test_without_looks_the_tracker_is_believed_less_with_every_meeting() -> None:
    args = world(0, 0.0, 6)[:3]
    answer = identity.name_fragments(*args, likeness.Prints.none(len(args[2])), motion=False)
    sure = [float(share[0, 0]) for share in answer.share]
    assert (answer.names == (0, 1)).all() and sure[0] > 0.999 and all(a > b > 0.5 for a, b in itertools.pairwise(sure))
