"""Pasture: what is drawn is what is labelled, masks are exact, and the same settings give the same bytes."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from foveate import masks
from foveate.project import Project
from foveate.schema import FoveateError
from foveate.simulate import BEHAVIOURS, Difficulty, PastureSettings, render_clip, simulate
from foveate.simulate.anatomy import Build, Capsules, draw_sheep, pose
from foveate.simulate.behaviour import intervals, move, script_labels
from foveate.simulate.clip import VIEWS, set_up
from foveate.simulate.ethogram import SHORTEST, Script, check_script
from foveate.simulate.plan import GROUPS, subject_name, video_name
from foveate.simulate.render import Camera, Light, draw, fleece_tiles
from foveate.simulate.scene import Actor, Lens, Studio
from foveate.simulate.schedule import draw_script, draw_shares

FPS = 12.5
EVERYTHING: Script = [
    (2.4, ("standing",)),
    (2.4, ("standing", "eating")),
    (2.4, ("standing", "head_up")),
    (2.4, ("moving",)),
    (2.4, ("moving", "turning_left")),
    (2.4, ("moving", "turning_right")),
    (2.4, ("standing",)),
    (3.2, ("lying",)),
    (2.4, ("lying", "head_up")),
    (2.4, ("lying", "eating")),
]
LIGHT = Light(np.array([0.3, -0.4, 0.866]), np.ones(3), np.full(3, 0.4))
CLEAR = Difficulty(distraction=0.0, lens=Lens(blur=0.0, noise=0.0))


def length(script: Script) -> int:
    return round(sum(seconds for seconds, _ in script) * FPS)


def shown(labels: NDArray[np.bool_], behaviour: str) -> NDArray[np.bool_]:
    return labels[:, BEHAVIOURS.index(behaviour)]


def inside(state: NDArray[np.bool_], frames: int = 8) -> NDArray[np.bool_]:
    """Where ``state`` has held and will hold for ``frames``: away from transitions."""
    return np.array([state[max(0, t - frames) : t + frames + 1].all() for t in range(len(state))]) & state


# Labels and motion


@pytest.mark.parametrize("seed", range(6))
def test_labels_agree_with_the_motion(seed: int) -> None:
    n = length(EVERYTHING)
    motion = move(EVERYTHING, n, FPS, np.random.default_rng(seed))
    moving, lying = shown(motion.labels, "moving"), shown(motion.labels, "lying")
    left, right = shown(motion.labels, "turning_left"), shown(motion.labels, "turning_right")
    assert (motion.walk[moving] > 0.5).all() and (motion.walk[~moving] < 0.5).all()
    assert motion.speed[inside(moving)].min() > 0.15 and motion.speed[inside(~moving)].max() < 1e-9
    assert np.degrees(motion.yaw_rate[inside(left)]).min() > 20
    assert np.degrees(motion.yaw_rate[inside(right)]).max() < -20
    assert np.abs(np.degrees(motion.yaw_rate[inside(~left & ~right)])).max() < 15
    assert (motion.stand[lying] < 0.5).all() and (motion.stand[~lying] > 0.5).all()
    # The path is what speed and heading say, and the yaw what its rate says.
    step = np.hypot(np.diff(motion.x), np.diff(motion.y)) * FPS
    assert np.allclose(step, motion.speed[1:], atol=1e-9)
    assert np.allclose(np.diff(motion.yaw) * FPS, motion.yaw_rate[1:], atol=1e-9)
    ahead = np.stack([np.cos(motion.yaw), np.sin(motion.yaw)], -1)[1:]
    assert (np.sum(ahead * np.stack([np.diff(motion.x), np.diff(motion.y)], -1), -1) >= -1e-12).all()


@pytest.mark.parametrize("seed", range(4))
def test_the_body_shows_what_the_labels_say(seed: int) -> None:
    n = length(EVERYTHING)
    motion = move(EVERYTHING, n, FPS, np.random.default_rng(seed))
    build = draw_sheep(np.random.default_rng(seed))
    body = pose(build, motion)
    trunk, muzzle = body.a[:, 1, 2], body.b[:, 3, 2]  # middle of the trunk; head capsule's far end
    lying, standing = shown(motion.labels, "lying"), shown(motion.labels, "standing")
    eating, head_up = shown(motion.labels, "eating"), shown(motion.labels, "head_up")
    rest = ~eating & ~head_up
    high = build.size * (build.leg + 0.05)
    assert (trunk[lying] < 0.75 * high).all() and (trunk[~lying] > 0.65 * high).all()
    assert trunk[inside(lying)].max() < 0.27 * build.size and trunk[inside(~lying)].min() > 0.95 * high
    assert muzzle[inside(eating)].max() < 0.16 * build.size
    assert muzzle[inside(standing & rest)].min() > 0.25 * build.size
    assert muzzle[inside(standing & head_up)].min() > muzzle[inside(standing & rest)].max()
    assert muzzle[inside(lying & head_up)].min() > muzzle[inside(lying & rest)].max()
    assert min(body.a[..., 2].min(), body.b[..., 2].min()) > 0, "something is under the ground"
    feet = body.b[:, -10::3, 2]  # the shanks' lower ends: hoof capsules are every third from the end
    assert feet.shape[1] == 4 and feet[inside(standing)].max() < 0.06, "standing feet are on the ground"


def test_turning_left_is_to_the_animals_own_left() -> None:
    script: Script = [(4.0, ("moving", "turning_left"))]
    motion = move(script, 50, FPS, np.random.default_rng(0))
    body = pose(Build(), motion)
    start, later = 0, 25
    aside = np.array([-np.sin(motion.yaw[start]), np.cos(motion.yaw[start])])
    assert np.allclose(body.left[start, :2], aside, atol=1e-6)
    assert (np.array([motion.x[later] - motion.x[start], motion.y[later] - motion.y[start]]) @ aside) > 0
    # Seen from behind, its left is on the picture's left.
    camera = Camera.looking(motion.yaw[start] + np.pi, 0.4, 7.0, 4.0, 160, 90)
    columns, _, _ = camera.project(np.stack([np.append(aside, 0.4), -np.append(aside, -0.4)]))
    assert columns[0] < 80 < columns[1]
    # The head leads into the curve.
    muzzle = body.b[later, 3, :2] - body.b[later, 2, :2]
    assert np.cross(np.append([np.cos(motion.yaw[later]), np.sin(motion.yaw[later])], 0), np.append(muzzle, 0))[2] > 0


def test_motion_does_not_depend_on_the_frame_rate() -> None:
    slow = move(EVERYTHING, length(EVERYTHING), FPS, np.random.default_rng(3))
    fast = move(EVERYTHING, 4 * length(EVERYTHING), 4 * FPS, np.random.default_rng(3))
    assert np.array_equal(slow.labels[2:-2], fast.labels[8:-8:4])
    turned = slow.yaw - fast.yaw[::4]
    assert np.ptp(turned) < np.radians(12)
    assert np.abs(slow.stand - fast.stand[::4]).max() < 0.12


@pytest.mark.parametrize(
    "script",
    [
        [(3.0, ("eating",))],
        [(3.0, ("standing", "lying"))],
        [(3.0, ("standing", "eating", "head_up"))],
        [(3.0, ("moving", "eating"))],
        [(3.0, ("standing", "turning_left"))],
        [(3.0, ("moving", "turning_left", "turning_right"))],
        [(3.0, ("standing", "flying"))],
        [(SHORTEST / 2, ("standing",))],
        [(3.0, ("lying",)), (3.0, ("moving",))],
    ],
)
def test_scripts_that_cannot_be_shown(script: Script) -> None:
    with pytest.raises(ValueError):
        check_script(script)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), seconds=st.sampled_from([20.0, 30.0, 60.0]), lying=st.floats(0.1, 0.45))
def test_drawn_scripts_can_be_shown_and_keep_their_shares(seed: int, seconds: float, lying: float) -> None:
    rng = np.random.default_rng(seed)
    shares = draw_shares(lying, rng)
    script = draw_script(shares, seconds, rng)
    check_script(script)
    assert sum(s for s, _ in script) == pytest.approx(seconds)
    labels = script_labels(script, round(seconds * FPS), FPS)
    assert labels.any(0).all(), "every behaviour occurs"
    assert (labels[:, :3].sum(1) == 1).all(), "exactly one of standing, lying, moving"
    share = dict(zip(BEHAVIOURS, labels.mean(0), strict=True))
    assert share["lying"] == pytest.approx(shares.lying, abs=0.02)
    assert share["turning_left"] == pytest.approx(shares.turning_left, abs=0.02)
    assert share["eating"] == pytest.approx(shares.eating, abs=0.12)


def test_bouts_and_labels_are_the_same() -> None:
    labels = script_labels(EVERYTHING, length(EVERYTHING), FPS)
    again = np.zeros_like(labels)
    times = np.arange(len(labels)) / FPS
    for behaviour, start, stop in intervals(labels, FPS):
        assert 0 <= start < stop <= len(labels) / FPS
        assert np.abs(times - start).min() > 0.01 or start == 0, "no frame on a boundary"
        again[(times >= start) & (times < stop), BEHAVIOURS.index(behaviour)] = True
    assert np.array_equal(again, labels)


def test_the_planted_difference_is_there_and_nowhere_else() -> None:
    """Over forty studies of 6 and 6 animals: lying and standing differ in each, eating and head_up no more often than by chance."""
    from scipy.stats import mannwhitneyu

    rejected = dict.fromkeys(BEHAVIOURS, 0)
    smallest = 2 / 924
    for study in range(40):
        shares = []
        for animal in range(12):
            rng = np.random.default_rng((study, animal))
            script = draw_script(draw_shares(PastureSettings().lying[animal % 2], rng), 20.0, rng)
            shares.append(script_labels(script, 250, FPS).mean(0))
        values = np.array(shares)
        for i, behaviour in enumerate(BEHAVIOURS):
            method = "exact" if len(set(values[:, i])) == 12 else "asymptotic"
            p = mannwhitneyu(values[0::2, i], values[1::2, i], method=method).pvalue
            rejected[behaviour] += p * len(BEHAVIOURS) < 0.05
            if behaviour in ("lying", "standing"):
                assert values[0::2, i].mean() != values[1::2, i].mean() and p < 6 * smallest
    assert rejected["lying"] >= 38 and rejected["standing"] >= 38
    assert max(rejected["eating"], rejected["head_up"], rejected["turning_left"], rejected["turning_right"]) <= 4


# Drawing


def one_capsule(a: list[float], b: list[float], ra: float, rb: float) -> Capsules:
    return Capsules(
        a=np.array([[a]], np.float32),
        b=np.array([[b]], np.float32),
        ra=np.array([ra], np.float32),
        rb=np.array([rb], np.float32),
        colour=np.ones((1, 3), np.float32),
        wool=np.zeros(1, np.float32),
        spots=np.zeros(1, np.float32),
        left=np.array([[0, 1, 0]], np.float32),
    )


@pytest.mark.parametrize("end", [[0.4, 0.1, 0.6], [0.0, 0.5, 0.35], [0.02, 0.6, 0.35], [-0.3, -0.4, 0.1], [0.0, 0.0, 0.35]])
def test_a_capsule_covers_what_its_spheres_cover(end: list[float]) -> None:
    """Against brute force: the union of many spheres along the axis, each projected exactly as a disc."""
    camera = Camera.looking(-np.pi / 2, 0.0, 7.0, 2.0, 160, 120)
    start = [0.0, 0.0, 0.35]
    if end == start:
        end = [0.0, 0.0, 0.35001]
    patch = draw(one_capsule(start, end, 0.12, 0.12), 0, camera, LIGHT)
    assert patch is not None
    cover = np.zeros((120, 160))
    cover[patch.y : patch.y + patch.cover.shape[0], patch.x : patch.x + patch.cover.shape[1]] = patch.cover
    y, x = (np.mgrid[0:240, 0:320] + 0.5) / 2
    fine = np.zeros((240, 320), bool)
    for share in np.linspace(0, 1, 200):
        u, v, depth = camera.project(np.array(start) * (1 - share) + np.array(end) * share)
        fine |= (x - u) ** 2 + (y - v) ** 2 < (0.12 * camera.focal / depth) ** 2
    expected = fine.reshape(120, 2, 160, 2).mean((1, 3))
    assert np.abs(cover - expected).sum() <= 0.03 * expected.sum(), "weak perspective costs at most this, seen along the axis"


def test_the_nearer_capsule_hides_the_farther() -> None:
    camera = Camera.looking(-np.pi / 2, 0.0, 7.0, 2.0, 80, 60)
    near, far = (
        one_capsule([-0.3, -0.3, 0.35], [0.3, -0.3, 0.35], 0.1, 0.1),
        one_capsule([0, 0.3, 0.1], [0, 0.3, 0.6], 0.1, 0.1),
    )
    red, blue = np.array([[1, 0, 0]], np.float32), np.array([[0, 0, 1]], np.float32)
    both = replace(
        near,
        **{name: np.concatenate([getattr(far, name), getattr(near, name)], 1) for name in ("a", "b")},
        **{name: np.concatenate([getattr(far, name), getattr(near, name)]) for name in ("ra", "rb", "wool", "spots")},
        colour=np.concatenate([blue, red]),
    )
    patch = draw(both, 0, camera, LIGHT)
    assert patch is not None
    middle = patch.colour[30 - patch.y, 40 - patch.x]
    assert middle[0] > 100 and middle[2] < 5
    swapped = draw(replace(both, a=both.a[:, ::-1], b=both.b[:, ::-1], colour=both.colour[::-1]), 0, camera, LIGHT)
    assert swapped is not None and np.allclose(swapped.colour, patch.colour) and np.array_equal(swapped.cover, patch.cover)


def test_the_light_comes_from_where_it_is() -> None:
    camera = Camera.looking(-np.pi / 2, 0.0, 7.0, 1.0, 80, 80)
    ball = one_capsule([0, 0, 0.35], [0, 0, 0.3501], 0.3, 0.3)
    for towards, brighter in (([1.0, -0.5, 0.2], "right"), ([-1.0, -0.5, 0.2], "left")):
        direction = np.array(towards) / np.linalg.norm(towards)
        patch = draw(ball, 0, camera, Light(direction, np.ones(3), np.full(3, 0.2)))
        assert patch is not None
        h, w = patch.cover.shape
        assert (patch.colour[h // 2, w * 3 // 4].mean() > patch.colour[h // 2, w // 4].mean()) == (brighter == "right")


def test_fleece_wraps_around() -> None:
    for tile in fleece_tiles():
        seam = np.abs(tile[:, 0] - tile[:, -1]).mean() / np.abs(np.diff(tile, axis=1)).mean()
        assert seam < 3


def studio_of(seed: int, difficulty: Difficulty = CLEAR, width: int = 240, height: int = 136) -> Studio:
    script: Script = [(2.0, ("standing",)), (2.0, ("moving",))]
    return set_up((seed,), script, 50, FPS, width, height, difficulty)[0]


@pytest.mark.parametrize("seed", range(5))
def test_the_mask_is_where_the_animal_changes_the_picture(seed: int) -> None:
    studio = studio_of(seed)
    for t in (5, 40):
        shots = zip(studio.cameras, studio.take(t), studio.take(t, animal=False), strict=True)
        for camera, (with_it, mask), (without, nothing) in shots:
            assert not nothing.any() and mask.any()
            change = with_it.astype(int) - without.astype(int)
            patch = draw(studio.scene.actors[0].body, t, camera, studio.scene.place.light)
            assert patch is not None
            cover = np.zeros(mask.shape)
            cover[patch.y : patch.y + patch.cover.shape[0], patch.x : patch.x + patch.cover.shape[1]] = patch.cover
            assert np.array_equal(mask, cover >= 0.5)
            assert (np.abs(change).max(-1) > 2)[mask].mean() > 0.97, "mask pixels show the animal"
            assert (change[cover == 0] <= 0).all(), "outside there is at most its shadow"
            assert (change[cover == 0] < 0).any(), "and there is a shadow"
            assert mask.sum() == pytest.approx(cover.sum(), rel=0.08)


def test_what_passes_in_front_is_cut_out_of_the_mask() -> None:
    studio = studio_of(1)
    (_, before), _ = studio.take(0)
    camera = studio.cameras[0]
    rows, columns = np.nonzero(before)
    ball_at = camera.position + 3.0 * (
        camera.axes[2]
        + (columns.mean() - camera.width / 2) / camera.focal * camera.axes[0]
        + (rows.mean() - camera.height / 2) / camera.focal * camera.axes[1]
    )
    ball = one_capsule(ball_at.tolist(), (ball_at + 1e-4).tolist(), 0.1, 0.1)
    behind = one_capsule([0.0, 0.0, -30.0], [0.0, 0.0, -30.001], 3.0, 3.0)
    for thing, hides in ((ball, True), (behind, False)):
        actor = Actor(thing, shadow=False)
        scene = replace(studio.scene, actors=(*studio.scene.actors, actor))
        mask = Studio(scene, studio.cameras, studio.lens).take(0)[0][1]
        assert (mask & ~before).sum() == 0
        assert (before & ~mask).any() == hides


def test_pictures_do_not_depend_on_the_order_they_are_taken_in() -> None:
    script: Script = [(2.0, ("standing",)), (2.0, ("moving",))]
    forwards, backwards = (set_up((7,), script, 6, FPS, 96, 64)[0] for _ in range(2))
    one = [forwards.take(t) for t in range(6)]
    two = [backwards.take(t) for t in reversed(range(6))][::-1]
    for a, b in zip(one, two, strict=True):
        for (p, m), (q, k) in zip(a, b, strict=True):
            assert np.array_equal(p, q) and np.array_equal(m, k)


@pytest.mark.parametrize("size", [(64, 64), (112, 112), (90, 160)])
def test_clips_at_any_size(size: tuple[int, int]) -> None:
    clip = render_clip(3, [(2.0, ("standing", "eating"))], 4, size)
    assert clip.frames.shape == (4, *size, 3) and clip.frames.dtype == np.uint8
    assert clip.masks.shape == (4, *size) and clip.labels.shape == (4, len(BEHAVIOURS))
    assert 0.01 < clip.masks.mean() < 0.3
    assert np.array_equal(clip.frames, render_clip(3, [(2.0, ("standing", "eating"))], 4, size).frames)
    assert not np.array_equal(clip.frames, render_clip(4, [(2.0, ("standing", "eating"))], 4, size).frames)


def test_backgrounds_can_be_shared() -> None:
    script: Script = [(2.0, ("standing",))]
    one, two, other = (
        render_clip(seed, script, 1, (64, 96), background=background, difficulty=CLEAR)
        for seed, background in ((1, 9), (2, 9), (1, 8))
    )
    outside = ~(one.masks[0] | two.masks[0])
    same = (one.frames[0] == two.frames[0]).all(-1)[outside].mean()
    assert same > 0.75, "all but the shadows"
    assert (one.frames[0] == other.frames[0]).all(-1)[outside].mean() < 0.2


# The project on disk

SMALL = PastureSettings(seed=5, annotated=4, unannotated=2, test=2, seconds=16.0, fps=5.0, step=0.4, width=96, height=64)


@pytest.fixture(scope="module")
def pasture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pasture") / "my study ü"
    simulate(folder, SMALL)
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_two_workers_write_the_same_bytes_as_one(pasture: Path, tmp_path: Path) -> None:
    counted: list[tuple[int, int]] = []
    simulate(tmp_path / "again", SMALL, lambda done, total: counted.append((done, total)), workers=2)
    assert tree(tmp_path / "again") == tree(pasture)
    assert counted == [(i, 6) for i in range(7)]


def test_other_seeds_give_other_videos(pasture: Path, tmp_path: Path) -> None:
    simulate(tmp_path, replace(SMALL, seed=6, annotated=2, unannotated=0, test=1))
    assert (tmp_path / "footage/pen_01.mp4").read_bytes() != (pasture / "footage/pen_01.mp4").read_bytes()


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def test_the_project_is_complete_and_tells_nothing_more_than_a_user_would(pasture: Path) -> None:
    project = Project.load(pasture)
    assert [video.name for video in project.videos] == [video_name(i) for i in range(6)]
    assert [video.split for video in project.videos] == ["train", "train", "test", "test", "", ""]
    for split in ("train", "test", ""):
        assert {video.group for video in project.videos if video.split == split} == set(GROUPS)
    assert all(video.path.is_file() and video.subjects == (subject_name(i),) for i, video in enumerate(project.videos))
    assert len({video.subjects for video in project.videos}) == 6 and set(project.config.views) == set(VIEWS)
    annotated, truth = read(pasture / "annotations/annotations.csv"), read(pasture / "truth/labels.csv")
    assert annotated == [row for row in truth if row["video"] in {video_name(i) for i in range(4)}]
    assert {row["video"] for row in truth} == {video_name(i) for i in range(6)}
    assert {row["behaviour"] for row in annotated} == set(BEHAVIOURS) == set(project.config.behaviours)


def test_truth_and_prompts_fit_the_footage(pasture: Path) -> None:
    import av

    table = pq.read_table(pasture / "truth/masks.parquet").to_pylist()
    project = Project.load(pasture)
    frames = [2 * i for i in range(40)]
    assert [row["frame"] for row in table if row["video"] == "pen_02" and row["view"] == "top"] == frames
    prompts = {(row["video"], row["view"]): row for row in read(pasture / "prompts/prompts.csv")}
    assert len(prompts) == 12
    for row in table:
        mask = masks.decode(row["rle"], SMALL.height, SMALL.width)
        assert row["area"] == mask.sum() and row["time"] == pytest.approx(row["frame"] / SMALL.fps)
        if row["frame"] == 0:
            prompt = prompts[row["video"], row["view"]]
            x, y, w, h = (int(prompt[name]) for name in ("x", "y", "w", "h"))
            assert mask[y : y + h, x : x + w].sum() == mask.sum() and w * h < 3.5 * mask.sum() + 200
    script_rng = np.random.default_rng((SMALL.seed, 1, 100))
    script = draw_script(draw_shares(SMALL.lying[1], script_rng), SMALL.seconds, script_rng)
    studio, motion = set_up((SMALL.seed, 1), script, 80, SMALL.fps, SMALL.width, SMALL.height)
    with av.open(str(project.videos[1].path)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert float(container.streams.video[0].average_rate or 0) == SMALL.fps
    assert len(pictures) == 80
    for t in (0, 30, 79):
        taken = np.concatenate([picture for picture, _ in studio.take(t)])
        assert np.abs(pictures[t].astype(int) - taken).mean() < 12
    bouts = [
        (row["behaviour"], float(row["start"]), float(row["stop"]))
        for row in read(pasture / "truth/labels.csv")
        if row["video"] == "pen_02"
    ]
    assert bouts == intervals(motion.labels, SMALL.fps)


def test_a_project_is_never_overwritten(pasture: Path) -> None:
    before = tree(pasture)
    with pytest.raises(FoveateError, match="already"):
        simulate(pasture, SMALL)
    assert tree(pasture) == before


def test_videos_too_short_for_their_script_are_refused_in_words() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(FoveateError, match="videos of 4 s are too short for all behaviours"):
        draw_script(draw_shares(0.45, rng), 4.0, rng)
