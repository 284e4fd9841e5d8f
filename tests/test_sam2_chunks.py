"""The published chunks: their cutting, what one tells the next, and what happens where it has nothing to tell."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate import masks, timeline
from foveate.models import sam2
from foveate.project import Project
from foveate.track import events, ladder, scene
from foveate.track.events import Kind
from foveate.track.sam2 import chunks
from foveate.track.sam2.chunks import padded, pixels_of
from foveate.track.sam2.session import Given, Seen, Session
from foveate.track.scene import Scene
from foveate.track.shots import Shots
from foveate.video import read_frames
from tests import tracked
from tests.pipeline import contents
from tests.tiny_sam2 import make_sam2, opened

HEIGHT, WIDTH = tracked.HEIGHT, tracked.WIDTH


# --- the published rules ---------------------------------------------------------------------------------------------------------


@given(st.integers(1, 5000))
def test_chunks_cover_every_frame_and_share_five(frames: int) -> None:
    found = chunks.chunks(frames)
    assert {k for chunk in found for k in chunk} == set(range(frames))
    assert [chunk.start for chunk in found] == [500 * k for k in range(len(found))]
    assert all(len(set(one) & set(other)) == 5 for one, other in itertools.pairwise(found))
    assert all(len(chunk) == 505 for chunk in found[:-1]) and (frames > 505) == (len(found) > 1)


def test_chunks_of_published_lengths() -> None:
    assert chunks.chunks(505) == [range(505)] and chunks.chunks(500) == [range(500)]
    assert chunks.chunks(506) == [range(505), range(500, 506)]
    # Of 501 frames the released code begins a second chunk at 500 and skips it, because it is in the first one.
    assert chunks.chunks(501) == [range(501)]


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((100, 100, 19, 20), (99, 98, 120, 122)),  # floor(19 / 10) = 1
        ((100, 100, 9, 30), (100, 97, 109, 133)),
        ((0, 3, 50, 40), (0, 0, 55, 47)),
        ((900, 500, 60, 40), (894, 496, 960, 540)),
    ],
)
def test_padding_is_exact_on_integers(box: tuple[int, int, int, int], expected: tuple[int, int, int, int]) -> None:
    assert padded(box, 960, 540) == expected


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_prompts_lie_on_the_mask_and_in_the_view(width: int, height: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((height, width)) < 0.2
    mask[rng.integers(height), rng.integers(width)] = True
    points = pixels_of(mask, "video", "view", "subject", seed)
    assert len(points) == 4 and all(mask[int(y), int(x)] for x, y in points)
    assert points == pixels_of(mask, "video", "view", "subject", seed)
    box = masks.box(mask)
    assert box is not None
    left, top, right, bottom = padded(box, width, height)
    assert 0 <= left <= box[0] and box[0] + box[2] <= right <= width and top >= 0 and bottom <= height


def test_drawn_pixels_are_uniform_and_depend_on_all_names() -> None:
    mask = np.ones((4, 5), bool)
    drawn = [p for k in range(2000) for p in pixels_of(mask, "v", "top", "ewe", k)]
    counts = np.unique([5 * y + x for x, y in drawn], return_counts=True)[1]
    assert len(counts) == 20 and abs(counts / 400 - 1).max() < 0.25  # five standard deviations
    big = np.ones((200, 200), bool)
    names = [
        ("v", "top", "ewe", 1),
        ("w", "top", "ewe", 1),
        ("v", "low", "ewe", 1),
        ("v", "top", "ram", 1),
        ("v", "top", "ewe", 2),
    ]
    assert len({pixels_of(big, *each) for each in names}) == 5


# --- against the library ---------------------------------------------------------------------------------------------------------

CLICK = "v,,,0,point,84,56,,,"
FRAMES = 24


@pytest.fixture(autouse=True)
def _opened_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sam2, "open_sam2", opened)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sam2(tmp_path_factory.mktemp("sam2") / "tiny", bias=0.4)


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("footage")
    tracked.make_project(folder, FRAMES)
    return folder / "v.mp4"


def project(folder: Path, footage: Path, model: Path | str, *prompts: str, **more: Any) -> Project:
    folder.mkdir()
    shutil.copy(footage, folder / "v.mp4")
    return tracked.make_project(folder, FRAMES, prompts=prompts, method="sam2", mode="paper", model=str(model), **more)


@pytest.mark.parametrize("overlap", ["points_and_box", "box"])
def test_chunks_are_those_of_the_published_procedure(
    tmp_path: Path, model: Path, overlap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same chunks, written down once more: one session of the library per chunk, that keeps everything and knows all of its prompts
    before it follows anything."""
    monkeypatch.setattr(chunks, "CHUNK", 7)
    count = 19  # frames: two chunks
    study = tracked.make_project(
        tmp_path, count, prompts=[CLICK], method="sam2", mode="paper", model=str(model), overlap=overlap
    )
    rows = tracked.rows(tracked.tracked(study))
    network = opened(str(model))
    clock = timeline.load(study, study.videos[0])
    pictures = list(read_frames(study.videos[0].path, clock, np.arange(count)))
    found: dict[int, np.ndarray] = {}
    skipped = 0
    for start in (0, 7):
        inside = range(start, min(start + 12, count))
        told = {k: found[k] for k in inside[:5] if k in found and found[k].any()} if start else {}
        skipped += 5 - len(told) if start else 0
        assert told or not start, "choose another model: the ladder begins here"
        session = Session(network, HEIGHT, WIDTH, bounded=False)
        for k, mask in told.items():
            x, y, w, h = masks.box(mask) or (0, 0, 0, 0)
            box = (max(0, x - w // 10), max(0, y - h // 10), min(WIDTH, x + w + w // 10), min(HEIGHT, y + h + h // 10))
            points = pixels_of(mask, "v", "full", "v", k) if overlap == "points_and_box" else ()
            found[k] = session.step(pictures[k], {0: Given(points, box)}, at=k - start)[0].mask
        for k in inside:
            if k not in told and (not told or k > min(told)):
                prompt = {0: Given(points=((84, 56),))} if k == 0 else {}
                found[k] = session.step(pictures[k], prompt, at=k - start)[0].mask
    assert skipped, "choose another model: no frame of an overlap is empty"
    for k, row in enumerate(rows):
        assert row["rle"] == (masks.encode(found[k]) if found[k].any() else None), k
    assert [row["state"] for row in rows].count("prompted") == 1  # what the tracker tells itself is no prompt


class Killed(BaseException):
    pass


def test_stopped_anywhere_the_result_is_the_same(
    tmp_path: Path, footage: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "CHUNK", 4)
    monkeypatch.setattr(chunks, "OVERLAP", 2)
    monkeypatch.setattr(scene, "SEGMENT", 6)
    views = {"left": {"x": 0, "y": 0, "w": 84, "h": 112}, "right": {"x": 84, "y": 0, "w": 84, "h": 112}}
    prompts = ("v,left,,6,point,40,40,,,", "v,left,,18,absent,,,,,", "v,right,,0,point,40,40,,,")
    undisturbed, disturbed = (project(tmp_path / name, footage, model, *prompts, views=views, every=2) for name in "ab")
    tracked.tracked(undisturbed)
    expected = contents(undisturbed.folder / "tracks")
    rename, count, deaths = os.replace, 0, 0

    def replace(source: Path, target: Path) -> None:
        nonlocal count
        count += "/tracks/" in str(target)
        if count == limit:
            raise Killed
        rename(source, target)

    monkeypatch.setattr(os, "replace", replace)
    for attempt in range(40):
        count, limit = 0, 4 + attempt  # the parts are all made anew in the last attempt
        try:
            tracked.tracked(disturbed)
            break
        except Killed:
            deaths += 1
    assert deaths >= 4 and contents(disturbed.folder / "tracks") == expected


# --- where nothing is left to tell -----------------------------------------------------------------------------------------------


class FakeSession:
    """Sees subject 0 as a disc where ``visible`` says so, given the frame, the frames it was prompted in, and the frames it was shown."""

    visible: Callable[[int, list[int], list[int]], bool] = staticmethod(lambda *_: True)
    log: ClassVar[list[list[tuple[int, bool]]]] = []

    def __init__(self, model: object, height: int, width: int, prompts: int) -> None:
        self.model, self.prompted, self.shown = model, list[int](), list[int]()
        self.own: list[tuple[int, bool]] = []
        FakeSession.log.append(self.own)

    def cut(self, subjects: object = None) -> None:
        pass

    def step(
        self, picture: np.ndarray, given: Mapping[int, Given] | None = None, only: Collection[int] = (), *, at: int = 0
    ) -> dict[int, Seen]:
        frame = int(picture[0, 0, 0])
        if 0 not in only:
            return {}
        if given:
            self.prompted.append(frame)
        if not self.prompted:
            return {}
        self.own.append((frame, bool(given)))
        seen = type(self).visible(frame, self.prompted, self.shown)
        self.shown.append(frame)
        mask = np.zeros((HEIGHT, WIDTH), bool)
        mask[30:50, 40:70] = seen
        return {0: Seen(torch.zeros(1), mask, 0.99 if seen else 0.01)}


@pytest.fixture
def play(
    tmp_path: Path, footage: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[list[str], list[events.Event], list[list[tuple[int, bool]]]]]:
    monkeypatch.setattr(chunks, "CHUNK", 8)
    monkeypatch.setattr(chunks, "OVERLAP", 3)
    monkeypatch.setattr(chunks, "Session", FakeSession)
    monkeypatch.setattr(ladder, "HIDDEN", 1.0)
    monkeypatch.setattr(ladder, "ASK_AFTER", 1.25)
    monkeypatch.setattr("foveate.models.sam2.open_sam2", lambda *_: SimpleNamespace(size=16))
    monkeypatch.setattr("foveate.models.pretrained.fetch_weights", lambda _: None)
    monkeypatch.setattr("foveate.models.pretrained.weights_hash", lambda _: "fake")

    def run(
        visible: Callable[[int, list[int], list[int]], bool], *prompts: str, missing: Sequence[int] = (), cut: int = -1
    ) -> tuple[list[str], list[events.Event], list[list[tuple[int, bool]]]]:
        def pictures(_: Scene, frames: Sequence[int]) -> Iterator[tuple[int, np.ndarray | None]]:
            for frame in frames:
                yield frame, None if frame in missing else np.full((HEIGHT, WIDTH, 3), frame, np.uint8)

        monkeypatch.setattr(Scene, "pictures", pictures)
        monkeypatch.setattr(Shots, "cuts", lambda _, frame, __: frame == cut)
        monkeypatch.setattr(FakeSession, "visible", staticmethod(visible))
        FakeSession.log = []
        done = tracked.tracked(project(tmp_path / "p", footage, "fake/model", *(prompts or (CLICK,)), drop="none"))
        rows = tracked.rows(done)
        assert [row["frame"] for row in rows] == list(range(FRAMES))
        return [str(row["state"]) for row in rows], events.read(done), FakeSession.log

    return run


def states(text: str) -> list[str]:
    """P prompted, T tracked, L lost, A absent."""
    return [{"P": "prompted", "T": "tracked", "L": "lost", "A": "absent"}[letter] for letter in text]


def test_the_usual_way_prompts_with_the_overlap(play: Any) -> None:
    found, happened, log = play(lambda frame, *_: True)
    assert found == states("P" + "T" * 23) and not happened
    assert log == [
        [(k, k == 0) for k in range(11)],
        [(k, k < 11) for k in range(8, 19)],
        [(k, k < 19) for k in range(16, 24)],
    ]


def test_empty_frames_of_the_overlap_are_skipped_and_looked_at_after_the_prompts(play: Any) -> None:
    found, _, log = play(lambda frame, prompted, shown: frame not in (9, 16))
    assert found == states("P" + "T" * 8 + "L" + "T" * 6 + "L" + "T" * 7)
    assert log[1][:4] == [(8, True), (10, True), (9, False), (11, False)]
    assert log[2][:3] == [(17, True), (18, True), (19, False)]  # 16 lies before the first prompt and is not looked at again


def test_a_chunk_begins_earlier_where_the_overlap_is_empty(play: Any) -> None:
    """Hidden from 6 to 12, and found again where the chunk is prompted by frames 3 to 5."""
    found, happened, log = play(lambda frame, prompted, shown: not 6 <= frame <= 12)
    assert log[1][:5] == [(3, True), (4, True), (5, True), (6, False), (7, False)]
    assert log[1][-1] == (18, False) and len(log) == 3
    assert found == states("P" + "T" * 5 + "L" * 7 + "T" * 11)
    assert [(e.kind, e.frame) for e in happened] == [(Kind.DRIFT, 6), (Kind.REPROMPT, 13)] and "earlier" in happened[1].note


def test_what_an_earlier_beginning_finds_counts(play: Any) -> None:
    """The first memory loses it in frame 6; a fresh one does not."""
    found, _, _ = play(lambda frame, prompted, shown: frame < 6 or prompted[0] != 0)
    assert found == states("P" + "T" * 23)


def test_the_last_sure_frames_find_what_the_gap_would_hide(play: Any) -> None:
    """A memory that was shown empty frames stays blind; one that jumps over them is not."""
    found, happened, log = play(lambda frame, prompted, shown: not 6 <= frame <= 9 and not {6, 7} & set(shown))
    assert found == states("P" + "T" * 5 + "L" * 4 + "T" * 14)
    assert log[2][:4] == [(3, True), (4, True), (5, True), (8, False)]  # the jump
    assert [(e.kind, e.frame) for e in happened] == [(Kind.DRIFT, 6), (Kind.REPROMPT, 10)] and "sure" in happened[1].note


def test_absent_and_asked_for_once_where_nothing_helps(play: Any) -> None:
    found, happened, log = play(lambda frame, *_: frame < 6)
    assert found == states("P" + "T" * 5 + "A" * 18)
    assert {e.kind for e in happened} == {Kind.ASK, Kind.ABSENT} and len(happened) == 2
    assert {(e.frame, e.until_frame) for e in happened if e.kind == Kind.ABSENT} == {(6, 23)}
    assert {e.frame for e in happened if e.kind == Kind.ASK} == {6}
    assert len(log) == 5  # each later chunk tries: begun earlier and from the sure frames, then from the sure frames alone


def test_a_return_is_found_by_a_later_chunk(play: Any) -> None:
    found, happened, _ = play(lambda frame, prompted, shown: frame < 6 or frame >= 20)
    assert found == states("P" + "T" * 5 + "A" * 14 + "T" * 4)
    kinds = [e.kind for e in happened]
    assert kinds.count(Kind.ASK) == 1 and Kind.REPROMPT in kinds and Kind.RETURN in kinds and Kind.ABSENT in kinds


def test_a_prompt_of_a_person_counts_in_every_chunk_that_holds_it(play: Any) -> None:
    found, _, log = play(lambda frame, prompted, shown: frame < 6 or 9 in prompted or frame > 16, CLICK, "v,,,9,point,50,40,,,")
    assert found == states("P" + "T" * 5 + "LLL" + "P" + "T" * 6 + "L" + "T" * 7)
    assert (9, True) in log[0] and (9, True) in log[1]


def test_frames_that_cannot_be_decoded_are_left_out(play: Any) -> None:
    found, happened, log = play(lambda frame, *_: True, missing=(5, 6))
    assert found == states("P" + "T" * 4 + "LL" + "T" * 17)
    assert [frame for frame, _ in log[0]] == [0, 1, 2, 3, 4, 7, 8, 9, 10, 11, 12]  # eleven that are there
    assert log[1][:4] == [(10, True), (11, True), (12, True), (13, False)]
    assert [(e.kind, e.frame, e.until_frame) for e in happened] == [(Kind.DROPPED, 5, 6)]


def test_a_cut_ends_a_chunk_and_only_the_sure_frames_may_find_it_again(play: Any) -> None:
    found, happened, log = play(lambda frame, *_: True, cut=5)
    assert found == states("P" + "T" * 23)
    assert log[0] == [(k, k == 0) for k in range(5)]
    assert log[1] == [] and log[2][:4] == [(2, True), (3, True), (4, True), (5, False)]  # the jump
    assert log[2][-1] == (15, False) and log[3][:2] == [(13, True), (14, True)]
    assert [(e.kind, e.frame) for e in happened] == [(Kind.REPROMPT, 5)]


def test_not_found_after_a_cut(play: Any) -> None:
    found, happened, _ = play(lambda frame, *_: frame < 5, cut=5)
    assert found == states("P" + "T" * 4 + "A" * 19)
    assert [e.frame for e in happened if e.kind == Kind.ASK] == [5]


def test_absence_said_by_a_person_is_not_asked_about(play: Any) -> None:
    found, happened, _ = play(lambda frame, *_: frame < 6, CLICK, "v,,,7,absent,,,,,")
    assert set(found[7:]) == {"absent"} and Kind.ASK not in {e.kind for e in happened}


def test_views_have_chunks_of_their_own(tmp_path: Path, footage: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK", 4)
    views = {"left": {"x": 0, "y": 0, "w": 84, "h": 112}, "right": {"x": 84, "y": 0, "w": 84, "h": 112}}
    prompts = ("v,left,,0,point,40,40,,,", "v,right,,4,point,40,40,,,")
    both = tracked.rows(tracked.tracked(project(tmp_path / "p", footage, model, *prompts, views=views, every=2)))
    assert len(both) == FRAMES  # every second one, in two views
    one = project(tmp_path / "q", footage, model, prompts[1].replace("right", ""), views={"right": views["right"]}, every=2)
    assert [r["rle"] for r in both if r["view"] == "right"] == [r["rle"] for r in tracked.rows(tracked.tracked(one))]
