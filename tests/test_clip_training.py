"""``foveate adapt --data``: lists in, adapters and scores out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from foveate.cli import main
from foveate.data.labelled import LabelledClips, Listed, Sampling
from foveate.evaluate.clip_training import ADAPTERS, SCORES, both, run
from foveate.models.vit import Vit, VitConfig, save_vit
from foveate.recipes.amflow import kinetics400_am12, shortened
from foveate.schema import FoveateError
from foveate.videowriter import VideoWriter

torch.set_num_threads(1)


def kinetics(root: Path, train: str = "abab", test: str = "ab", frames: int = 10) -> Path:
    """The data set's layout with classes a (gets redder) and b (gets greener)."""
    for split, classes in (("train", train), ("val", test)):
        rows = ["label,youtube_id,time_start,time_end,split"]
        for k, name in enumerate(classes):
            rows.append(f"{name},{split}{k},0,10,{split}")
            path = root / split / name / f"{split}{k}_000000_000010.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            with VideoWriter(path, 48, 32, rate=10) as writer:
                for t in range(frames):
                    picture = np.full((32, 48, 3), 60, np.uint8)
                    picture[:, 4 * t : 4 * t + 12, "ab".find(name)] = 220
                    writer.write(picture)
        (root / f"{split}.csv").write_text("\n".join(rows))
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kinetics(tmp_path_factory.mktemp("kinetics"))


@pytest.fixture(scope="module")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two of one shape."""
    folder, made = tmp_path_factory.mktemp("vits"), []
    for seed in range(2):
        torch.manual_seed(seed)
        made.append(folder / str(seed))
        save_vit(Vit(VitConfig(image_size=16, patch=8, width=24, depth=2, heads=4)), made[-1])
    return made[0], made[1]


def test_from_lists_to_scores_and_once_only(
    data: Path, backbones: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["adapt", "--data", str(data), "--start", str(backbones[0]), "--size", "16", "--out", str(tmp_path / "run")]
    command += ["--batch", "2", "--steps", "2", "--two-phases", "--json"]
    assert main(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["videos"] == 2 and found["unreadable"] == 0 and found["top5"] == 1
    run_folder = tmp_path / "run"
    assert json.loads((run_folder / SCORES).read_text()) == {"recipe": "kinetics400_am12_two_phases", **found}
    assert {path.parent.name for path in run_folder.glob("*/metrics.jsonl")} == {"phase-1", "training"}
    kept = (run_folder / ADAPTERS).read_bytes()
    assert main(command) == 0 and (run_folder / ADAPTERS).read_bytes() == kept
    capsys.readouterr()
    # Another backbone of the same shape, other settings: said, not used.
    assert main([str(backbones[1]) if part == str(backbones[0]) else part for part in command]) == 1
    assert "another backbone" in capsys.readouterr().err
    assert main([*command, "--seed", "3"]) == 1
    assert "other settings" in capsys.readouterr().err
    assert main([*command, "--camera", "static"]) == 1
    assert main(["14" if part == "16" else part for part in command]) == 1
    assert "--size 8" in capsys.readouterr().err


def test_same_adapters_again(data: Path, backbones: tuple[Path, Path], tmp_path: Path) -> None:
    recipe = kinetics400_am12(videos=4, batch=2, start=str(backbones[0]))
    recipe = replace(shortened(recipe, 2), method=replace(recipe.method, size=16, inner=8), clips=1)
    for name in ("one", "two"):
        run(recipe, data, tmp_path / name)
    assert (tmp_path / "one" / ADAPTERS).read_bytes() == (tmp_path / "two" / ADAPTERS).read_bytes()


def test_classes_of_the_test_that_nobody_trained(data: Path, tmp_path: Path) -> None:
    recipe = kinetics400_am12(batch=2)
    train, test = both(recipe, data)
    assert train.classes == test.classes == ("a", "b")
    # Classes are matched by name, not by their number in either list.
    other = kinetics(tmp_path / "b_only", train="abab", test="b")
    assert both(recipe, other)[1].label.tolist() == [1]
    with pytest.raises(FoveateError, match="1 classes of the test are absent in training, 'b'"):
        both(recipe, kinetics(tmp_path / "absent", train="aa", test="ab"))


def test_videos_shorter_than_a_clip(backbones: tuple[Path, Path], tmp_path: Path) -> None:
    short = kinetics(tmp_path / "data", train="ab", test="a", frames=1)
    recipe = kinetics400_am12(videos=2, batch=2, start=str(backbones[0]))
    recipe = replace(shortened(recipe, 1), method=replace(recipe.method, size=16))
    with pytest.raises(FoveateError, match="none of the videos can be read"):
        run(recipe, short, tmp_path / "run")


def test_several_processes_read_one_batch_between_them(data: Path) -> None:
    source, _ = both(kinetics400_am12(batch=2), data)
    whole = next(LabelledClips(source, 4, 0, Sampling(2, "uniform"), 16).batches(1))
    halves = [next(LabelledClips(source, 4, 0, Sampling(2, "uniform"), 16, rank=k, ranks=2).batches(1)) for k in range(2)]
    for name in ("frames", "index", "labels"):
        assert torch.equal(getattr(whole, name), torch.cat([getattr(half, name) for half in halves]))
    with pytest.raises(FoveateError, match="cannot be divided"):
        LabelledClips(Listed(source.paths, source.label, source.classes), 3, 0, Sampling(2), ranks=2)
