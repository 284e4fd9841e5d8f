"""The miniature of PreViTS (benchmarks/previts*.py): whom it asks about, what it hides, and where evidence counts as lying."""

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

SCRIPTS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def scripts() -> Any:
    sys.path.insert(0, str(SCRIPTS))
    try:
        yield {name: importlib.import_module(name) for name in ("previts", "previts_facts", "previts_table", "signs_data")}
    finally:
        sys.path.remove(str(SCRIPTS))


def test_no_pen_of_a_question_is_among_those_of_the_answers(scripts: Any) -> None:
    """Of at least eight animals, with at least twenty clips each."""
    from foveate.simulate.plan import plan

    extent = scripts["signs_data"].Extent()
    pens = {places: [video.pen for video in plan(extent.settings(places))] for places in ("tied", "free")}
    for videos in scripts["previts"].halves(extent):
        assert len(videos) >= 8 and videos.max() < extent.train
        known, asked = ({pens[places][k] for k in videos} for places in ("tied", "free"))
        assert not known & asked and len(known) == len(asked) == 2


def test_what_is_hidden_has_the_mean_colour(scripts: Any) -> None:
    pictures, mask = torch.full((1, 3, 20, 40), 255, dtype=torch.uint8), torch.zeros(1, 20, 40)
    mask[0, 5:9, 10:16] = 1
    mask[0, 8, 10:13] = 0
    shown = {show: scripts["previts"].as_shown(pictures, mask, (20, 40), show)[0, 0] != 0 for show in scripts["previts"].SHOWS}
    assert shown["everything"].all() and torch.equal(shown["only_animal"], mask[0] > 0)
    box = torch.zeros(20, 40, dtype=torch.bool)
    box[5:9, 10:16] = True
    assert torch.equal(shown["no_animal"], ~box)


def test_evidence_lies_where_the_likeness_comes_from(scripts: Any) -> None:
    """Two videos with the same corner, each with a mark of its own that tells them apart."""
    maps = torch.zeros(2, 3, 4, 4)
    maps[:, 0, 0, 0] = 3
    maps[0, 1, 1, 2] = maps[1, 2, 3, 1] = 1
    mask = torch.zeros(2, 16, 16)
    mask[0, 0:12, 4:16] = 1
    mask[1, :4, :4] = 1
    cells = scripts["previts"]
    on, area = cells.mass(maps, cells.contrast(maps.mean((2, 3))), mask)
    assert on[0] > 0.9 and on[1] < 0.1 and area.tolist() == pytest.approx([144 / 256, 16 / 256])
    on, _ = cells.mass(maps * 0, lambda found: found.sum(1), mask)  # no evidence at all
    assert on.tolist() == pytest.approx(area.tolist())


def test_cells_differ_in_what_their_names_say(scripts: Any) -> None:
    cells, size = scripts["previts"], scripts["previts"].Size()
    recipes = {name: cells.recipe(cells.Cell(name, 0), size) for name in cells.SYSTEMS}
    assert len({cell.name for cell in cells.CELLS}) == len(cells.CELLS)
    assert recipes["attention"].method.base == recipes["sampling"].method
    assert replace(recipes["baseline"].method, crops=recipes["sampling"].method.crops) == recipes["sampling"].method
    assert recipes["baseline"].training == recipes["attention"].training and recipes["baseline"].training.steps * 32 == 13_984
    mu, weight = cells.drawn(0)
    assert recipes["drawn"].method.base.crops.cover == mu and recipes["drawn"].method.attention == weight
    assert len({cells.drawn(seed) for seed in range(4)}) == 4


def test_pairs_are_told_by_the_colours_of_their_animals(scripts: Any) -> None:
    """Two animals far apart: constrained crops show the one they are meant to, ordinary ones now one, now the other."""
    facts = scripts["previts_facts"]
    facts.PAIRS, least = 64, facts.Usable()
    seen = np.zeros((6, 3, facts.HEIGHT, facts.WIDTH), bool)
    seen[:, 0, 40:80, 4:40], seen[:, 1, 40:80, 180:216] = True, True
    sources = [facts.source(f"video {k}", subject, seen) for k in range(16) for subject in (0, 1)]
    small = facts.Crops(size=112, area=(0.1, 0.2))
    ordinary = facts.shown(sources, small, None)
    assert set(np.unique(ordinary)) == {-1, 0, 1}
    found = facts.shown(sources, replace(small, cover=0.3, constrained_area=(0.1, 0.2)), least)
    assert (found[:, 0] == found[:, 1]).all() and set(np.unique(found)) == {0, 1}


def test_tables_of_cells(scripts: Any, tmp_path: Path) -> None:
    tables = scripts["previts_table"]
    for system, right in (("random", "0.1 0.3 0.2 0.2"), ("baseline", "0.6 0.8 0.9 0.5")):
        names = [f"{kind} {show}" for kind in ("linear", "knn") for show in scripts["previts"].SHOWS]
        animals = {"chance": 0.25, "animals": {name: "0.1 0.1 0.1 0.1" if "no" in name else right for name in names}}
        one = {"videos": "0.1 0.2 0.3 0.2", "areas": "0.1 0.1 0.1 0.2"}
        labels = dict.fromkeys(tables.SIX, "110110110110")
        probes = {probe: {"counts": labels} for probe in (tables.CROP, tables.FRAME)}
        cell = {
            "cell": {"system": system, "seed": 0, "share": 1.0, "places": "own"},
            "training": {},
            "animals": animals,
            "probes": probes,
        }
        (tmp_path / f"{system}-0.json").write_text(
            json.dumps({**cell, "evidence": dict.fromkeys(("classifier", "test", "davis"), one)})
        )
    found = tables.load(tmp_path)
    assert "| MoCo (1) | 0.700 [" in tables.scores(found) and "| 0.100 |" in tables.scores(found)
    shown = tables.signs(found)
    assert "| animals known, linear | MoCo − random start | +0.500 [" in shown and "shown" in shown
    assert "| fall of linear with the animal hidden | MoCo − random start | +0.500 [" in shown
    assert "1.750" in tables.scores(found)  # (1 + 2 + 3 + 1) / 4
    assert tables.spread(found) == tables.training(found) == ""
