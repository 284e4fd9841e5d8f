"""Who is who, where several subjects share a view: the rows of a tracker, looked at once more as a whole."""

from __future__ import annotations

from foveate.store import read_parquet, write_parquet
from foveate.track.scene import Scene, part_name, raw_name


def settle(scene: Scene) -> None:
    """Make the parts of the tracks from those that the tracker wrote. Done again, it gives the same bytes."""
    for part in range(scene.parts):
        write_parquet(scene.target.path(part_name(part)), read_parquet(scene.target.path(raw_name(part))))
