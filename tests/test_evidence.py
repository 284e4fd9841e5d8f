"""Grad-CAM of networks of convolutions: where it peaks, that networks for clips see clips, and the commands that draw it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from foveate import annotations, attention
from foveate.attention.evidence import cam, cam_maps, clip_maps, is_convnet
from foveate.cli import main
from foveate.evaluate.encoders import of_convnet
from foveate.models.convnets import ConvConfig, ConvNet, Network, save_convnet
from foveate.project import Project
from foveate.run import run
from foveate.settings import AttendSettings
from foveate.simulate import simulate
from foveate.videowriter import VideoWriter
from tests.pipeline import MINIATURE, make_study


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def small(network: Network = "resnet18") -> ConvNet:
    torch.manual_seed(0)
    return ConvNet(ConvConfig(network, 8)).eval()


def test_evidence_is_the_likeness_of_each_place_with_the_whole() -> None:
    """For a mean over places the gradient is the same everywhere, so the map is known in closed form."""
    net = small()
    pictures = torch.rand(2, 3, 96, 128)
    found, maps = cam(net, pictures), net(pictures)
    raw = torch.einsum("bchw,bc->bhw", maps.map, maps.cls).clamp(min=0).flatten(1)
    low, high = raw.amin(1, keepdim=True), raw.amax(1, keepdim=True)
    assert found.shape == (2, 3, 4) and not found.requires_grad
    assert torch.allclose(found.flatten(1), (raw - low) / (high - low), atol=1e-4)


def test_evidence_lies_where_something_is() -> None:
    """Networks that nobody trained, and a bright square on even ground: all places but its own look alike."""
    encoder, hits = of_convnet(small()), 0
    for k in range(6):
        picture = torch.full((1, 3, 192, 192), 100, dtype=torch.uint8)
        y, x = 32 * (k % 3) + 32, 32 * (k // 2) + 32
        picture[:, :, y : y + 48, x : x + 48] = torch.randint(
            0, 255, (3, 48, 48), generator=torch.Generator().manual_seed(k)
        ).to(torch.uint8)
        values = cam_maps(picture, encoder)[0, 0]
        row, column = divmod(int(values.argmax()), values.shape[1])
        hits += abs(32 * row + 16 - y - 24) <= 40 and abs(32 * column + 16 - x - 24) <= 40
    assert hits >= 5


@pytest.mark.parametrize("network", ["resnet18", "r2plus1d_18"])
def test_clips_have_a_map_for_every_frame(network: Network) -> None:
    encoder = of_convnet(small(network))
    frames = [np.full((40, 64, 3), 20 * t, np.uint8) for t in range(8)]
    frames[5][10:30, 10:30] = 255
    found = clip_maps(frames, encoder, 64)
    assert found.shape[0] == 8 and found.min() >= 0 and found.max() <= 1
    moved = clip_maps([*frames[:7], 255 - frames[7]], encoder, 64)
    # Frames seen one by one do not know of each other; those seen as a clip do.
    assert torch.equal(moved[0], found[0]) == (network == "resnet18")


def test_a_clip_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_convnet(small(), tmp_path / "net")
    with VideoWriter(tmp_path / "walk.mp4", 64, 48, rate=4) as writer:
        for t in range(12):
            picture = np.full((48, 64, 3), 90, np.uint8)
            picture[10:30, 4 * t : 4 * t + 16] = 230
            writer.write(picture)
    assert is_convnet(str(tmp_path / "net")) and not is_convnet("facebook/dino-vits16")
    given = ["--model", str(tmp_path / "net"), "--out", str(tmp_path / "out"), "--frames", "3", "--every", "0.5"]
    assert main(["objects", str(tmp_path / "walk.mp4"), *given, "--image-size", "64"]) == 0
    assert "overlap" not in capsys.readouterr().out and (tmp_path / "out" / "walk-evidence.mp4").stat().st_size > 500
    with Image.open(tmp_path / "out" / "walk-evidence.png") as strip:
        assert np.asarray(strip)[150:].std() > 20


@pytest.mark.filterwarnings("ignore:the model 'handcrafted'")
def test_a_study_is_shown_with_masks_and_asked_about_its_backgrounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Grad-CAM with its focus score as attention has it; the eight sets of a project's own footage, and what the report tells of them."""
    from foveate.evaluate import backgrounds
    from foveate.evaluate.backgrounds import footage
    from foveate.report import backgrounds as section
    from foveate.report.sources import Notes, collect

    short = tmp_path / "footage"
    simulate(short, replace(MINIATURE, annotated=3, unannotated=0, seconds=12.0, fps=2, step=0.5))
    study = make_study(tmp_path / "study", source=short)
    monkeypatch.setattr(footage, "PICTURES", 5)
    project = Project.load(study)
    assert run(project, until="crop", workers=1).ok
    annotations.run(project)
    save_convnet(small(), tmp_path / "net")
    look = attention.run(project, AttendSettings(models=[str(tmp_path / "net")], frames=3, source="both", image_size=64))
    table = attention.load_focus(look)
    assert len(table) == 6 and (table["focus"] > 0).all() and "focus_head_2" not in table
    assert (table["focus_head_1"] == table["focus"]).all()

    assert section.load(collect(project, "default"), Notes(study)) is None  # nobody asked
    wanted = backgrounds.Wanted(pictures=60, asked=12, adversaries=1, classes=("standing", "lying", "moving"))
    made = backgrounds.run(project, wanted)
    rows = backgrounds.rows(made)
    assert {row["source"] for row in rows} == {"crop", "frame"} and {row["feature"] for row in rows} == {"whole", "subject"}
    assert all(row["classes"] == 3 and row["groups"] <= 3 and row["low"] is None for row in rows)
    assert backgrounds.run(project, wanted).stamp == made.stamp == backgrounds.found(project).stamp
    shown = section.load(collect(project, "default"), Notes(study))
    assert shown is not None and len(shown.lines) == 10 and len(shown.sheets) == 2 and "handcrafted" in shown.text
    assert len(shown.told) == 4 and all("chance" in text for text in shown.told)
