"""The complete scene: ten behaviours, several animals, night, bars, look-alikes and places that give behaviours away.

And the demo's footage, which none of this may change.
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from foveate import masks
from foveate.init import SHEEP
from foveate.project import Project
from foveate.schema import FoveateError
from foveate.simulate import ALL, BEHAVIOURS, ETHOGRAM, Difficulty, PastureSettings, Script, simulate
from foveate.simulate.anatomy import WATER, draw_sheep, muzzle_of, pose
from foveate.simulate.behaviour import Motion, intervals, move, script_labels
from foveate.simulate.ethogram import check_script
from foveate.simulate.furniture import RIM, Trough, see_trough
from foveate.simulate.herd import Conditions, set_up_herd
from foveate.simulate.pasture import stage
from foveate.simulate.plan import DEMO, MAINS, plan, scripts, video_name
from foveate.simulate.render import Camera, Light, draw
from foveate.simulate.scene import Canvas, Lens, Studio, infrared
from foveate.simulate.schedule import draw_day

FPS = 12.5
OPEN = Conditions()
CLEAR = Difficulty(distraction=0.0, lens=Lens(blur=0.0, noise=0.0))


# The demo


def test_the_demos_footage_is_what_it_was() -> None:
    """Recorded before the complete scene existed; a change here changes every number that was measured on the demo."""
    pictures, labels = hashlib.sha256(), hashlib.sha256()
    for video in (plan(DEMO)[0], plan(DEMO)[7]):
        studio, (motion,) = stage(DEMO, video)
        labels.update(repr(intervals(motion.labels, DEMO.fps)).encode())
        for t in (0, 37, 99):
            for picture, mask in studio.take(t):
                pictures.update(picture.tobytes())
                pictures.update(mask.tobytes())
    assert labels.hexdigest() == "aba168c35c237ec435fb324665e1a4e968af513c2a0a1e84edb9d3621d19fa9c"
    assert pictures.hexdigest() == "e24aecc3fb36d0604ffe81d61a1cc55c9de960f27f219ea313130b0015c0c382"


# Behaviours


def test_the_list_is_the_published_one() -> None:
    assert list(ALL) == SHEEP["behaviours"] and set(BEHAVIOURS) < set(ALL) and all(ETHOGRAM.values())


@pytest.mark.parametrize(
    "shown",
    [
        ("standing", "eating"),
        ("standing", "head_down", "head_up"),
        ("standing", "head_down", "drinking"),
        ("lying", "drinking"),
        ("moving", "regurgitating"),
        ("lying", "regurgitating", "head_up"),
    ],
)
def test_what_cannot_be_shown_together(shown: tuple[str, ...]) -> None:
    with pytest.raises(ValueError):
        check_script([(3.0, shown)], ALL)


def test_nobody_drinks_twice() -> None:
    with pytest.raises(ValueError, match="once"):
        check_script([(3.0, ("standing", "drinking")), (3.0, ("standing",)), (3.0, ("standing", "drinking"))], ALL)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    seconds=st.sampled_from([8.0, 20.0, 60.0]),
    lying=st.floats(0, 0.6),
    main=st.sampled_from([None, *MAINS]),
    behaviours=st.sampled_from([ALL, BEHAVIOURS]),
)
def test_drawn_days_can_be_shown(
    seed: int, seconds: float, lying: float, main: str | None, behaviours: tuple[str, ...]
) -> None:
    script = draw_day(behaviours, lying, seconds, np.random.default_rng(seed), main)
    check_script(script, behaviours)
    assert sum(s for s, _ in script) == pytest.approx(seconds)
    labels = script_labels(script, round(10 * seconds), 10, behaviours)
    if main is None:
        expected = lying if lying * seconds >= 1.8 else 0
        assert labels[:, behaviours.index("lying")].mean() == pytest.approx(expected, abs=0.02)


def test_days_show_everything_and_mostly_their_main_behaviour() -> None:
    for main in (None, *MAINS):
        shares = np.mean(
            [
                script_labels(draw_day(ALL, 0.3, 20.0, np.random.default_rng(seed), main), 200, 10, ALL).mean(0)
                for seed in range(40)
            ],
            axis=0,
        )
        assert (shares > 0.01).all()
        if main:
            assert shares[ALL.index(main)] > 0.45


def shown(motion: Motion, behaviour: str, away: int = 8) -> NDArray[np.bool_]:
    """Frames of a behaviour, away from transitions."""
    state = motion.labels[:, ALL.index(behaviour)]
    return np.array([state[max(0, t - away) : t + away + 1].all() for t in range(len(state))]) & state


MOUTHS: Script = [
    (3.0, ("standing",)),
    (5.0, ("standing", "regurgitating")),
    (4.0, ("standing", "head_down")),
    (4.0, ("standing", "head_down", "eating")),
    (4.0, ("standing", "drinking")),
    (3.0, ("standing",)),
    (5.0, ("lying", "regurgitating")),
]


@pytest.mark.parametrize("seed", range(4))
def test_the_mouth_shows_what_the_labels_say(seed: int) -> None:
    motion = move(MOUTHS, 350, FPS, np.random.default_rng(seed), ALL)
    mouth = motion.mouth
    assert mouth is not None
    build = draw_sheep(np.random.default_rng(seed), 0.35)
    muzzle = muzzle_of(pose(build, motion))[:, 2]
    ruminating, eating, drinking = (shown(motion, b) for b in ("regurgitating", "eating", "drinking"))
    still = shown(motion, "head_down") & ~motion.labels[:, ALL.index("eating")]
    still &= np.roll(still, 8) & np.roll(still, -8)
    elsewhere = ~np.convolve(motion.labels[:, ALL.index("regurgitating")], np.ones(13), "same").astype(bool)
    assert np.abs(mouth.cud[ruminating]).max() > 0.9 and (np.diff(np.sign(mouth.cud[ruminating])) != 0).sum() >= 4
    assert not mouth.cud[elsewhere].any() and not mouth.bolus[elsewhere].any()
    for bout in (slice(38, 100), slice(288, 350)):
        assert mouth.bolus[bout].max() > 0.85, "a bolus comes up in every bout"
    assert muzzle[still].max() < 0.09 and np.ptp(muzzle[still]) < 0.01, "the head at the ground is still"
    assert np.ptp(muzzle[eating]) > 0.05, "the grazing one bites"
    assert not mouth.bite[still].any()
    assert muzzle[drinking] == pytest.approx(WATER, abs=0.04) and np.ptp(muzzle[drinking]) > 0.01
    assert muzzle[ruminating & (motion.stand > 0.99)].min() > 0.4


# Several animals


def test_animals_keep_clear_of_each_other_drink_from_the_trough_and_stay_in_sight() -> None:
    study = PastureSettings(seed=2, behaviours="all", animals=2, distractors=1, annotated=8, unannotated=0, test=0)
    drinks, overlaps = [], []
    for video in plan(study):
        studio, motions = stage(replace(study, width=96, height=54), video)
        trough, animals = studio.scene.trough, studio.scene.actors[:3]
        assert trough is not None and len(motions) == 2
        for motion, actor in zip(motions, animals, strict=False):
            at = shown(motion, "drinking", 3)
            if at.any():
                x, y, z = muzzle_of(actor.body)[at].mean(0)
                c, s = np.cos(trough.yaw), np.sin(trough.yaw)
                along, across = (x - trough.x) * c + (y - trough.y) * s, (y - trough.y) * c - (x - trough.x) * s
                drinks.append(abs(along) < 0.5 and abs(across) < 0.22 and z < RIM + 0.05)
            assert np.hypot(motion.x, motion.y).max() < 3.2
        for i, one in enumerate(animals):
            for other in animals[:i]:
                gap = np.linalg.norm(one.body.b[:, 0] - other.body.b[:, 0], axis=-1).min()  # between the middles of the trunks
                overlaps.append(gap < 0.5)
    assert len(drinks) >= 6 and all(drinks)
    assert sum(overlaps) <= 1


def herd(seed: int, n: int = 2, conditions: Conditions = OPEN, alike: int = 0) -> Studio:
    script: Script = [(4.0, ("standing", "head_up")), (4.0, ("standing", "drinking"))]
    return set_up_herd((seed,), [script] * (n + alike), n, 30, 5.0, 240, 136, CLEAR, conditions)[0]


def test_masks_of_several_animals_are_what_changes_when_each_is_taken_away() -> None:
    studio = herd(3)
    for t in (5, 25):
        for (picture, both), (empty, _) in zip(studio.take_all(t), studio.take_all(t, animal=False), strict=True):
            assert both.shape == (2, 136, 240) and not (both[0] & both[1]).any()
            changed = (picture != empty).any(-1)
            assert changed[both.any(0)].mean() > 0.97
    for k in range(2):  # without the other, the mask can only grow, and by nothing that the other did not cover
        alone = replace(studio.scene, actors=(studio.scene.actors[k],), subjects=1)
        for t in (5, 25):
            shots = zip(studio.take_all(t), Studio(alone, studio.cameras, studio.lens).take_all(t), strict=True)
            for (_, both), (_, single) in shots:
                assert not (both[k] & ~single[0]).any()
                lost = single[0] & ~both[k]
                assert not lost.any() or (both[1 - k] | ~both[k])[lost].all()


def test_bodies_hide_each_other_pixel_by_pixel() -> None:
    """Two crossed poles: each is nearer at one end. The order of whole bodies cannot show that."""
    studio = herd(1)
    light, camera = studio.scene.place.light, Camera.looking(-np.pi / 2, 0.0, 7.0, 2.0, 120, 80)
    body = studio.scene.actors[0].body

    def pole(left: float, right: float, colour: list[float]) -> object:
        one = replace(
            body,
            a=np.array([[[-0.7, left, 0.35]]], np.float32),
            b=np.array([[[0.7, right, 0.35]]], np.float32),
            ra=np.array([0.1], np.float32),
            rb=np.array([0.1], np.float32),
            colour=np.array([colour], np.float32),
            wool=np.zeros(1, np.float32),
            spots=np.zeros(1, np.float32),
        )
        return draw(one, 0, camera, light, depths=True)

    for order in ((0, 1), (1, 0)):
        canvas = Canvas(np.zeros((80, 120, 3), np.uint8), 2, 0.0)
        poles = (pole(-0.5, 0.5, [1, 0, 0]), pole(0.5, -0.5, [0, 0, 1]))
        for i in order:
            canvas.add(i, poles[i])  # type: ignore[arg-type]
        first, second = canvas.cover > 0.5
        assert first[40, 30] and second[40, 90] and not first[40, 90] and not second[40, 30]
        assert canvas.picture[40, 30, 0] > 50 > canvas.picture[40, 30, 2]


def test_bars_are_in_front_and_cut_out_of_the_masks() -> None:
    free, barred = herd(4), herd(4, conditions=Conditions(bars=True))
    for (_, whole), (_, cut) in zip(free.take_all(5), barred.take_all(5), strict=True):
        assert not (cut & ~whole).any()
        assert 0.6 * whole.sum() < cut.sum() < 0.97 * whole.sum()


def test_night_is_grey_dark_at_the_edges_and_grainy() -> None:
    day, night = herd(5), herd(5, conditions=Conditions(night=True))
    for (bright, seen), (dark, same) in zip(day.take_all(3), night.take_all(3), strict=True):
        assert np.array_equal(seen, same) and np.ptp(dark, axis=-1).max() == 0 and np.ptp(bright, axis=-1).max() > 20
    flat = infrared(np.full((90, 160, 3), 128, np.uint8))
    assert flat[45, 80, 0] > 1.5 * flat[2, 2, 0]
    noisy = replace(CLEAR, lens=Lens(blur=0.0, noise=1.5))
    grain = [
        np.std(
            set_up_herd((5,), [[(8.0, ("standing",))]], 1, 2, 5.0, 96, 54, noisy, Conditions(night=n))[0]
            ._grain[0]
            .astype(float)
        )
        for n in (False, True)
    ]
    assert grain[1] > 2 * grain[0]


def test_look_alikes_are_in_the_picture_and_in_no_mask() -> None:
    studio = herd(6, n=1, alike=1)
    assert len(studio.scene.actors) == 2 and studio.scene.subjects == 1
    own, other = studio.scene.actors
    assert np.allclose(own.body.colour, other.body.colour), "they look alike"
    for (picture, seen), (without, _) in zip(studio.take_all(5), studio.take_all(5, animal=False), strict=True):
        patch = draw(other.body, 5, studio.cameras[0], studio.scene.place.light)
        assert patch is not None and seen.shape[0] == 1
        assert (picture != without).any()
        alone = Studio(replace(studio.scene, actors=(own,)), studio.cameras, studio.lens).take_all(5)
        assert any((a != picture).any() for a, _ in alone)


def test_the_trough_is_a_box_with_water_in_it() -> None:
    light = Light(np.array([0.0, 0.0, 1.0]), np.ones(3), np.ones(3))
    camera = Camera.looking(-np.pi / 2, np.radians(45), 7.0, 3.0, 160, 120)
    patch = see_trough(Trough(0.0, 0.0, 0.0), camera, light)
    assert patch is not None and patch.depths is not None
    u, v, depth = camera.project(np.array([[0.0, 0.0, WATER], [0.3, -0.22, 0.1]]))
    for i, dark in ((0, True), (1, False)):
        x, y = int(u[i]) - patch.x, int(v[i]) - patch.y
        assert patch.cover[y, x] == 1 and patch.depths[y, x] == pytest.approx(depth[i], abs=0.03)
        red, _, blue = patch.colour[y, x]
        assert (blue > 1.15 * red) == dark, "water is blue, zinc grey"


# Places that give behaviours away


def association(pairs: list[tuple[str, int]]) -> float:
    """Cramér's V between main behaviour and pen, 0..1."""
    table = np.zeros((len(MAINS), len(MAINS)))
    for (main, pen), n in Counter(pairs).items():
        table[MAINS.index(main), pen] = n
    expected = np.outer(table.sum(1), table.sum(0)) / table.sum()
    return float(np.sqrt(((table - expected) ** 2 / np.maximum(expected, 1e-9)).sum() / table.sum() / (len(MAINS) - 1)))


@pytest.mark.parametrize(("strength", "low", "high"), [(0.0, 0.0, 0.2), (0.5, 0.35, 0.65), (1.0, 1.0, 1.0)])
def test_the_place_tells_the_behaviour_in_training_videos_alone(strength: float, low: float, high: float) -> None:
    study = PastureSettings(seed=1, annotated=400, test=200, unannotated=200, background_correlation=strength)
    for split in ("train", "test", ""):
        pairs = [(video.main, video.pen) for video in plan(study) if video.split == split]
        v = association(pairs)
        if split == "train":
            assert low <= v <= high + 1e-9
        else:
            assert v < 0.2


def test_main_behaviours_are_spread_over_groups_and_nights_over_splits() -> None:
    study = PastureSettings(annotated=16, test=4, unannotated=16, background_correlation=1.0, night=0.5)
    videos = plan(study)
    assert set(Counter((v.main, v.group) for v in videos).values()) == {4}
    for split, n in (("train", 6), ("test", 2), ("", 8)):
        assert sum(v.night for v in videos if v.split == split) == n


# On disk

STUDY = PastureSettings(
    seed=4, annotated=3, unannotated=1, test=1, seconds=10.0, fps=2.0, width=160, height=90, behaviours="all",
    animals=2, distractors=1, night=0.5, bars=True, background_correlation=1.0, step=1.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    simulate(folder, STUDY)
    return folder


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def test_a_study_of_several_animals_is_a_project(study: Path) -> None:
    project = Project.load(study)
    assert [len(video.subjects) for video in project.videos] == [2] * 4 and len(project.subjects) == 8
    assert project.config.behaviours == ALL
    prompts = {(r["video"], r["view"], r["subject"]): r for r in read(study / "prompts/prompts.csv")}
    assert len(prompts) == 4 * 2 * 2
    table = pq.read_table(study / "truth/masks.parquet").to_pylist()
    assert len(table) == 4 * 2 * 2 * 10
    for row in table:
        mask = masks.decode(row["rle"], 90, 160)
        assert mask.sum() == row["area"]
        prompt = prompts[row["video"], row["view"], row["subject"]]
        if row["frame"] == int(prompt["frame"]):
            x, y, w, h = (int(prompt[name]) for name in "xywh")
            assert mask[y : y + h, x : x + w].sum() == mask.sum() > 0
    truth = {(r["video"], r["subject"]) for r in read(study / "truth/labels.csv")}
    assert truth == {(v.name, s) for v in project.videos for s in v.subjects}
    annotated = {r["video"] for r in read(study / "annotations/annotations.csv")}
    assert annotated == {video_name(i) for i in range(3)}


def test_labels_on_disk_are_those_of_the_scripts(study: Path) -> None:
    rows = read(study / "truth/labels.csv")
    for video in plan(STUDY)[:2]:
        for subject, script in zip(video.subjects, scripts(STUDY, video), strict=False):
            labels = script_labels(script, 20, STUDY.fps, ALL)
            own = [(r["behaviour"], float(r["start"]), float(r["stop"])) for r in rows if r["subject"] == subject]
            assert own == intervals(labels, STUDY.fps, ALL)


def test_in_training_videos_of_a_study_the_pen_follows_the_time_spent(study: Path) -> None:
    """From the truth files alone: the behaviour among MAINS with the most time, against the pen that it was filmed in."""
    bouts, videos = read(study / "truth/labels.csv"), read(study / "truth/videos.csv")
    for video in videos:
        spent: Counter[str] = Counter()
        for bout in bouts:
            if bout["video"] == video["video"] and bout["behaviour"] in MAINS:
                spent[bout["behaviour"]] += float(bout["stop"]) - float(bout["start"])  # type: ignore[assignment]
        assert spent.most_common(1)[0][0] == video["main"]
        if video["split"] == "train":
            assert MAINS[int(video["pen"])] == video["main"]


@pytest.mark.parametrize(
    "wrong",
    [{"animals": 0}, {"night": 2.0}, {"seconds": 3.0}, {"background_correlation": -1.0}, {"distractors": 9}, {"annotated": 0}],
)
def test_settings_out_of_range(wrong: dict[str, float], tmp_path: Path) -> None:
    with pytest.raises(FoveateError) as caught:
        simulate(tmp_path, replace(PastureSettings(), **wrong))  # type: ignore[arg-type]
    assert caught.value.remedy and not any(tmp_path.iterdir())


def test_the_command_hands_its_options_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from foveate import cli

    asked: list[PastureSettings] = []
    monkeypatch.setattr("foveate.simulate.simulate", lambda folder, settings, **_: asked.append(settings))
    assert cli.main(["simulate", str(tmp_path)]) == 0
    words = "--behaviours all --videos 16 --minutes 0.5 --animals 2 --distractors 1 --night 0.25 --bars --background-correlation 0.8"
    assert cli.main(["simulate", str(tmp_path), "--seed", "3", *words.split()]) == 0
    assert asked[0] == DEMO
    assert asked[1] == PastureSettings(
        seed=3, annotated=8, unannotated=8, test=2, seconds=30.0, behaviours="all", animals=2, distractors=1, night=0.25,
        bars=True, background_correlation=0.8,
    )  # fmt: skip
