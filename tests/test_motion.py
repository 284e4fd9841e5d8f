from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from foveate import masks, track
from foveate.schema import SEEN, FoveateError, State
from foveate.track.motion import SAMPLES, empty_scene, find, moving_part, parts, smooth
from tests.tracked import HEIGHT, WIDTH, animal, make_project, overlap, picture, rows, tracked


def still(frame: int) -> np.ndarray:
    return animal(0)


def test_follows_a_wandering_animal(tmp_path: Path) -> None:
    artefact = tracked(make_project(tmp_path, method="motion"))
    found = rows(artefact)
    assert [row["frame"] for row in found] == list(range(60))
    overlaps = [overlap(row, animal(k)) for k, row in enumerate(found)]
    assert min(overlaps) > 0.75 and float(np.mean(overlaps)) > 0.85
    assert {row["state"] for row in found} == {State.TRACKED.value}
    row = found[7]
    assert (row["x"], row["y"], row["w"], row["h"]) == masks.box(masks.decode(row["rle"], HEIGHT, WIDTH))  # type: ignore[arg-type]
    assert row["area"] == masks.area(row["rle"])  # type: ignore[arg-type]
    assert artefact.facts()["prompt"] == "motion"


@pytest.mark.parametrize("resting", [20, 45])  # of 60 frames: less and more than half of the video
def test_an_animal_that_rests_for_long_is_still_seen(tmp_path: Path, resting: int) -> None:
    def where(frame: int) -> np.ndarray:
        return animal(0) if frame < resting else animal(3 * (frame - resting))

    found = rows(tracked(make_project(tmp_path, where=where, method="motion")))
    overlaps = [overlap(row, where(k)) for k, row in enumerate(found)]
    assert min(overlaps[:resting]) > 0.7
    assert float(np.mean(np.array(overlaps) > 0.6)) > 0.9


def test_an_empty_scene_gives_no_animal(tmp_path: Path) -> None:
    nothing = np.zeros((HEIGHT, WIDTH), np.bool_)
    found = rows(tracked(make_project(tmp_path, where=lambda _: nothing, method="motion")))
    assert {row["state"] for row in found} == {State.ABSENT.value}
    assert all(row["x"] is None and row["rle"] is None and row["area"] == 0 for row in found)


def test_leaving_is_absent_and_vanishing_is_lost(tmp_path: Path) -> None:
    y, x = np.mgrid[:HEIGHT, :WIDTH]

    def leaving(frame: int) -> np.ndarray:
        return np.asarray(np.hypot(x - 80 - 4 * frame, y - 56) < 13)  # beyond the border from frame 26 on

    found = rows(tracked(make_project(tmp_path / "a", where=leaving, method="motion")))
    assert found[10]["state"] == State.TRACKED and found[45]["state"] == State.ABSENT

    def vanishing(frame: int) -> np.ndarray:
        return animal(frame) if frame < 30 else np.zeros((HEIGHT, WIDTH), np.bool_)

    found = rows(tracked(make_project(tmp_path / "b", where=vanishing, method="motion")))
    assert found[29]["state"] == State.TRACKED and found[45]["state"] == State.LOST


def test_the_light_may_change() -> None:
    scene = empty_scene([picture(k) for k in range(0, 60, 4)])
    darker = (picture(30).astype(int) - 25).clip(0, 255).astype(np.uint8)
    mask, score, _ = find(darker, scene, None)
    assert mask is not None and score > 0.5
    assert (mask & animal(30)).sum() / (mask | animal(30)).sum() > 0.7
    assert parts(np.full((HEIGHT, WIDTH), 50.0, np.float32)) == []  # everything differs: the camera was moved


def test_continuity_prefers_the_near_part() -> None:
    scene = empty_scene([picture(k) for k in range(0, 60, 4)])
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    other = np.hypot(x - 20, y - 90) < 14
    at = animal(26)
    mask, _, last = find(picture(26, at), scene, None)
    both = picture(27, animal(27) | other)
    found, score, _ = find(both, scene, last)
    assert mask is not None and found is not None
    assert (found & animal(27)).sum() > 0.8 * animal(27).sum() and not (found & other).any()
    assert score < 0.8


def test_a_ghost_is_mended() -> None:
    """The median of these shows the animal at rest; the mended scene does not."""
    samples = [picture(k, still(k)) for k in range(7)] + [picture(k, animal(3 * k)) for k in range(10, 14)]
    median = np.median([smooth(s) for s in samples], axis=0)
    assert median[animal(0)].mean() > 150
    scene = empty_scene(samples)
    assert scene.picture[animal(0)].mean() < 110


def test_the_clearest_frame_is_offered_as_a_start() -> None:
    answer = moving_part([picture(k) for k in range(0, 60, 6)])
    assert answer is not None
    index, mask = answer
    truth = animal(6 * index)
    assert (mask & truth).sum() / (mask | truth).sum() > 0.7


def test_several_subjects_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FoveateError, match="2 subjects") as caught:
        tracked(make_project(tmp_path, subjects="a;b", method="motion"))
    assert caught.value.row == 2 and "propagate" in str(caught.value.remedy)


def test_prompts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FoveateError, match="takes none"):
        tracked(make_project(tmp_path, prompts=["v,,,0,point,80,50,,,"], method="motion"))


def test_memory_does_not_grow_with_the_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import foveate.track.motion as motion

    sizes = []
    original = motion.empty_scene
    monkeypatch.setattr(motion, "empty_scene", lambda samples: sizes.append(len(samples)) or original(samples))
    for n in (60, 120):
        tracked(make_project(tmp_path / str(n), n, method="motion"))
    assert sizes == [SAMPLES, SAMPLES]


@pytest.mark.slow
def test_real_mouse(footage: Path, tmp_path: Path) -> None:
    """The open-field clip at one frame in two seconds: found everywhere, as something dark."""
    source = footage / "clips" / "dlc_openfield" / "m3v1mp4.mp4"
    (tmp_path / "v.mp4").symlink_to(source)
    project = make_project(tmp_path, every=60, method="motion", short_side=240)
    artefact = tracked(project)
    found = rows(artefact)
    assert len(found) == 39 and all(row["state"] in SEEN for row in found)
    from foveate import timeline
    from foveate.video import read_frames

    clock = timeline.load(project, project.videos[0])
    frames = np.array([row["frame"] for row in found])
    for row, image in zip(found[::6], list(read_frames(source, clock, frames[::6])), strict=True):
        mask = masks.decode(row["rle"], 480, 640)  # type: ignore[arg-type]
        assert 0.005 < mask.mean() < 0.1
        assert image[mask].mean() < image[~mask].mean() - 40
    assert track.artefact(project, project.videos[0]).complete()
