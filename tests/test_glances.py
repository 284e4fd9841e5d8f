"""One pass for tracking and vectors: what the tracker saw is what `embed` would have computed of the same picture and mask."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml

from foveate import masks, run, track
from foveate.actions import embed, seen
from foveate.models import pretrained
from foveate.project import Project, load_config
from foveate.schema import FEATURES, LAYERS, TRACK, FoveateError
from foveate.settings import ProbeSettings
from foveate.store import read_parquet, write_parquet
from foveate.timeline import load
from foveate.video import read_frames
from tests.embedded import tiny_model
from tests.tracked import make_project, place, tracked

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
NAMES = [f"{feature}_{layer}" for layer in LAYERS for feature in FEATURES]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def ask(folder: Path) -> Project:
    """A baseline that wants what the tracker sees."""
    config = yaml.safe_load((folder / "foveate.yaml").read_text()) | {"baselines": {"seen": {"source": "track"}}}
    (folder / "foveate.yaml").write_text(yaml.safe_dump(config))
    return Project.load(folder)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Tracked from a click in the middle, both ways, and nobody asked for vectors."""
    folder = tmp_path_factory.mktemp("plain") / "study"
    tiny_model(folder / "runs" / "tiny")
    torch.set_num_threads(1)
    x, y = place(20)
    project = make_project(folder, 40, prompts=[f"v,full,v,20,point,{x:.0f},{y:.0f},,,"], model="runs/tiny", every=2)
    tracked(project)
    return project


@pytest.fixture(scope="module")
def asked(plain: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The same, asked for before tracking."""
    folder = Path(shutil.copytree(plain.folder, tmp_path_factory.mktemp("asked") / "study"))
    shutil.rmtree(folder / "tracks")
    torch.set_num_threads(1)
    project = ask(folder)
    tracked(project)
    return project


@pytest.fixture
def copied(asked: Project, tmp_path: Path) -> Project:
    return Project.load(shutil.copytree(asked.folder, tmp_path / "study"))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def expected(project: Project) -> dict[str, np.ndarray]:
    """Straight from the backbone, of the pictures and masks of all rows."""
    video, tracks = project.videos[0], track.artefact(project, project.videos[0])
    rows = read_parquet(tracks.path("part-00000.parquet")).to_pylist()
    rows = [row for row in rows if row["rle"]]
    pictures = read_frames(video.path, load(project, video), np.array([row["frame"] for row in rows]))
    images = torch.from_numpy(np.stack(list(pictures))).permute(0, 3, 1, 2)
    shown = torch.from_numpy(np.stack([masks.decode(row["rle"], *images.shape[-2:]) for row in rows]).astype(np.float32))
    backbone = pretrained.load_backbone(str(project.folder / "runs" / "tiny"))
    return {name: values.numpy() for name, values in backbone.embed(images, shown).items()}


def test_asking_for_vectors_changes_no_track(plain: Project, asked: Project) -> None:
    one, other = (track.artefact(project, project.videos[0]) for project in (plain, asked))
    assert one.stamp == other.stamp and files(one.folder) == files(other.folder)
    assert {path.name for path in (asked.folder / "glances" / "v").iterdir()} == {
        "back-part-00000.arrow",
        "part-00000.arrow",
        "stamp.json",
    }
    assert not (plain.folder / "glances").exists()


def test_they_equal_those_of_the_view_at_the_same_size(copied: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = expected(copied)
    assert len(truth["cls_last"]) == 20
    with monkeypatch.context() as nothing:
        nothing.setattr(seen, "load_backbone", None)  # nothing is computed a second time
        nothing.setattr(seen, "read_frames", None)
        embed.run(copied, copied.videos[0], "track")
    assert not (copied.folder / "glances" / "v").exists()
    for name in NAMES:
        feature, layer = name.split("_", 1)
        keys, vectors = embed.load_vectors(copied, copied.videos[0], feature, layer, "track")
        assert keys["frame"].tolist() == list(range(0, 40, 2))
        np.testing.assert_allclose(vectors, truth[name], atol=2e-3, rtol=2e-3)
    assert np.abs(truth["subject_last"] - truth["patch_last"]).max() > 0.05  # or the comparison would say little


def test_what_the_tracker_did_not_keep_is_computed(plain: Project, copied: Project, tmp_path: Path) -> None:
    """Tracks from before the probe asked, and rows whose mask came about later."""
    late = ask(Path(shutil.copytree(plain.folder, tmp_path / "late")))
    truth = expected(late)
    embed.run(late, late.videos[0], "track")
    _, vectors = embed.load_vectors(late, late.videos[0], "subject", "third_last", "track")
    np.testing.assert_allclose(vectors, truth["subject_third_last"], atol=2e-3, rtol=2e-3)
    tracks = track.artefact(copied, copied.videos[0])
    table = read_parquet(tracks.path("part-00000.parquet")).to_pylist()
    table[3]["rle"] = masks.encode(np.eye(112, 168, dtype=bool))
    write_parquet(tracks.path("part-00000.parquet"), pa.Table.from_pylist(table, schema=TRACK))
    tracks.finish(tracks.facts())
    truth = expected(copied)
    looked = seen.Seen(copied, copied.videos[0])
    (part,) = embed.parts_of(copied, copied.videos[0], "track")
    found = looked.vectors(part, lambda _: None)  # type: ignore[arg-type]
    assert looked.computed == 1
    np.testing.assert_allclose(found["subject_last"], truth["subject_last"], atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("number", [3, 4])
def test_a_layer_in_the_middle_is_the_last_one_of_a_shorter_model(tmp_path: Path, number: int) -> None:
    tiny_model(tmp_path / "tiny")
    whole = pretrained.load_backbone(str(tmp_path / "tiny"))
    short = pretrained.load_backbone(str(tmp_path / "tiny"), depth=number / 4)
    assert (whole.blocks, short.blocks) == (4, number)
    pictures = torch.randint(0, 256, (3, 3, 42, 70), dtype=torch.uint8)
    assert torch.equal(whole.tokens(pictures, (number, *LAYERS))[number].patches, short.patch_tokens(pictures))
    assert torch.equal(whole.tokens(pictures, (2,))[2].patches, whole.tokens(pictures)["third_last"].patches)


@pytest.mark.filterwarnings("ignore:the model 'handcrafted':UserWarning")
def test_a_study_without_vectors_of_crops(tmp_path: Path) -> None:
    """The default probe looks through the tracker: crops are not embedded, and a tracker without a network is no hindrance."""
    project = make_project(tmp_path / "study", 12, method="motion", every=3)
    with (project.folder / "foveate.yaml").open("a") as handle:
        handle.write("embed: {model: handcrafted}\nprobe: {source: track}\nbaselines: {view: {source: frame}}\n")
    project = Project.load(project.folder)
    tracked(project)
    outcome = run.run(project, until="embed", workers=1)
    (found,) = (project.folder / "embeddings").iterdir()
    assert outcome.ok and embed.artefact(project, project.videos[0], "track").folder == found / "v"
    assert embed.load_vectors(project, project.videos[0], "cls", "last", "track")[1].shape == (4, 45)
    state = run.status(project).videos["v"]
    assert state["embed"] == "done" and "embed (track)" not in state
    asked = [
        task.arguments["source"] for task, _ in run._plan(project, "embed", project.videos, {"v"}, [], project.config.probes)
    ]
    assert asked == ["track", "frame"]  # the second for annotated videos alone


def test_changed_pictures_are_refused(tmp_path: Path) -> None:
    (tmp_path / "foveate.yaml").write_text("analyse: {step: 1}\nprobe: {recipe: paper, source: track}\n")
    with pytest.raises(FoveateError, match="augment: none"):
        load_config(tmp_path / "foveate.yaml")
    assert ProbeSettings(source="track").published().augment == "none"
