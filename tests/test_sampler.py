"""The order of training, and what batches hold: planned orders, stores, letterboxes, memory."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from foveate import crops, masks, timeline
from foveate.data import sources, views
from foveate.data.clips import Clips
from foveate.data.sampler import Sampler
from foveate.data.sources import Source
from foveate.framestore import read_crops
from foveate.project import Project
from foveate.schema import FoveateError
from foveate.settings import View
from tests.embedded import FRAMES, make


class Stored:
    """A source whose pictures are filled with their number, and which counts what is read of it."""

    def __init__(self, count: int, first: int = 0, size: tuple[int, int] = (4, 6), together: int = 12) -> None:
        self.count, self.first, self.size, self.together = count, first, size, together
        self.reads: list[tuple[int, int]] = []

    def read(self, start: int, count: int) -> Sequence[np.ndarray]:
        assert start % self.together == 0 and start + count <= self.count
        self.reads.append((start, count))
        return [np.full((*self.size, 3), (self.first + start + k) % 256, np.uint8) for k in range(count)]

    def source(self) -> Source:
        number = np.arange(self.count)
        whole = np.tile(np.array([0, 0, 1, 1], np.float32), (self.count, 1))
        return Source(f"s{self.first}", "v", "anna", self.size, number, number / 10, whole, self.read, self.together)


def stores(*counts: int) -> list[Stored]:
    return [Stored(count, first) for count, first in zip(counts, itertools.accumulate((0, *counts)), strict=False)]


def numbers(batch: Clips) -> list[int]:
    return batch.frames[:, 0, 0, 0, 0, 0].tolist()


def taken(sampler: Sampler, start: int, stop: int) -> list[Clips]:
    return list(itertools.islice(sampler.batches(start), stop - start))


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    batch=st.integers(1, 8),
    buffer=st.integers(1, 60),
    seed=st.integers(0, 2**40),
)
def test_a_pass_is_every_picture_once(counts: list[int], batch: int, buffer: int, seed: int) -> None:
    if sum(counts) < batch:
        return
    sampler = Sampler([one.source() for one in stores(*counts)], batch, seed, buffer=buffer)
    assert sampler.steps_per_pass == sum(counts) // batch
    for number in (0, 3):
        order = sampler.order(number)
        assert sorted(order.tolist()) == list(range(sum(counts)))
        steps = range(number * sampler.steps_per_pass, (number + 1) * sampler.steps_per_pass)
        seen = np.concatenate([sampler.samples(step) for step in steps])
        assert seen.tolist() == order[: len(seen)].tolist()  # what is left over is dropped


def test_batches_hold_what_the_order_says_from_any_step_on() -> None:
    sampler = Sampler([one.source() for one in stores(50, 7, 33)], 8, seed=5, buffer=20)
    whole = taken(sampler, 0, 25)  # two passes and a bit
    for step, batch in enumerate(whole):
        assert numbers(batch) == sampler.samples(step).tolist()
        assert batch.index.tolist() == list(range(8 * step, 8 * step + 8))
        source, position = batch.where[:, 0, 0, 0], batch.where[:, 0, 0, 1]
        assert (torch.tensor([0, 50, 57])[source] + position).tolist() == numbers(batch)
        assert torch.equal(batch.time[:, 0, 0], position.double() / 10)
        assert batch.frames.shape == (8, 1, 1, 3, 4, 6) and batch.frames.dtype == torch.uint8
    for step in (1, 10, 11, 24):  # within a pass, and at both sides of where they meet
        for batch, again in zip(whole[step:], taken(sampler, step, 25), strict=True):
            assert all(torch.equal(batch.tensors()[name], value) for name, value in again.tensors().items())


def test_passes_seeds_and_buffers_differ() -> None:
    given = [one.source() for one in stores(60, 60)]
    orders = [
        Sampler(given, 4, seed, buffer=buffer).order(number) for seed, number, buffer in [(0, 0, 48), (0, 1, 48), (1, 0, 48)]
    ]
    assert all((a != b).mean() > 0.9 for a, b in itertools.combinations(orders, 2))


def test_the_order_is_the_same_everywhere() -> None:
    """Recorded once: another order would make a resumed run another run, and published runs unrepeatable."""
    order = Sampler([one.source() for one in stores(20, 15)], 4, seed=7, buffer=10).order(2)
    recorded = [
        34,
        21,
        20,
        23,
        33,
        25,
        22,
        32,
        26,
        29,
        24,
        27,
        16,
        28,
        30,
        15,
        12,
        13,
        0,
        31,
        14,
        19,
        17,
        18,
        2,
        1,
        4,
        3,
        6,
        8,
        11,
        5,
        7,
        9,
        10,
    ]
    assert order.tolist() == recorded


def test_neighbours_are_torn_apart() -> None:
    """Of pictures that are read together, few are shown together: as few as in a perfect shuffle once the buffer is large."""
    given = [Stored(1200, together=12).source()]

    def together(buffer: int) -> float:
        sampler = Sampler(given, 16, seed=0, buffer=buffer)
        blocks = np.stack([sampler.samples(step) for step in range(sampler.steps_per_pass)]) // 12
        return float(np.mean([16 - len(set(row)) for row in blocks.tolist()]))

    perfect = 16 - 100 * (1 - (1 - 16 / 1200) ** 12)
    assert together(1) > 10 and together(1200) == pytest.approx(perfect, abs=0.2)
    assert perfect < together(600) < 3.0


def test_processes_share_a_batch() -> None:
    given = [one.source() for one in stores(40, 30)]
    whole = taken(Sampler(given, 8, seed=1, buffer=16), 0, 20)
    halves = [taken(Sampler(given, 8, seed=1, buffer=16, rank=rank, ranks=2), 0, 20) for rank in (0, 1)]
    for batch, first, second in zip(whole, *halves, strict=True):
        for name, value in batch.tensors().items():
            assert torch.equal(value, torch.cat([first.tensors()[name], second.tensors()[name]]))


def test_readers_change_nothing() -> None:
    given = [one.source() for one in stores(100)]
    one, many = (taken(Sampler(given, 8, seed=1, buffer=30, workers=workers), 3, 15) for workers in (1, 4))
    assert [numbers(batch) for batch in one] == [numbers(batch) for batch in many]


def test_files_are_read_in_whole_groups_and_once_per_pass() -> None:
    store = Stored(100)
    sampler = Sampler([store.source()], 10, seed=0, buffer=50)
    for _ in zip(range(10), sampler.batches(), strict=False):
        pass
    blocks = [(start, min(12, 100 - start)) for start in range(0, 100, 12)]
    assert [store.reads.count(block) for block in blocks] == [1] * len(blocks) or len(store.reads) <= 2 * len(
        blocks
    )  # the next pass's
    assert set(store.reads) == set(blocks)


def test_a_set_that_fits_is_read_once() -> None:
    store = Stored(100)
    sampler = Sampler([store.source()], 10, seed=0, buffer=100)
    assert len({tuple(sorted(numbers(batch))) for batch in taken(sampler, 0, 50)}) > 45
    assert len(store.reads) == 9


def test_memory_is_bounded_by_the_buffer() -> None:
    alive, most = 0, 0

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

    sampler = Watched([Stored(3000).source()], 10, seed=0, buffer=400, workers=1)
    for _ in zip(range(600), sampler.batches(), strict=False):
        pass
    assert 100 < most < 400


def test_what_cannot_be_sampled_is_refused() -> None:
    given = [one.source() for one in stores(20)]
    with pytest.raises(FoveateError, match="20 pictures, fewer than a batch of 64"):
        Sampler(given, 64)
    with pytest.raises(FoveateError, match="cannot be divided among 3 processes"):
        Sampler(given, 16, ranks=3)


def test_a_file_that_breaks_is_told_where_its_batch_would_have_come() -> None:
    class Broken(Stored):
        def read(self, start: int, count: int) -> Sequence[np.ndarray]:
            if start == 24:
                raise FoveateError("this file is damaged", file="part.mp4")
            return super().read(start, count)

    sampler = Sampler([Broken(120).source()], 4, seed=0, buffer=8)
    number = next(step for step in range(30) if (sampler.samples(step) // 12 == 2).any())
    batches = sampler.batches()
    for _ in range(number):
        next(batches)
    with pytest.raises(FoveateError, match="damaged"):
        next(batches)


def test_pictures_of_several_sizes_are_letterboxed() -> None:
    given = [Stored(6, 0, (4, 8)).source(), Stored(6, 6, (6, 4)).source()]
    batch = next(Sampler(given, 12, buffer=4).batches())
    assert batch.frames.shape[-2:] == (6, 8)
    for number, frame, valid in zip(numbers(batch), batch.frames[:, 0, 0], batch.valid, strict=True):
        h, w = (4, 8) if number < 6 else (6, 4)
        assert valid.tolist() == pytest.approx([0, 0, w / 8, h / 6])
        assert (frame[:, :h, :w] == number).all() and (frame[:, h:] == 114).all() and (frame[:, :, w:] == 114).all()


def test_a_look_is_even_and_knows_no_seed() -> None:
    given = [one.source() for one in stores(50, 50)]
    looks = [Sampler(given, 4, seed=seed).evenly(11) for seed in (1, 2)]
    assert numbers(looks[0]) == numbers(looks[1]) == np.linspace(0, 99, 11).round().tolist()
    assert len(Sampler(given, 4).evenly(1000)) == 100


# --- sources ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project.load(make(tmp_path_factory.mktemp("sources") / "study"))


def test_crops_come_with_their_masks(study: Project) -> None:
    found = sources.crop_sources(study, study.videos)
    assert [(one.subject, len(one)) for one in found] == [
        ("anna", 19),
        ("anna", 10),
        ("bela", 20),
        ("bela", 10),
        ("anna", 20),
        ("anna", 10),
    ]
    sampler = Sampler(found, 8, buffer=30, with_masks=True)
    folder = study.folder / "crops" / "v 1" / "left" / "anna"
    pictures = list(read_crops(folder / "part-00000.mp4"))
    for batch in taken(sampler, 0, sampler.steps_per_pass):
        assert batch.masks is not None and batch.masks.shape == (8, 1, 1, 64, 64)
        for i, (source, position, frame, subject) in enumerate(batch.where[:, 0, 0].tolist()):
            one = found[source]
            assert one.frame[position] == frame and subject == ["anna", "bela"].index(one.subject)
            assert (batch.masks[i, 0, 0].numpy() == masks.decode(one.rles[position].as_py(), 64, 64)).all()
            if source == 0:
                assert (batch.frames[i, 0, 0].permute(1, 2, 0).numpy() == pictures[position]).all()
                x0, y0, x1, y1 = (one.valid[position] * 64).tolist()
                low, high = batch.masks[i, 0, 0].nonzero().aminmax(dim=0)
                assert (low >= torch.tensor([y0 - 1, x0 - 1])).all() and (high <= torch.tensor([y1, x1])).all()


def test_in_mode_paper_the_content_is_the_published_rectangle(study: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    store = crops.artefact(study, study.videos[0])
    monkeypatch.setattr(crops, "artefact", lambda project, video: store)  # the same store, read as either mode
    paper = replace(
        study, config=study.config.model_copy(update={"crop": study.config.crop.model_copy(update={"mode": "paper"})})
    )
    row = store.table("left/anna/part-00000.parquet").to_pylist()[3]
    for project, name in ((study, "valid"), (paper, "rect")):
        x, y, w, h = (row[f"{name}_{side}"] for side in "xywh")
        found = sources.crop_sources(project, study.videos)[0]
        assert np.allclose(found.valid[3] * 64, np.clip([x, y, x + w, y + h], 0, 64), atol=1e-4)


def test_whole_views_are_stored_once_and_read_like_crops(study: Project) -> None:
    with pytest.raises(FoveateError, match="stage clips is missing"):
        sources.view_sources(study, study.videos)
    made = views.run(study, study.videos[0])
    assert views.run(study, study.videos[0]).complete() and made.facts()["sizes"] == {"left": [96, 96], "right": [96, 96]}
    found = sources.view_sources(study, study.videos)
    assert [len(one) for one in found] == [FRAMES, FRAMES]
    right = found[1].read(12, 12)
    times = timeline.analysed(study, study.videos[0]).time
    assert np.allclose(found[1].time, times) and right[0].shape == (96, 96, 3)
    picture = right[3].astype(int)  # frame 15: the green animal at x 4 + 15 of this view
    assert np.abs(picture[55:65, 22:42] - (30, 220, 40)).mean() < 25
    (made.folder / "right" / "part-00000.mp4").write_bytes(b"broken")
    with pytest.raises(FoveateError, match=r"clips is missing|damaged"):
        sources.view_sources(study, study.videos)


def test_stored_views_are_even_and_never_enlarged() -> None:
    assert views.stored_size(View(x=0, y=0, w=960, h=540)) == (512, 288)
    assert views.stored_size(View(x=0, y=0, w=101, h=75)) == (100, 76) or views.stored_size(View(x=0, y=0, w=101, h=75)) == (
        102,
        76,
    )


def test_a_folder_of_pictures(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    wide = Image.new("RGB", (64, 32), (200, 10, 10))
    wide.save(tmp_path / "b" / "wide.png")
    lying = Image.Exif()
    lying[0x0112] = 6
    Image.new("RGB", (48, 24), (10, 200, 10)).save(tmp_path / "a.jpg", exif=lying)
    (tmp_path / "notes.txt").write_text("no picture")
    found = sources.folder_source(tmp_path, short_side=16)
    assert len(found) == 2 and found.size == (32, 32)
    tall, broad = found.read(0, 2)
    assert tall.shape == (32, 16, 3) and broad.shape == (16, 32, 3)
    assert np.abs(tall.astype(int) - (10, 200, 10)).max() < 20 and (broad == (200, 10, 10)).all()
    batch = next(Sampler([found], 2).batches())
    assert batch.time.isnan().all() and batch.frames.shape[-2:] == (32, 32)
    (tmp_path / "c.jpg").write_bytes(b"not a picture")
    with pytest.raises(FoveateError, match=r"cannot be opened") as caught:
        sources.folder_source(tmp_path)
    assert caught.value.file == tmp_path / "c.jpg"
    (empty := tmp_path / "empty").mkdir()
    with pytest.raises(FoveateError, match="no picture"):
        sources.folder_source(empty)
