"""The report: complete, self-contained, deterministic, true to its inputs, and made also when some of them are missing."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from foveate import report
from foveate.actions import curve, probe, window_sweep
from foveate.actions import published as recipe
from foveate.project import Project, read_csv
from foveate.report import comparison, page, sources
from foveate.report.scores import in_words
from foveate.schema import FoveateError
from foveate.store import Artefact, write_text
from tests import fake_project

BASELINES = {"baselines": {"full frame": {"source": "frame", "feature": "cls"}, "single": {"window": 1}}}

VOID = {"meta", "link", "img", "br", "wbr", "path", "circle"}


class Page(HTMLParser):
    """Elements, text and nesting of a page."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: dict[str, list[str]] = {}
        self.section = ""
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "section":
            self.section = dict(attrs)["id"] or ""
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag == "section":
            self.section = ""

    def handle_data(self, data: str) -> None:
        self.words.setdefault(self.section, []).append(data)

    def text(self, section: str | None = None) -> str:
        parts = self.words.get(section, []) if section is not None else [t for part in self.words.values() for t in part]
        return " ".join(" ".join(parts).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def contents(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def made(project: Project) -> Page:
    return Page(report.run(project).path(report.PAGE).read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished project; tests that change something copy it."""
    project = fake_project.make(
        tmp_path_factory.mktemp("report") / "a study", videos=4, annotated=3, test=1, settings=BASELINES
    )
    fake_project.finish(project, test=True)
    return project.folder


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Project:
    shutil.copytree(finished, tmp_path / "copy")
    return Project.load(tmp_path / "copy")


def test_page_is_self_contained_and_well_formed(copy: Project) -> None:
    found = made(copy)
    for tag, attributes in found.elements:
        for name in ("src", "href", "srcset", "data", "action", "poster", "xlink:href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, name, value)
    text = report.artefact(copy).path(report.PAGE).read_text(encoding="utf-8")
    assert not re.search(r"url\((?!#|data:)", text)
    assert "@import" not in text and "http://" not in text
    assert all(image["alt"] for image in found.all("img"))
    ids = {attributes.get("id") for _, attributes in found.elements}
    assert all(link["href"][1:] in ids for link in found.all("a") if link["href"])  # type: ignore[index]
    assert len(ids) == 1 + sum("id" in attributes for _, attributes in found.elements)  # no id twice
    assert len(found.all("h1")) == 1
    assert all(svg.get("aria-label") or svg.get("aria-hidden") for svg in found.all("svg"))
    assert str(copy.folder) not in text


def test_same_inputs_same_bytes(copy: Project) -> None:
    first = report.run(copy)
    before = contents(first.folder)
    assert first.complete()
    first.discard()
    second = report.run(copy)
    assert contents(second.folder) == before


def test_a_moved_project_has_the_same_page(copy: Project, tmp_path: Path) -> None:
    before = report.run(copy).path(report.PAGE).read_bytes()
    shutil.copytree(copy.folder, tmp_path / "elsewhere ü")
    moved = Project.load(tmp_path / "elsewhere ü")
    report.artefact(moved).discard()
    assert report.run(moved).path(report.PAGE).read_bytes() == before


def test_nothing_is_done_twice(copy: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    report.run(copy)
    monkeypatch.setattr(page, "build", lambda *_: pytest.fail("made again"))
    report.run(copy)


def test_numbers_are_those_of_the_tables(copy: Project) -> None:
    found = made(copy)
    rows = [cells for _, cells in read_csv(copy.folder / "probes" / "default" / "scores.csv", ("f1",))]
    macro = {row["split"]: row for row in rows if row["behaviour"] == "*macro"}
    for split in ("cv", "test"):
        assert f"{float(macro[split]['f1']):.2f}" in found.text("")  # tiles and sentence
    low, high = (float(macro["cv"][key]) for key in ("f1_low", "f1_high"))
    assert f"{low:.2f}–{high:.2f}" in found.text("")
    for row in rows:
        if row["scored"] == "1":
            assert f"{float(row['precision']):.2f}" in found.text("scores")
        elif row["behaviour"] != "*macro":
            assert row["note"] in found.text("scores")
    # Two of four videos lose the animal in 4 of 32 frames.
    assert "94 %" in found.text("") and "seen 88 %" in found.text("tracks") and "lost 0:04–0:06" in found.text("tracks")
    (budget,) = [
        cells
        for _, cells in read_csv(copy.folder / "predictions" / "default" / "v1" / "budget.csv", ("share",))
        if cells["behaviour"] == "eating"
    ]
    assert page.percent(float(budget["share"])) in found.text("budgets")


def test_bouts_probabilities_and_the_curve_are_those_of_the_tables(copy: Project) -> None:
    def table(name: str) -> list[dict[str, str]]:
        return [row for _, row in read_csv(copy.folder / "probes" / "default" / name, ())]

    page = made(copy)
    said = page.text("scores")
    rows = [row for row in table("bouts.csv") if row["split"] == "cv" and row["decisions"] == "smoothed"]
    for row in rows[:-1]:
        assert f"{row['annotated']} / {row['predicted']}" in said and f"{float(row['f1_25']):.2f}" in said
        assert f"{float(row['kappa']):.2f}" in said and f"{row['undefined_f1']} of {row['recordings']}" in said
    assert "gaps ≤ 1 s closed, bouts ≥ 1 s" in said  # of the first behaviour, as the fake probe has it
    labels = [svg["aria-label"] for svg in page.all("svg") if (svg.get("aria-label") or "").startswith("Reliability of")]
    calibration = [row for row in table("calibration.csv") if row["split"] == "cv"]
    assert len(labels) == len(calibration) and "foveate probe --curve" in said
    for row in calibration:
        assert f"Brier {float(row['brier']):.2f} ({float(row['brier_chance']):.2f})" in said
    curve_rows = [
        f"{axis},{size},{n},{m},{b},{f1},{f1 - 0.1:.2f},{f1 + 0.1:.2f},{gain},{gain - 0.04:.2f},{gain + 0.04:.2f}"
        for axis, size, n, m, f1, gain in (
            *(("animals", "2", 2, 1.5, 0.5, 0.2), ("animals", "all", 4, 3.0, 0.7, 0.0)),
            *(("minutes", "0.5", 4, 1.5, 0.6, 0.03), ("minutes", "all", 4, 3.0, 0.7, 0.0)),
        )
        for b in ("*macro", rows[0]["behaviour"])
    ]
    done = curve.artefact(copy)
    done.begin()
    write_text(done.path("curve.csv"), "\n".join([",".join(curve.COLUMNS), *curve_rows]) + "\n")
    done.finish()
    page = made(copy)  # made again, because there is something new to show
    said = page.text("scores")
    assert "from 2 to 4 annotated animals it changed by +0.20 (95 % interval +0.16 to +0.24)" in said
    assert (
        "from 1.5 to 3 annotated minutes it changed by +0.03 (95 % interval -0.01 to +0.07). The curve is still rising" in said
    )
    assert any(
        svg.get("aria-label") == "Macro F1 against annotated animals: 2 animals 0.50, 4 animals 0.70" for svg in page.all("svg")
    )


def test_the_published_probe_is_shown_once_it_is_there(copy: Project) -> None:
    assert "published probe" not in made(copy).text("scores")
    values = [
        ("honest", "cv", 0.5),
        ("paper", "cv", 0.56),
        ("random_frames", "cv", 0.71),
        ("honest", "test", 0.4),
        ("paper", "test", 0.47),
    ]
    rows = [
        f"{score},{side},{b},1,{f1},{f1 - 0.1:.2f},{f1 + 0.1:.2f},last,0.1,90,30,3,3,"
        for score, side, f1 in values
        for b in ("standing & more", "*macro")
    ]
    done = probe.artefact(copy, "paper")
    done.begin()
    write_text(done.path("published.csv"), "\n".join([",".join(recipe.COLUMNS), *rows]) + "\n")
    write_text(done.path("test_videos.csv"), "video,behaviour,f1,rows,positives\nvideo 9,*macro,0.4,90,30\n")
    done.finish()
    said = made(copy).text("scores")
    assert "training videos, cross-validated (3)" in said and "0.71 0.61–0.81 +0.21" in said and "0.47 0.37–0.57 +0.07" in said
    assert "on the test videos themselves changes macro F1 by +0.070" in said and "would have changed it by +0.210" in said
    assert "1 test video is too little for an interval; macro F1: video 9 0.400" in said and "Window (frames)" not in said
    swept = window_sweep.artefact(copy, (1, 7))
    swept.begin()
    lines = [f"{w},{row}" for w in (1, 7) for row in rows if row.split(",")[0] != "random_frames"]
    write_text(swept.path("windows.csv"), "\n".join([",".join(("window", *recipe.COLUMNS)), *lines]) + "\n")
    swept.finish()
    assert "best on the test videos 1 0.50 0.56 0.47 7 0.50 0.56 0.47" in made(copy).text("scores")


def test_a_probe_in_words(copy: Project) -> None:
    settings = copy.config.probe.published()
    assert in_words(settings) == "published recipe, crops, CLS token, last and third-last layer, windows of 7 frames"
    assert in_words(settings.model_copy(update={"recipe": "foveate", "layer": "last", "window": 1})) == (
        "crops, CLS token, last layer, single frames"
    )


def test_every_video_has_pictures_and_ethogram(copy: Project) -> None:
    found = made(copy)
    alts = [image["alt"] or "" for image in found.all("img")]
    for video in copy.videos:
        assert sum(alt.startswith(f"{video.name} at ") for alt in alts) == 6, video.name
        assert any(
            (svg.get("aria-label") or "").startswith(f"Ethogram of {video.subjects[0]} in {video.name}")
            for svg in found.all("svg")
        )
    assert any(alt.endswith("lost") for alt in alts)
    assert found.text("tracks").count("followed by propagate from a click") == len(copy.videos)
    text = found.text("ethograms")
    assert text.count("out-of-fold prediction") == 2  # two training videos
    assert text.count("prediction of the final probe") == 1  # the test video; the unannotated one goes without saying


def test_groups_are_told_in_words(tmp_path: Path) -> None:
    project = fake_project.make(tmp_path / "p", videos=12, annotated=2)
    fake_project.finish(project)
    found = made(project)
    rows = {c["behaviour"]: c for _, c in read_csv(project.folder / "comparison" / "default" / "tests.csv", ("p",))}
    assert [b for b, row in rows.items() if row["significant"] == "1"] == ["eating"]  # else this test says nothing
    assert "Between control and treatment (5 and 5 animals), eating differs; for the other 2 behaviours no" in found.text("")
    text = found.text("groups")
    shares = [f"{float(rows['eating'][key]) * 100:.1f} %" for key in ("median_2", "median_1")]
    assert (
        f"eating: treatment animals tended to spend more time with it than control animals, in the median {shares[0]}" in text
    )
    assert shares[1] in text and f"p = {float(rows['eating']['p_holm']):.3f}" in text
    assert re.search(r"No difference was shown .* lying \(p = [\d.]+\), standing \(p = [\d.]+\)", text)
    figures = [image["alt"] or "" for image in found.all("img") if (image["src"] or "").startswith("data:image/svg+xml")]
    assert len(figures) == 3 and "eating" in figures[0] and "corrected" in figures[1] and "transitions" in figures[2]
    corrected = {
        (c["behaviour"], c["group"]): c
        for _, c in read_csv(project.folder / "comparison" / "default" / "corrected.csv", ("corrected",))
    }
    assert f"{float(corrected['eating', 'control']['corrected']) * 100:.1f} %" in text
    assert "fewer than three animals of a group are annotated" in text  # two are
    assert text.index("differs *") < text.index("Beside the primary tests") and "differs *" not in text[text.index("Beside") :]


def test_other_probes_stand_beside(copy: Project) -> None:
    text = made(copy).text("scores")
    values = {
        name: next(
            float(cells["f1"])
            for _, cells in read_csv(copy.folder / "probes" / name / "scores.csv", ("f1",))
            if (cells["split"], cells["behaviour"]) == ("cv", "*macro")
        )
        for name in ("default", "full frame", "single")
    }
    assert "full frames, CLS token" in text and "single frames" in text
    for name in ("full frame", "single"):
        difference = values[name] - values["default"]
        assert f"{difference:+.2f}".replace("-", "−") in text


NASTY = "<script>alert(\"x\")</script> & 'ü' 雪"


def test_names_are_escaped(tmp_path: Path) -> None:
    project = fake_project.make(
        tmp_path / "p",
        videos=2,
        annotated=2,
        name=NASTY,
        behaviours=('a <b>&"quoted"', "lying é"),
        subject=lambda k: f"Żubr's & co {k}",
        group_name=lambda g: f"<img src=x onerror=alert(1)> {g}",
    )
    fake_project.finish(project)
    found = made(project)
    assert len(found.all("script")) == 1
    assert not any("onerror" in attributes for _, attributes in found.elements)
    for name in (NASTY, 'a <b>&"quoted"', "lying é", "Żubr's & co 0", "<img src=x onerror=alert(1)> control"):
        assert name in found.text()
    assert not found.all("b") or all(not attributes for attributes in found.all("b"))


def test_no_annotation(tmp_path: Path) -> None:
    project = fake_project.make(tmp_path / "p", videos=2, annotated=0, groups=())
    fake_project.finish(project)
    found = made(project)
    assert "Nothing was annotated" in found.text("scores")
    assert "seen" in found.text("tracks")
    assert "no time budget" in found.text("budgets")
    assert "macro" not in found.text("")
    assert report.artefact(project).complete()


def test_annotations_are_shown_without_predictions(copy: Project) -> None:
    shutil.rmtree(copy.folder / "predictions")
    shutil.rmtree(copy.folder / "probes")
    found = made(copy)
    labels = [svg["aria-label"] or "" for svg in found.all("svg") if "data-seconds" in svg]
    assert len(labels) == 3 and all("annotated" in label and "predicted" not in label for label in labels)
    assert "no finished probe" in found.text("scores")


def test_an_unfinished_video_is_named_and_the_page_made_again_when_it_is_there(copy: Project) -> None:
    kept = copy.folder / "tracks" / "v1"
    kept.rename(copy.folder / "aside")
    first = report.run(copy)
    found = Page(first.path(report.PAGE).read_text(encoding="utf-8"))
    assert "missing or outdated for 1 of 4 videos: v1" in found.text("provenance")
    assert not any((image["alt"] or "").startswith("v1 at") for image in found.all("img"))
    assert any((image["alt"] or "").startswith("v2 at") for image in found.all("img"))
    (copy.folder / "aside").rename(kept)
    assert not report.artefact(copy).complete()
    assert any((image["alt"] or "").startswith("v1 at") for image in made(copy).all("img"))


@pytest.mark.parametrize(
    ("file", "section"),
    [
        ("tracks/v1/part-00000.parquet", "tracks"),
        ("predictions/default/v1/predictions.parquet", "ethograms"),
        ("probes/default/scores.csv", "scores"),
        ("probes/default/bouts.csv", "scores"),
        ("labels/intervals.parquet", "ethograms"),
    ],
)
def test_a_damaged_file_is_named_in_its_section(copy: Project, file: str, section: str) -> None:
    path = copy.folder / file
    intact = path.read_bytes()
    path.write_bytes(intact[:50] + bytes([intact[50] ^ 255]) + intact[51:])
    found = made(copy)
    assert file in found.text(section) and "damaged" in found.text(section)
    assert not report.artefact(copy).complete()  # the next run tries again
    path.write_bytes(intact)
    assert "damaged" not in made(copy).text()
    assert report.artefact(copy).complete()


def test_footage_that_is_gone(copy: Project) -> None:
    (copy.folder / "footage" / "v2.mp4").unlink()
    found = made(copy)
    assert "v2.mp4" in found.text("provenance") and "no such file" in found.text("provenance")
    assert "animals 3" in found.text("")  # of the videos that are there
    assert any((image["alt"] or "").startswith("v0 at") for image in found.all("img"))


def test_problems_speak_of_no_folder_of_the_machine(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    error = FoveateError("broken", file=folder / "tracks" / "v", row=3, remedy=f"delete the folder {folder}/tracks/v")
    problem = sources.describe("x", error, folder)
    assert problem.text == "tracks/v, row 3: broken" and problem.remedy == "delete the folder tracks/v"
    outside = sources.describe("x", FoveateError("no such file", file="/data/secret person/v.mp4"), folder)
    assert outside.text == "v.mp4: no such file"


def test_many_videos_have_pictures_of_the_worst_and_of_some_others(copy: Project) -> None:
    from foveate.report import tracks

    found = tracks.tracked(copy, sources.collect(copy, "default"), sources.Notes(copy.folder))
    many = [found[k % len(found)] for k in range(60)]
    picked = tracks.choose(many, 24)
    assert len(picked) == 24
    assert tracks.choose(found, 24) == found
    lost = [sheet for sheet in many if sheet.share_seen < 1]
    assert sum(sheet.share_seen < 1 for sheet in picked) >= min(12, len(lost))


@pytest.mark.parametrize(("share", "text"), [(0, "0 %"), (0.001, "< 1 %"), (0.123, "12 %"), (0.999, "99.9 %"), (1, "100 %")])
def test_percent(share: float, text: str) -> None:
    assert page.percent(share) == text


def test_a_star_that_the_probes_errors_could_make_is_doubted(tmp_path: Path) -> None:
    done = Artefact(tmp_path / "c", "compare", 1, {}, {})
    done.begin()
    write_text(done.path("corrected_differences.csv"), "behaviour,low,high\nlying,-0.1,0.2\neating,0.1,0.3\nhead_up,,\n")
    done.finish()
    starred = [{"behaviour": b} for b in ("lying", "eating", "head_up")]
    (said,) = comparison._doubted(done, starred)
    assert "difference in lying reaches over zero" in said
    assert comparison._doubted(done, starred[1:]) == []
