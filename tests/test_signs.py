"""The miniature protocol (benchmarks/signs*.py, gpu_all.py): its footage, its intervals, and its way from weights to cells."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from foveate import masks
from foveate.models.vit import Vit, VitConfig, load_vit, save_vit

SCRIPTS = Path(__file__).parents[1] / "benchmarks"
TINY = VitConfig(image_size=112, patch=14, width=32, depth=3, heads=2, mlp_ratio=2, layer_scale=1.0)


@pytest.fixture(scope="module")
def scripts() -> Any:
    """The scripts, as they import one another."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        yield {name: importlib.import_module(name) for name in ("signs", "signs_data", "signs_table", "gpu_all")}
    finally:
        sys.path.remove(str(SCRIPTS))


# --- footage ---------------------------------------------------------------------------------------------------------------------


def test_only_the_places_of_training_videos_differ(scripts: Any) -> None:
    from foveate.simulate.plan import MAINS, plan
    from foveate.simulate.plan import scripts as behaviours

    extent = scripts["signs_data"].Extent()
    tied, free = (plan(extent.settings(places)) for places in ("tied", "free"))
    train = [k for k, video in enumerate(tied) if video.split == "train"]
    assert (len(train), len(tied) - len(train)) == (160, 96)
    assert all(tied[k].pen == MAINS.index(tied[k].main) for k in train)
    told = np.mean([free[k].pen == MAINS.index(free[k].main) for k in range(256)])
    assert told == pytest.approx(0.25, abs=0.1)
    for k in range(256):
        assert behaviours(extent.settings("tied"), tied[k]) == behaviours(extent.settings("free"), free[k])
        assert replace(tied[k], pen=free[k].pen) == free[k]
        assert k in train or tied[k] == free[k]
    assert len({video.subjects for video in tied}) == 256  # nobody is in two videos


def test_one_video_is_what_it_says(scripts: Any) -> None:
    from foveate.simulate.plan import plan

    data = scripts["signs_data"]
    extent = data.Extent(train=1, test=1)
    settings = extent.settings("free")
    made = data.render(extent, settings, plan(settings)[0])
    assert {name: value.shape for name, value in made.items()} == {
        "views": (25, 126, 224, 3),
        "in_view": (25, 126, 28),
        "crops": (25, 128, 128, 3),
        "within": (25, 128, 16),
        "valid": (25, 4),
        "seen": (25,),
        "labels": (25, 10),
    }
    within, seen = data.unpacked(made["within"]), made["seen"]
    assert seen.all() and (made["labels"][:, [1, 2, 5]].sum(1) == 1).all()  # lying, standing or moving
    for t in range(0, 25, 6):
        box = masks.box(within[t])
        assert box is not None and max(box[2:]) > 0.6 * 128 and min(box[:2]) > 0  # the whole animal, and not much else
    brightness = made["crops"].mean(-1)
    assert brightness[within].std() < 0.9 * brightness[~within].std() or brightness[within].mean() > brightness[~within].mean()


# --- intervals -------------------------------------------------------------------------------------------------------------------


def cell(rng: np.random.Generator, truth: Any, wrong: float, system: str, seed: int, labels: list[str], signs: Any) -> Any:
    """A cell of which only the counts and the focus scores are there."""
    from foveate.actions.metrics import confusion

    said = np.where(rng.random(truth.shape) < wrong, 1 - truth, truth).astype(np.int8)
    counts = confusion(truth, said, np.repeat(np.arange(40), 25), 40)
    probes = {"counts": {label: signs.packed(counts[:, k]) for k, label in enumerate(labels)}, "f1": dict.fromkeys(labels, 0)}
    focus = {"animals": " ".join(f"{v:g}" for v in (2 - wrong + 0.01 * rng.random(40)))}
    names = [f"{source} {feature} {layer} {window}" for source, feature, layer, window in signs.PROBES]
    made = {
        "cell": {"system": system, "places": "tied", "seed": seed},
        "probes": dict.fromkeys(names, probes),
        "focus": {"crop": focus, "frame": focus},
        "training": {},
    }
    return made, said


def test_intervals_say_what_they_should(scripts: Any, tmp_path: Path) -> None:
    signs, table = scripts["signs"], scripts["signs_table"]
    rng, labels = np.random.default_rng(0), list(signs.ALL)
    truth = (rng.random((1000, len(labels))) < 0.3).astype(np.int8)
    said = {}
    for system, wrong, seeds in (("guided", 0.1, 3), ("unguided", 0.2, 3), ("frozen", 0.2, 1)):
        for seed in range(seeds):
            made, said[system, seed] = cell(rng, truth, wrong, system, seed, labels, signs)
            (tmp_path / f"{system}-{seed}.json").write_text(json.dumps(made), encoding="utf-8")
    found = table.load(tmp_path)
    values = {
        system: table.macro(found[system, "tied"], table.STANDARD, table.SIX) for system in ("guided", "unguided", "frozen")
    }
    columns = [labels.index(label) for label in table.SIX]
    expected = np.mean([f1_score(truth[:, k], said["guided", seed][:, k]) for seed in range(3) for k in columns])
    assert values["guided"][0] == pytest.approx(expected, abs=1e-9)
    assert (table.macro(found["guided", "tied"], table.STANDARD, table.SIX) == values["guided"]).all()
    assert table.verdict(values["guided"] - values["frozen"]) == "shown"
    assert table.verdict(values["frozen"] - values["guided"]) == "the opposite is shown"
    assert table.verdict(values["unguided"] - values["frozen"]) == "not shown"
    focus = table.focused(found["guided", "tied"], "crop") - table.focused(found["frozen", "tied"], "crop", 1)
    assert focus[0] == pytest.approx(0.1, abs=0.01) and table.verdict(focus) == "shown"
    # A percentile interval of animals alone is as wide as the normal one of the same per-animal numbers.
    one = replace(found["guided", "tied"], cells=found["guided", "tied"].cells[:1])
    low, high = np.quantile(table.focused(one, "crop")[1:], [0.025, 0.975])
    each = one.focus("crop")[0]
    assert high - low == pytest.approx(2 * 1.96 * each.std() / np.sqrt(len(each)), rel=0.05)
    page = "# t\n" + "".join(f"<!-- {mark} -->\nold\n<!-- end of {mark} -->\n" for mark in table.TABLES)
    for mark, make in table.TABLES.items():
        page = table.written(page, mark, make(found))
    assert "old" not in page and "| F1 of six: guided − unguided | tied |" in page
    assert table.written(page, "signs", table.signs(found)) == page


# --- from weights to cells -------------------------------------------------------------------------------------------------------


def test_a_bundle_becomes_cells_piece_by_piece(scripts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signs, data, gpu = scripts["signs"], scripts["signs_data"], scripts["gpu_all"]
    torch.manual_seed(0)
    save_vit(Vit(TINY), tmp_path / "weights")
    gpu.build(tmp_path / "bundle", tmp_path / "weights", wheels=False)
    half = load_vit(tmp_path / "bundle" / "weights").patch_embed.proj.weight
    whole = load_vit(tmp_path / "weights").patch_embed.proj.weight
    assert half.dtype == torch.float32 and torch.equal(half, whole.half().float())

    rng = np.random.default_rng(0)

    def drawn(extent: Any, settings: Any, video: Any) -> dict[str, Any]:
        """In the place of rendering: pictures whose brightness tells the behaviour."""
        labels = (rng.random((8, 10)) < 0.4).astype(np.int8)
        light = (60 + 15 * labels @ np.arange(10))[:, None, None, None]
        return {
            "views": (light + rng.integers(0, 20, (8, 28, 48, 3))).astype(np.uint8),
            "in_view": rng.integers(0, 256, (8, 28, 6), dtype=np.uint8),
            "crops": (light + rng.integers(0, 20, (8, 32, 32, 3))).astype(np.uint8),
            "within": rng.integers(0, 256, (8, 32, 4), dtype=np.uint8),
            "valid": np.tile(np.array([0, 0, 1, 0.75], np.float32), (8, 1)),
            "seen": rng.random(8) < 0.9,
            "labels": labels,
        }

    monkeypatch.setattr(data, "render", drawn)
    monkeypatch.setattr(gpu.os, "cpu_count", lambda: 1)
    size = signs.Size(data.Extent(train=6, test=6), annotated=4, steps=2, batch=4)
    cells = signs.wanted(["frozen-tied", "guided-tied-0", "tell_subject-tied-0"])
    left = gpu.run(tmp_path / "bundle", tmp_path / "work", tmp_path / "out", size, gpu.FIRST + 0.1, cells[:2])
    assert left == []
    (tmp_path / "out" / "seconds.json").write_text('{"guided-tied-0": 9000}', encoding="utf-8")
    before = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert before == ["frozen-tied.json", "guided-tied-0.json", "seconds.json"]
    assert gpu.run(tmp_path / "bundle", tmp_path / "work", tmp_path / "out", size, 9, cells) == ["tell_subject-tied-0"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == before  # no time for one more

    made = {name: json.loads((tmp_path / "out" / f"{name}.json").read_text()) for name in ("frozen-tied", "guided-tied-0")}
    assert made["guided-tied-0"]["training"]["images"] == 8 and made["frozen-tied"]["training"] == {}
    for one in made.values():
        assert set(one["probes"]) == {" ".join(map(str, probe)) for probe in signs.PROBES}
        assert all(len(text) == 3 * 6 for text in one["probes"]["crop cls last 7"]["counts"].values())
        assert len(one["focus"]["crop"]["animals"].split()) <= 6 and 0 < one["focus"]["frame"]["mean"] < 10
    looks = made["guided-tied-0"]["training"]["looks"]
    assert [look["step"] for look in looks] == [0, 2] and 0 < looks[1]["knn"] <= 1
    found = scripts["signs_table"].load(tmp_path / "out")
    assert "guided − frozen" in scripts["signs_table"].signs(found) and "k-NN" in scripts["signs_table"].training(found)
