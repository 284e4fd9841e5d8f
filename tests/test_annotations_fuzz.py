"""Whatever is in an annotation file, a user hears of it with file and remedy; nothing crashes, and good files stay."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foveate import annotations
from foveate.annotations import tables
from foveate.schema import FoveateError
from tests.annotated import BORIS_AGGREGATED, BORIS_TABULAR, Study, aggregated_row, tabular_row
from tests.mangled import good_files, make_study, mutations

TWO = "player #1:pen1.mp4;pen2.mp4|player #2:pen3.mp4"
GOOD = (
    "video,subject,behaviour,start,stop,kind,annotator\npen1,ewe,graze,1.5,0:00:10,,Kim\npen2,ram,bleat,5,,point,\n",
    "\n".join(
        [
            BORIS_TABULAR,
            tabular_row("graze", "START", "1.0", source=TWO, durations="60.000;120.000|30.000", subject="ewe"),
            tabular_row("graze", "STOP", "70.0", source=TWO, durations="60.000;120.000|30.000", subject="ewe"),
            tabular_row("bleat", "POINT", "3.0"),
        ]
    ),
    "\n".join(
        [
            BORIS_AGGREGATED,
            aggregated_row("graze", "1.0", "90.0", source=TWO, durations="60.000;120.000|30.000", subject="ewe"),
            aggregated_row("bleat", "3.0", "3.0", kind="POINT", coded="NA"),
        ]
    ),
    "video,subject,start,stop,behaviour\npen1,ewe,0,30,graze\npen2,,,,\n",
)
BITS = st.sampled_from(
    [
        "",
        ",",
        ";",
        "\t",
        "|",
        '"',
        "\n",
        "\r",
        "\x00",
        "\ufeff",
        "NA",
        "-1",
        "1e999",
        "nan",
        "99:99",
        "player #",
        "player #1:",
        "é",
        "\u2028",
    ]
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A good file after some cuts, insertions and swapped cells; now and then raw bytes."""
    text = draw(st.sampled_from(GOOD))
    for _ in range(draw(st.integers(1, 5))):
        a = draw(st.integers(0, len(text)))
        b = draw(st.integers(a, min(len(text), a + 12)))
        text = text[:a] + draw(BITS | st.text(max_size=3)) + text[b:]
    if draw(st.booleans()):
        lines = text.split("\n")
        i = draw(st.integers(0, len(lines) - 1))
        lines[i] = ",".join(draw(st.permutations(lines[i].split(",")[:30])))
        text = "\n".join(lines)
    content = text.encode("utf-8", "surrogatepass")
    return content[draw(st.integers(0, 3)) :] + draw(st.binary(max_size=2)) if draw(st.integers(0, 9)) == 0 else content


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(content=damaged(), observed=st.none() | damaged(), listed=st.booleans())
def test_damaged_files_never_raise_and_never_hurt_others(content: bytes, observed: bytes | None, listed: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        study = Study(Path(folder), {"pen1": (60.0, "ewe"), "pen2": (120.0, "ewe;ram"), "pen3": (30.0, "ewe")})
        if listed:
            study.configure(behaviours=["graze", "bleat"])
        (study.folder / "annotations" / "a.csv").write_bytes(content)
        study.annotate("z.csv", "video,subject,behaviour,start,stop,annotator", "pen3,ewe,graze,1.5,10,the good file")
        if observed is not None:
            (study.folder / "annotations" / "observed.csv").write_bytes(observed)
        try:
            facts = annotations.run(study.project, duration=study.duration).facts()
        except FoveateError as error:  # only where it is not known what was observed
            assert observed is not None and Path(str(error.file)).name == "observed.csv" and error.remedy
            return
        assert all(p["remedy"] and p["file"] for p in facts["problems"])
        labels = annotations.load_labels(study.project)
        good = labels.intervals[labels.intervals["annotator"] == "the good file"]
        assert good[["video", "start", "stop"]].to_numpy().tolist() == [["pen3", 1.5, 10.0]]
        table = labels.intervals
        assert ((table["start"] >= 0) & (table["start"] <= table["stop"])).all()
        assert (table["stop"] <= table["video"].map(study.lengths)).all()
        assert (labels.observed["start"] <= labels.observed["stop"]).all()
        for video, subject in (("pen1", "ewe"), ("pen2", "ram")):
            assert set(labels.dense(video, subject, [0.0, 1.0, 30.0]).flat) <= {-1, 0, 1}


def test_no_format_lets_damage_through(tmp_path: Path) -> None:
    """Good files are read without a word, and 3,000 damaged ones with nothing but problems."""
    study = make_study(tmp_path)
    for name, content in good_files().items():
        path = study.folder / "annotations" / name
        path.write_bytes(content)
        reading = annotations.read_file(path, study.project, tables.Videos.of(study.project), study.duration, study.times)
        assert not reading.problems and reading.entries, name
    outcomes = [(bouts, problems) for _, _, bouts, problems in mutations(study, 3000, seed=1)]
    assert sum(bouts > 0 for bouts, _ in outcomes) > 300 and sum(problems > 0 for _, problems in outcomes) > 300
