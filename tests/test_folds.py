"""Nothing that belongs together is ever split: groups, folds, assertions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.actions.folds import assert_disjoint, assign_folds, group_videos
from foveate.project import Video
from foveate.schema import FoveateError


def video(name: str, *subjects: str, row: int = 2) -> Video:
    return Video(name=name, path=Path(name), row=row, subjects=subjects)


def test_videos_are_joined_through_animals() -> None:
    videos = [video("a", "ann"), video("b", "bo"), video("c", "cy", "ann"), video("d", "cy"), video("e", "eve")]
    assert group_videos(videos) == {"a": 0, "b": 1, "c": 0, "d": 0, "e": 2}
    assert group_videos(videos, "video") == {"a": 0, "b": 1, "c": 2, "d": 3, "e": 4}


def test_a_file_under_two_names_is_one_video(tmp_path: Path) -> None:
    for name, data in (("one", b"x" * 99), ("copy", b"x" * 99), ("other", b"y" * 99)):
        (tmp_path / name).write_bytes(data)
    one, copy, other = (
        Video(name=name, path=tmp_path / name, row=row, subjects=(name,))
        for row, name in enumerate(("one", "copy", "other"), 2)
    )
    assert group_videos([one, copy, other], "video") == {"one": 0, "copy": 0, "other": 1}
    assert_disjoint([("train", [one, copy]), ("test", [other])])
    with pytest.raises(FoveateError, match="same footage would be on two sides") as error:
        assert_disjoint([("train", [one, other]), ("test", [copy])])
    assert error.value.row == 3


cast = st.lists(st.sets(st.sampled_from("abcdefgh"), min_size=1, max_size=3), min_size=2, max_size=12)


@settings(max_examples=100, deadline=None)
@given(cast=cast, folds=st.integers(2, 5), seed=st.integers(0, 99))
def test_folds_never_split_an_animal(cast: list[set[str]], folds: int, seed: int) -> None:
    videos = [video(f"v{i}", *sorted(subjects)) for i, subjects in enumerate(cast)]
    groups = group_videos(videos)
    count = max(groups.values()) + 1
    folds = min(folds, count)
    fold = assign_folds(np.random.default_rng(seed).integers(0, 100, size=(count, 4)), folds)
    assert set(fold.tolist()) == set(range(folds))  # none is empty
    sides = [(f"fold-{k}", [v for v in videos if fold[groups[v.name]] == k]) for k in range(folds)]
    assert_disjoint(sides)


@settings(max_examples=50, deadline=None)
@given(cast=cast)
def test_groups_are_no_larger_than_they_must_be(cast: list[set[str]]) -> None:
    """Against another way to find connected components: powers of the adjacency matrix."""
    videos = [video(f"v{i}", *sorted(subjects)) for i, subjects in enumerate(cast)]
    groups = group_videos(videos)
    near = np.array([[bool(a & b) for b in cast] for a in cast])
    reach = np.linalg.matrix_power(near.astype(float), len(cast)) > 0
    for i, a in enumerate(videos):
        for j, b in enumerate(videos):
            assert (groups[a.name] == groups[b.name]) == reach[i, j]


def test_folds_balance_rows_and_rare_labels() -> None:
    rows = np.array([400, 100, 110, 90, 200, 100])
    rare = np.array([0, 5, 0, 5, 0, 0])
    fold = assign_folds(np.column_stack([rows, rare]), 2)
    assert fold[1] != fold[3]  # the rare label is on both sides
    assert abs(rows[fold == 0].sum() - rows[fold == 1].sum()) <= 200
    assert (assign_folds(np.column_stack([rows, rare]), 2) == fold).all()


def test_groups_without_rows_still_fill_folds() -> None:
    assert sorted(assign_folds(np.zeros((4, 2), dtype=np.int64), 4).tolist()) == [0, 1, 2, 3]


def test_more_folds_than_groups_is_a_bug_of_the_caller() -> None:
    with pytest.raises(ValueError, match="2 groups cannot make 3 folds"):
        assign_folds(np.ones((2, 1), dtype=np.int64), 3)


def test_one_animal_on_two_sides_raises() -> None:
    train, test = video("monday", "dolly", row=2), video("tuesday", "dolly", row=5)
    with pytest.raises(FoveateError, match="animal 'dolly' would be on two sides: train") as caught:
        assert_disjoint([("train", [train]), ("test", [test])], folder=Path("study"))
    assert caught.value.row == 5 and caught.value.file == Path("study") / "videos.csv"
    assert "group: video" in str(caught.value.remedy)
    assert_disjoint([("train", [train]), ("test", [test])], kept="video")


def test_one_video_on_two_sides_raises_whatever_is_kept() -> None:
    one = video("monday", "dolly")
    for kept in ("video", "subject"):
        with pytest.raises(FoveateError, match="video 'monday' would be on two sides"):
            assert_disjoint([("fold-0", [one]), ("fold-1", [one])], kept=kept)  # type: ignore[arg-type]
