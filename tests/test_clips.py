"""Clips of several frames: where they can be cut, what they hold, and the promises of the sampler about them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from foveate import masks, track
from foveate.data import cutting, sources
from foveate.data.clips import Clips, Shape
from foveate.data.sampler import Sampler
from foveate.data.sources import Source
from foveate.framestore import read_crops
from foveate.project import Project
from foveate.schema import FoveateError
from tests.embedded import make


class Film:
    """A source whose pictures show their number, and which counts what is read of it."""

    def __init__(self, time: Sequence[float], name: str = "film", together: int = 12, **more: object) -> None:
        self.reads: list[int] = []
        count = len(time)
        whole = np.tile(np.array([0, 0, 1, 1], np.float32), (count, 1))
        given = {"valid": whole, "together": together, **more}
        self.source = Source(
            name, name, "", (2, 4), frame=3 * np.arange(count), time=np.asarray(time, float), read=self.read, **given
        )

    def read(self, start: int, count: int) -> list[np.ndarray]:
        self.reads.append(start)
        return [np.full((2, 4, 3), (start + k) % 256, np.uint8) for k in range(count)]


def taken(sampler: Sampler, start: int, stop: int) -> list[Clips]:
    return list(itertools.islice(sampler.batches(start), stop - start))


def shown(batch: Clips) -> np.ndarray:
    """The numbers that the pictures show, [B, V, T]."""
    return batch.frames[:, :, :, 0, 0, 0].numpy()


# --- where clips can be cut --------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@example(gaps=[0.02, 0.02, 0.02, 0.1, 0.1], cuts=set(), frames=2, step=0.25)  # the clip ends half a picture after the last
@given(
    gaps=st.lists(st.sampled_from([0.02, 0.04, 0.05, 0.1, 0.7]), max_size=40),
    cuts=st.sets(st.integers(1, 40), max_size=3),
    frames=st.integers(2, 5),
    step=st.sampled_from([0.04, 0.1, 0.25, 1.0]),
)
def test_clips_are_cut_wherever_time_allows_and_nowhere_else(
    gaps: list[float], cuts: set[int], frames: int, step: float
) -> None:
    """Against the definition, one clip at a time, on timelines of variable rate."""
    time = np.cumsum([0.0, *gaps])
    stretch = np.searchsorted(sorted(cuts), np.arange(len(time)), "right")
    source, shape = Film(time, stretch=stretch).source, Shape(frames, step)
    expected = {}
    for start in range(len(time)):
        instants = time[start] + step * np.arange(frames)
        # 1e-6 s is what the code allows for rounding: of two pictures equally near, the earlier one
        picks = [int(np.argmin(np.abs(time - instant) + 1e-7 * np.arange(len(time)))) for instant in instants]
        near = all(abs(time[k] - instant) <= step / 2 + 1e-6 for k, instant in zip(picks, instants, strict=True))
        near &= len(time) > 1 and instants[-1] <= time[-1] + np.median(np.diff(time)) / 2 + 1e-6
        if near and len(set(picks)) == frames and len({stretch[k] for k in picks}) == 1:
            expected[start] = picks
    found = cutting.starts(source, shape)
    assert found.tolist() == sorted(expected)
    assert cutting.positions(source, shape, found).tolist() == [expected[start] for start in sorted(expected)]


def test_the_last_starts_are_those_whose_clip_still_fits() -> None:
    source = Film(np.arange(100) / 10).source  # 9.9 s from first to last
    assert cutting.starts(source, Shape(4, 1.0)).tolist() == list(range(70))
    assert cutting.starts(source, Shape(1)).tolist() == list(range(100))


def test_rates_that_differ_by_a_hair_are_no_obstacle() -> None:
    source = Film(np.arange(200) * 1001 / 30000).source
    assert len(cutting.starts(source, Shape(16, 1 / 30))) == 200 - 15


@pytest.mark.parametrize(
    ("time", "shape", "words"),
    [
        (np.arange(30) / 10, Shape(8, 1.0), "2.90 s is shorter than a clip of 8 frames, 1 s apart"),
        ([0.0], Shape(2, 0.1), "one picture makes no clip"),
        (np.arange(50) * 1.0, Shape(8, 0.1), "its pictures are 1 s apart, too far"),
        ([np.nan] * 5, Shape(2, 0.1), "without a time"),
    ],
)
def test_what_is_too_short_is_left_out_and_told(time: Sequence[float], shape: Shape, words: str) -> None:
    bad, good = Film(time, "bad").source, Film(np.arange(200) / 20, "good").source
    sampler = Sampler([bad, good], 4, shape=shape)
    assert [words in sentence and sentence.startswith("bad: ") for sentence in sampler.left_out] == [True]
    assert set(next(sampler.batches()).where[..., 0].flatten().tolist()) == {1}
    with pytest.raises(FoveateError, match="there are 0 clips") as caught:
        Sampler([bad], 4, shape=shape)
    assert words in caught.value.problem


def test_broken_footage_is_told() -> None:
    source = Film(np.arange(100) / 10, stretch=np.arange(100) // 5).source
    assert "between cuts and gaps" in Sampler([source, Film(np.arange(100) / 10).source], 4, shape=Shape(4, 0.5)).left_out[0]


@pytest.mark.parametrize("wrong", [{"frames": 0}, {"frames": 2}, {"draws": 0}, {"piece": -1.0}, {"frames": 2, "step": -1.0}])
def test_shapes_that_are_none(wrong: dict[str, float]) -> None:
    with pytest.raises(FoveateError):
        Shape(**wrong)  # type: ignore[arg-type]


# --- every start once --------------------------------------------------------------------------------------------------------------


def films() -> list[Film]:
    return [Film(np.arange(90) / 10, "a"), Film(np.arange(7) / 10, "short"), Film(np.arange(61) / 20, "b", files=(0, 20))]


@pytest.mark.parametrize("buffer", [25, 1000])
def test_a_pass_has_every_start_once_with_the_right_frames(buffer: int) -> None:
    made = films()
    sampler = Sampler([film.source for film in made], 5, seed=3, shape=Shape(4, 0.3), buffer=buffer)
    assert sampler.count == 81 + (61 - 18) and len(sampler.left_out) == 1
    begun = set()
    for step, batch in enumerate(taken(sampler, 0, sampler.steps_per_pass)):
        assert batch.frames.shape == (5, 1, 4, 3, 2, 4) and batch.frames.dtype == torch.uint8
        source, position = batch.where[..., 0].numpy(), batch.where[..., 1].numpy()
        assert (shown(batch) == position).all() and (batch.where[..., 2].numpy() == 3 * position).all()
        apart = np.where(source[:, 0, :1] == 0, 3, 6)  # pictures in 0.3 s
        assert (np.diff(position[:, 0], axis=1) == apart).all()
        assert np.allclose(np.diff(batch.time.numpy()), 0.3) and batch.index.tolist() == list(range(5 * step, 5 * step + 5))
        begun |= {(int(s), int(p)) for s, p in zip(source[:, 0, 0], position[:, 0, 0], strict=True)}
    assert len(begun) == 5 * sampler.steps_per_pass and {source for source, _ in begun} == {0, 2}
    everything = {0, *(start for film in made for start in range(0, 90, 12)), *range(20, 61, 12)}
    assert {start for film in made for start in film.reads} <= everything  # always from where a group begins


@pytest.mark.parametrize("shape", [Shape(4, 0.3), Shape(3, 0.2, draws=2, piece=1.5)])
@pytest.mark.parametrize("buffer", [25, 1000])
def test_clips_resume_and_divide(shape: Shape, buffer: int) -> None:
    made = [Film(np.arange(90) / 10, "a").source, Film(np.arange(161) / 20, "b").source]
    whole = taken(Sampler(made, 4, seed=3, shape=shape, buffer=buffer), 0, 70 if shape.draws == 1 else 9)
    for step in (1, len(whole) // 2, len(whole) - 1):
        for batch, again in zip(
            whole[step:], taken(Sampler(made, 4, seed=3, shape=shape, buffer=buffer), step, len(whole)), strict=True
        ):
            assert all(torch.equal(batch.tensors()[name], value) for name, value in again.tensors().items())
    halves = [
        taken(Sampler(made, 4, seed=3, shape=shape, buffer=buffer, rank=k, ranks=2, workers=1), 0, len(whole)) for k in (0, 1)
    ]
    for batch, first, second in zip(whole, *halves, strict=True):
        for name, value in batch.tensors().items():
            assert torch.equal(value, torch.cat([first.tensors()[name], second.tensors()[name]]))


def test_clips_cost_little_more_reading_than_their_pictures() -> None:
    """Twelve clips of a group come from the groups that their frames lie in, read once each; and a set that fits is read once."""
    film = Film(np.arange(1200) / 10)
    sampler = Sampler([film.source], 10, shape=Shape(4, 0.4), buffer=100)
    taken(sampler, 0, sampler.steps_per_pass)
    assert len(film.reads) <= 2.1 * 100 * (1 + 4 / 100)  # a span of 12 pictures: two groups for each; a little of the next pass
    small = Film(np.arange(120) / 10)
    taken(Sampler([small.source], 10, shape=Shape(4, 0.4)), 0, 30)
    assert sorted(small.reads) == list(range(0, 120, 12))


def test_memory_of_clips_is_bounded() -> None:
    alive = most = 0

    class Counted(np.ndarray):
        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    class Watched(Sampler):
        def _load(self, number, block, wanted):  # type: ignore[no-untyped-def]
            nonlocal alive, most
            held = super()._load(number, block, wanted)
            held.pictures.update({position: one.view(Counted) for position, one in held.pictures.items()})
            alive += len(held.pictures)
            most = max(most, alive)
            return held

    sampler = Watched([Film(np.arange(1500) / 10).source], 10, shape=Shape(4, 0.4), buffer=200, workers=1)
    for _ in zip(range(200), sampler.batches(), strict=False):
        pass
    assert 200 < most < 200 * 2 + 24 * 10  # twice as many pictures as clips, and what is read ahead


# --- random clips from pieces ------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(1, 200), min_size=1, max_size=4), piece=st.sampled_from([None, 1.0, 2.5, 60.0]))
def test_pieces_are_of_equal_length_and_hold_their_clips(lengths: list[int], piece: float | None) -> None:
    made, shape = [Film(np.arange(n) / 10).source for n in lengths], Shape(3, 0.2, draws=2, piece=piece)
    for source in made:
        begin = cutting.starts(source, shape)
        found = cutting.pieces(source, shape, begin)
        most = 1 if piece is None else max(1, int(len(source) / 10 / piece + 1e-9))
        assert len(found) <= most and (len(found) == most or len(begin) < len(source))
        ends = cutting.positions(source, shape, begin)[:, -1]
        for (_, high), (low, _) in itertools.pairwise(found.tolist()):
            assert ends[high - 1] <= begin[low]  # no picture but that on the border is in two pieces


def test_a_pass_draws_independent_clips_of_every_piece() -> None:
    made = [Film(np.arange(200) / 10, "a").source, Film(np.arange(100) / 10, "b").source]
    sampler = Sampler(made, 3, seed=1, shape=Shape(3, 0.2, draws=2, piece=5.0), buffer=4)
    assert sampler.count == 6
    first, second = (taken(sampler, 2 * k, 2 * k + 2) for k in (0, 1))
    pieces = []
    for batch in (*first, *second):
        assert batch.frames.shape == (3, 2, 3, 3, 2, 4) and (shown(batch) == batch.where[..., 1].numpy()).all()
        place = batch.where[..., 1].numpy() // 50
        assert (place == place[:, :1, :1]).all()  # both draws of an item are of one piece
        pieces += [(int(s), int(p)) for s, p in zip(batch.where[:, 0, 0, 0], place[:, 0, 0], strict=True)]
    everything = [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1)]
    assert sorted(pieces[:6]) == sorted(pieces[6:]) == everything
    many = np.concatenate([batch.where[:, :, 0, 1].numpy() % 50 for batch in taken(sampler, 0, 200)])  # [600, 2] starts
    assert many.min() == 0 and many.max() == 46 and abs(np.corrcoef(many.T)[0, 1]) < 0.15
    assert np.abs(many.mean(axis=0) - 23).max() < 2  # uniform over the 47 starts


def test_a_rule_chooses_and_where_it_finds_nothing_masks_are_empty() -> None:
    rles = pa.array([masks.encode(np.ones((2, 4), bool))] * 100)
    made = [Film(np.arange(100) / 10, name, rles=rles).source for name in "ab"]

    class InTheMiddle:
        def accepts(self, source: Source, positions: np.ndarray) -> np.ndarray:
            return (source.name == "a") & (positions[:, 1] >= 40) & (positions[:, 1] < 60)

    sampler = Sampler(made, 2, shape=Shape(3, 0.2, draws=2), rule=InTheMiddle(), with_masks=True)
    plain = Sampler(made, 2, shape=Shape(3, 0.2, draws=2), with_masks=True)
    for batch, other in zip(taken(sampler, 0, 40), taken(plain, 0, 40), strict=True):
        assert batch.masks is not None and other.masks is not None and other.masks.all()
        for place, mask, source in zip(batch.where[..., 1].numpy(), batch.masks, batch.where[:, 0, 0, 0].tolist(), strict=True):
            assert bool(mask.all()) == (source == 0) and bool(mask.any()) == (source == 0)
            if source == 0:
                assert ((place[:, 1] >= 40) & (place[:, 1] < 60)).all()
    ordinary = np.concatenate([b.where[b.where[:, 0, 0, 0] == 1][:, :, 0, 1] for b in taken(sampler, 0, 100)])
    assert ordinary.min() < 10 and ordinary.max() > 85


# --- real sources ------------------------------------------------------------------------------------------------------------------


def test_stretches_end_at_gaps_and_cuts() -> None:
    analysed = np.arange(0, 100, 5)
    frame = np.array([0, 5, 15, 20, 25, 30])
    assert sources.stretches(frame, analysed, np.array([], int)).tolist() == [0, 0, 1, 1, 1, 1]
    assert sources.stretches(frame, analysed, np.array([25])).tolist() == [0, 0, 1, 1, 2, 2]
    assert sources.stretches(frame, analysed, np.array([12])).tolist() == [0, 0, 1, 1, 1, 1]  # one place, both reasons
    assert sources.stretches(frame[:0], analysed, np.array([25])).tolist() == []


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project.load(make(tmp_path_factory.mktemp("clips") / "study"))


def test_clips_of_crops_cross_parts_but_neither_gaps_nor_cuts(study: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    given = sources.crop_sources(study, study.videos)
    found = sources.joined(given)
    assert [(one.view, one.subject, len(one), one.files) for one in found] == [
        ("left", "anna", 29, (0, 19)),
        ("left", "bela", 30, (0, 20)),
        ("right", "anna", 30, (0, 20)),
    ]
    sampler = Sampler(found, 4, shape=Shape(5, 0.2), buffer=30, with_masks=True)
    assert sampler.count == (29 - 5 - 8) + (30 - 8) * 2  # the frame without anna is a gap: the 5 pictures before it are too few
    folder = study.folder / "crops" / "v 1"
    stored = [
        [*read_crops(folder / name / "part-00000.mp4"), *read_crops(folder / name / "part-00001.mp4")]
        for name in ("left/anna", "left/bela")
    ]
    crossed = 0
    for batch in taken(sampler, 0, sampler.steps_per_pass):
        assert batch.masks is not None
        for i, (source, place) in enumerate(
            zip(batch.where[:, 0, 0, 0].tolist(), batch.where[:, 0, :, 1].tolist(), strict=True)
        ):
            assert np.allclose(np.diff(batch.time[i, 0].numpy()), 0.2) and (batch.where[i, 0, :, 2] >= 6).all() >= (source == 0)
            crossed += place[0] < found[source].files[1] <= place[-1]
            content = found[source].valid[place]
            assert np.allclose(batch.valid[i], [*content[:, :2].max(axis=0), *content[:, 2:].min(axis=0)])
            for t, position in enumerate(place) if source < 2 else ():
                assert (batch.frames[i, 0, t].permute(1, 2, 0).numpy() == stored[source][position]).all()
                assert (batch.masks[i, 0, t].numpy() == masks.decode(found[source].rles[position].as_py(), 64, 64)).all()
    assert crossed > 10
    monkeypatch.setattr(track.events, "cuts", lambda target, view: np.array([15] if view == "right" else [], int))
    cut = sources.joined(sources.crop_sources(study, study.videos))
    assert len(cutting.starts(cut[2], Shape(5, 0.2))) == (15 - 8) * 2


def test_sources_without_parts_stay_as_they_are(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    folders = [sources.folder_source(tmp_path), sources.folder_source(tmp_path)]
    assert sources.joined(folders) == folders
    alone = replace(Film(np.arange(9) / 10).source, name="v/full/part-00000")
    assert sources.joined([alone]) == [alone]
