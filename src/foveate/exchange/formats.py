"""Which reader a file is for, told by its content, and which writer a target has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from foveate.exchange import coco, cvat, deeplabcut, hdf5, movement, octron, sleap, via
from foveate.exchange.sheet import Footage, Own, Rows, Sheet, refuse
from foveate.schema import FoveateError

_HEAD = 65_536

_TEXTS: tuple[tuple[Callable[[str], bool], Callable[[Path, Own], Sheet]], ...] = (
    (via.is_via, via.read_via),
    (octron.is_octron, octron.read_octron),
    (deeplabcut.is_deeplabcut, deeplabcut.read_deeplabcut),
    (cvat.is_cvat, cvat.read_cvat),
    (coco.is_coco, coco.read_coco),
)

_KNOWN = "SLEAP (.h5, .slp), DeepLabCut (.csv), CVAT for video (.xml), OCTRON (.csv), VIA-tracks (.csv), COCO (.json), movement (.nc)"


def read(path: Path, own: Own) -> Sheet:
    """All tracks that a file holds.

    Raises:
        FoveateError: it cannot be read, is of no known format, is damaged, or holds no track; names file and row.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD)
        sheet = _read(path, head, own)
    except OSError as error:
        raise refuse(path, f"cannot be read ({error.strerror})", remedy="check the path") from None
    if not sheet.sightings:
        raise refuse(path, "the file holds no track", remedy="check what was exported")
    return sheet


def _read(path: Path, head: bytes, own: Own) -> Sheet:
    if head.startswith(hdf5.MAGIC):
        return _hdf5(path, own)
    if head.startswith(movement.CLASSIC):
        return movement.read_movement(path, movement.read_classic(path), own)
    text = head.decode("utf-8", "replace")
    for sniff, reader in _TEXTS:
        if sniff(text):
            return reader(path, own)
    raise refuse(path, "not a file with tracks of a known program", remedy=f"known: {_KNOWN}")


def _hdf5(path: Path, own: Own) -> Sheet:
    content = hdf5.read_hdf5(path)
    if sleap.is_analysis(content):
        return sleap.read_analysis(path, content, own)
    if sleap.is_labels(content):
        return sleap.read_labels(path, content, own)
    if movement.is_movement(content):
        return movement.read_movement(path, content, own)
    if "df_with_missing" in content.keys:
        problem = "HDF5 of DeepLabCut names its columns in a form that can run code, which is not read"
        raise refuse(path, problem, remedy="import the CSV of the same analysis (in DeepLabCut: save_as_csv=True)")
    raise refuse(path, "not a file with tracks of a known program", remedy=f"known: {_KNOWN}")


def write(to: str, path: Path, footage: Footage, subjects: tuple[str, ...], rows: Rows) -> None:
    """Write the rows of one view in the format ``to`` (``schema.TrackTarget``)."""
    if to == "via-tracks":
        via.write_via(path, footage, subjects, rows)
    elif to == "coco":
        coco.write_coco(path, footage, subjects, rows)
    elif to == "cvat":
        cvat.write_cvat(path, footage, subjects, rows)
    elif to == "octron":
        octron.write_octron(path, footage, subjects, rows)
    elif to in ("movement", "movement-legacy"):
        movement.write_movement(path, footage, subjects, rows, legacy=to == "movement-legacy")
    else:
        raise FoveateError(f"there is no format {to!r} for tracks", remedy=f"formats: {', '.join(SUFFIXES)}")


SUFFIXES = {
    "via-tracks": ".csv",
    "coco": ".json",
    "cvat": ".xml",
    "movement": ".nc",
    "movement-legacy": ".legacy.nc",
    "octron": "",
}
"""Of a file in a folder of many, different for each format but ``octron``, which writes folders."""
