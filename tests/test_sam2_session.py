"""The bounded memory of SAM 2: the same answers, bit for bit, as ``transformers`` gives when it keeps everything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from foveate.models.sam2 import Segmenter, open_sam2
from foveate.track.sam2.session import Given, Seen, Session
from tests.tiny_sam2 import make_sam2

HEIGHT, WIDTH = 48, 72
FRAMES = 28  # more than the 16 that a memory reaches back


def make(kind: str, folder: Path, bias: float) -> Segmenter:
    return open_sam2(str(make_sam2(folder, kind, bias=bias)))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    return make("sam2_video", tmp_path_factory.mktemp("sam2"), 0.2)


@pytest.fixture(scope="module")
def expected(model: Segmenter) -> list[dict[int, Seen]]:
    return run(Session(model, HEIGHT, WIDTH))


def picture(frame: int) -> NDArray[np.uint8]:
    floor = np.random.default_rng(7).integers(0, 255, (6, 9, 3)).repeat(8, 0).repeat(8, 1)
    floor = np.roll(floor, 3 * frame, 1)
    x = (20 + 2 * frame) % 50
    floor[15:30, x : x + 15] = (200, 30, 8 * frame % 255)
    return floor.astype(np.uint8)


def disc(x: float, y: float) -> NDArray[np.bool_]:
    down, across = np.mgrid[:HEIGHT, :WIDTH]
    return np.asarray(np.hypot(across - x, down - y) < 8)


PROMPTS: dict[int, dict[int, Given]] = {
    0: {0: Given(points=((25, 20),))},
    2: {1: Given(box=(10, 5, 40, 30))},
    9: {0: Given(points=((40, 24), (45, 20)), box=(30, 10, 60, 40)), 2: Given(mask=disc(30, 20))},
    11: {1: Given(mask=disc(50, 30))},
}


def run(session: Session, prompts: Mapping[int, Mapping[int, Given]] = PROMPTS, first: int = 0) -> list[dict[int, Seen]]:
    return [session.step(picture(k), prompts.get(k, {})) for k in range(first, FRAMES)]


def same(one: list[dict[int, Seen]], other: list[dict[int, Seen]]) -> bool:
    assert [seen.keys() for seen in one] == [seen.keys() for seen in other]
    pairs = [(a[s], b[s]) for a, b in zip(one, other, strict=True) for s in a]
    return all(torch.equal(a.logits, b.logits) and a.certainty == b.certainty for a, b in pairs)


def everything_kept(model: Segmenter, subject: int) -> Iterator[tuple[torch.Tensor, float]]:
    """What ``transformers`` alone answers for one subject, with its own calls and nothing dropped."""
    memory = model.session_class(dtype=torch.float32)
    started = False
    for frame in range(FRAMES):
        given = PROMPTS.get(frame, {}).get(subject)
        if given is not None:
            started = True
            number = memory.obj_id_to_idx(5)
            if given.mask is not None:
                mask = torch.nn.functional.interpolate(
                    torch.from_numpy(given.mask)[None, None].float(), (64, 64), mode="bilinear", antialias=True
                )
                memory.add_mask_inputs(number, frame, (mask >= 0.5).float())
            else:
                corners = [] if given.box is None else [given.box[:2], given.box[2:]]
                places = [[x * 64 / WIDTH, y * 64 / HEIGHT] for x, y in [*corners, *given.points]]
                labels = [2, 3][: len(corners)] + [1] * len(given.points)
                memory.add_point_inputs(
                    number, frame, {"point_coords": torch.tensor([[places]]), "point_labels": torch.tensor([[labels]])}
                )
            memory.obj_with_new_inputs = [5]
        if started:
            out = model.module(memory, frame=model.pixels(picture(frame)), frame_idx=frame)
            yield out.pred_masks[0, 0], float(out.object_score_logits.flatten()[0].sigmoid())


def check_exact(model: Segmenter, found: list[dict[int, Seen]]) -> None:
    for subject in range(3):
        ours = [seen[subject] for seen in found if subject in seen]
        theirs = list(everything_kept(model, subject))
        assert len(ours) == len(theirs) > 16
        for one, (logits, score) in zip(ours, theirs, strict=True):
            assert torch.equal(one.logits, logits) and one.certainty == score
    assert len({seen.mask.tobytes() for one in found for seen in one.values()}) > 20  # not always the same answer


def test_dropping_changes_no_bit(model: Segmenter, expected: list[dict[int, Seen]]) -> None:
    check_exact(model, expected)
    certainties = [seen.certainty for one in expected for seen in one.values()]
    assert min(certainties) < 0.5 < max(certainties)  # pictures with and without a subject


@pytest.mark.parametrize("kind", ["edgetam_video", "edgetam_repvit"])
def test_dropping_changes_no_bit_of_edgetam(kind: str, tmp_path: Path) -> None:
    model = make(kind, tmp_path, 2.0)
    check_exact(model, run(Session(model, HEIGHT, WIDTH)))


@pytest.mark.parametrize("name", ["max_object_pointers_in_encoder", "num_maskmem"])
def test_keeping_one_frame_less_changes_the_answers(
    model: Segmenter, expected: list[dict[int, Seen]], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the tests above would notice if too much were dropped."""
    forget = Session._forget

    def forget_more(session: Session, memory: object, at: int) -> None:
        config = session.model.module.config
        before = getattr(config, name)
        setattr(config, name, before - 1)
        forget(session, memory, at)
        setattr(config, name, before)

    monkeypatch.setattr(Session, "_forget", forget_more)
    if name == "num_maskmem":
        with pytest.raises(KeyError, match="maskmem_features"):
            run(Session(model, HEIGHT, WIDTH))
    else:
        assert not same(expected, run(Session(model, HEIGHT, WIDTH)))


def test_memory_stays_as_it_is(model: Segmenter) -> None:
    session = Session(model, HEIGHT, WIDTH)
    sizes = []
    for frame in range(36):
        given = {0: Given(points=((25, 20),)), 1: Given(mask=disc(30, 20))} if frame % 4 == 0 else {}
        session.step(picture(frame), given)
        memory = session.memories[1]
        assert not memory.processed_frames and not memory.mask_inputs_per_obj[0] and not memory.frames_tracked_per_obj[0]
        sizes.append(sum(tensor.nbytes for tensor in session.state().values()))
    assert len(set(sizes[19::4])) == 1
    assert sorted(session.memories[0].output_dict_per_obj[0]["cond_frame_outputs"]) == [0, 24, 28, 32]


def test_a_restored_session_goes_on_with_the_same_numbers(
    model: Segmenter, expected: list[dict[int, Seen]], tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    session = Session(model, HEIGHT, WIDTH)
    for frame in range(20):
        session.step(picture(frame), PROMPTS.get(frame, {}))
    save_file(session.state(), tmp_path / "state.safetensors")
    other = Session(model, HEIGHT, WIDTH)
    other.restore(load_file(tmp_path / "state.safetensors"))
    assert same(expected[20:], run(other, first=20))


def test_subjects_do_not_change_each_other(model: Segmenter, expected: list[dict[int, Seen]]) -> None:
    for subject in (0, 2):
        alone = {frame: {subject: given[subject]} for frame, given in PROMPTS.items() if subject in given}
        found = run(Session(model, HEIGHT, WIDTH), alone)
        assert same([{subject: seen[subject]} if subject in seen else {} for seen in expected], found)


def test_points_and_a_box_count_together(model: Segmenter) -> None:
    def first(given: Given) -> torch.Tensor:
        return Session(model, HEIGHT, WIDTH).step(picture(0), {0: given})[0].logits

    box, points = (10.0, 5.0, 40.0, 30.0), ((25.0, 20.0),)
    both = first(Given(points=points, box=box))
    assert not torch.equal(both, first(Given(box=box))) and not torch.equal(both, first(Given(points=points)))


def test_a_drawn_mask_is_taken_as_it_is(model: Segmenter) -> None:
    drawn = disc(30, 20)
    seen = Session(model, HEIGHT, WIDTH).step(picture(0), {0: Given(mask=drawn)})[0]
    assert (seen.mask & drawn).sum() / (seen.mask | drawn).sum() > 0.9 and seen.certainty > 0.99


def test_after_a_cut_only_prompts_are_remembered(model: Segmenter) -> None:
    prompt = {0: Given(mask=disc(30, 20))}
    cut, fresh = Session(model, HEIGHT, WIDTH), Session(model, HEIGHT, WIDTH)
    cut.step(picture(0), prompt)
    for frame in range(1, 9):
        cut.step(picture(frame))
    cut.cut()
    fresh.step(picture(0), prompt)
    assert torch.equal(cut.step(picture(9))[0].logits, fresh.step(picture(9), at=9)[0].logits)


def test_reduced_precision_follows_too(model: Segmenter) -> None:
    """The path of a GPU, on this machine's CPU: other numbers, nearly the same mask."""

    def first(model: Segmenter) -> Seen:
        return Session(model, HEIGHT, WIDTH).step(picture(0), {0: PROMPTS[0][0]})[0]

    half, whole = first(replace(model, half=True)), first(model)
    assert half.logits.dtype == torch.float32 and not torch.equal(half.logits, whole.logits)
    assert (half.mask == whole.mask).mean() > 0.95
