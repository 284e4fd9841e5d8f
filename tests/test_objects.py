"""Objects of a clip, drawn: the same numbers as the method's, a strip, a video, refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import foveate.api as fv
from foveate.attention.objects import COLOURS, Found, coloured, find, panels, strip
from foveate.cli import main
from foveate.methods import objects
from foveate.models.folder import IMAGENET
from foveate.models.vit import Vit, VitConfig, save_vit
from foveate.schema import FoveateError
from foveate.video import read_timeline
from foveate.videowriter import VideoWriter


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def network() -> Vit:
    torch.manual_seed(0)
    vit = Vit(VitConfig(image_size=32, patch=8, width=48, depth=2, heads=6, layer_scale=None))
    with torch.no_grad():
        for value in vit.parameters():
            value.add_(0.1 * torch.randn(value.shape))
    return vit.train(False)


def film(count: int = 4) -> list[np.ndarray]:
    """A bright square that moves over noise."""
    frames = np.random.default_rng(0).integers(0, 80, (count, 48, 64, 3)).astype(np.uint8)
    for t in range(count):
        frames[t, 16:32, 8 * t : 8 * t + 16] = (220, 180, 60)
    return list(frames)


def test_objects_are_those_of_the_method() -> None:
    vit, frames = network(), film()
    found = find(frames, vit, 3, seed=5, image_size=32)
    assert found.plain.shape == found.refined.shape == (4, 3, 4, 5)
    torch.testing.assert_close(found.refined.sum((2, 3)), torch.ones(4, 3))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in IMAGENET)
    from foveate.models.pretrained import resize

    shown = [(resize(torch.from_numpy(frame).permute(2, 0, 1)[None], 32, 40).float() / 255 - mean) / std for frame in frames]
    with torch.no_grad():
        seen, (first,) = vit.watch(shown[0], [-1])
        last = vit.watch(shown[3], [-1])[1][0]
    chosen = torch.tensor([found.heads])
    prototypes = objects.pooled(objects.attended(first, 1), objects.merged(first.queries, 1), chosen)
    for maps, by_hand in ((found.plain, prototypes), (found.refined, objects.refined(prototypes, seen.patches))):
        wanted = objects.followed(by_hand, objects.merged(last.keys, 1))
        torch.testing.assert_close(maps[3].flatten(1), wanted[0], rtol=1e-4, atol=1e-6)
    plain, refined = found.overlap()
    assert 0 < plain < 1 and 0 < refined < 1 and plain != refined


def test_every_object_has_its_colour() -> None:
    maps = np.zeros((2, 4, 6), np.float32)
    maps[0, :, :2], maps[1, :, 4:] = 1, 0.1
    drawn = coloured(np.full((4, 6, 3), 100, np.uint8), maps)
    for place, colour in ((0, COLOURS[0]), (5, COLOURS[1])):
        wanted = 0.2 * 100 + 0.8 * np.array(colour)
        assert np.abs(drawn[0, place] - wanted).max() <= 1
    assert (drawn[0, 3] == 35).all()  # nothing there: darker


def test_a_strip_has_a_column_per_frame() -> None:
    found = find(film(), network(), 2, image_size=32)
    picture = strip(film(), found, [0.0, 1.0, 2.0, 3.0], height=48)
    assert picture.size == (96 + 4 * 64 + 3 * 4, 20 + 3 * 48 + 2 * 4)
    one = panels(film()[0], found, 0, 48)
    assert [panel.shape for panel in one] == [(48, 64, 3)] * 3
    column = np.asarray(picture)[20:68, 96:160]
    assert np.array_equal(column, one[0])
    alone = Found(torch.ones(1, 1, 2, 2) / 4, torch.ones(1, 1, 2, 2) / 4, (0,))
    assert alone.overlap() == (1, 1)


def test_more_objects_than_can_be_told_apart() -> None:
    with pytest.raises(FoveateError, match="49 objects"):
        find(film(), network(), 49, image_size=32)


def test_command_and_function(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_vit(network(), tmp_path / "model")
    video = tmp_path / "clip.mp4"
    with VideoWriter(video, 64, 48, rate=2) as writer:
        for frame in film(6):
            writer.write(frame)
    asked = {"frames": 3, "every": 1.0, "count": 2, "image_size": 32}
    told = fv.objects(video, str(tmp_path / "model"), tmp_path / "one", **asked)  # type: ignore[arg-type]
    with Image.open(told["strip"]) as picture:
        assert picture.size[0] > 3 * 100
    assert len(read_timeline(Path(told["video"]))) == 3
    options = ["--model", str(tmp_path / "model"), "--out", str(tmp_path / "two"), "--image-size", "32"]
    assert main(["objects", str(video), *options, "--frames", "3", "--every", "1.0", "--count", "2"]) == 0
    assert f"{told['overlap_sinkhorn']:.2f}" in capsys.readouterr().out
    for name in ("strip", "video"):
        one = Path(told[name])
        assert one.read_bytes() == (tmp_path / "two" / one.name).read_bytes()
    with pytest.raises(FoveateError, match=r"need 8 s of footage, and there are 2\.5"):
        fv.objects(video, str(tmp_path / "model"), tmp_path / "one", frames=9, every=1.0)
    with pytest.raises(FoveateError, match="at least one frame"):
        fv.objects(video, str(tmp_path / "model"), tmp_path / "one", frames=0)
