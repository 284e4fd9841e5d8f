"""What the tracker saw of the subjects: vectors of its own forward passes, for probes with ``source: track``.

The tracker `propagate` runs a vision transformer over every analysed frame anyway. Where a probe asks for it, the network then runs to
its last block, and for every row with a mask the vectors that `embed` would compute of that picture are kept in ``glances/<video>/``,
beside the tracks and not among them: asking for them changes no track. `embed` takes over those whose mask is the one that the finished
track has, computes the few others itself, and removes the folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from foveate import masks
from foveate.masks import Mask
from foveate.models.pretrained import Tokens, subject_mean
from foveate.project import Project, Video
from foveate.schema import FEATURES, LAYERS
from foveate.store import Artefact, damaged, write_aside
from foveate.track.scene import Row, Scene

if TYPE_CHECKING:
    from torch import Tensor

VERSION = 1
Vectors = dict[str, NDArray[np.float16]]
"""``<feature>_<layer>`` -> fp16[rows, D]."""
Key = tuple[str, int, bytes]


def asked(project: Project) -> bool:
    """Whether a probe wants vectors of the tracker, and the tracker has any."""
    return project.config.track.method == "propagate" and any(p.source == "track" for p in project.config.probes.values())


def model_name(project: Project) -> str:
    """The model that looks at whole views: the tracker's own, or that of ``embed`` where the tracker has none of this kind."""
    config = project.config
    return config.track.model if config.track.method == "propagate" else config.embed.model


def artefact(project: Project, video: Video, track_stamp: str) -> Artefact:
    """Where they are, or will be, for a track with this stamp."""
    return Artefact(project.stage_folder("glances", video.name), "glance", VERSION, {}, {"track": track_stamp})


def key(view: str, frame: int, rle: bytes) -> Key:
    """What vectors are found by: whose they are does not matter, so that identities may be exchanged later."""
    return view, frame, hashlib.blake2b(rle, digest_size=8).digest()


def halved(tokens: Mapping[Any, Tokens]) -> list[dict[str, Tokens]]:
    """Of each picture the tokens of both layers as they are held in memory, in half precision."""
    pairs = {layer: (tokens[layer].whole.half().cpu(), tokens[layer].patches.half().cpu()) for layer in LAYERS}
    count = len(pairs[LAYERS[0]][0])
    return [{layer: Tokens(whole[i], patches[i]) for layer, (whole, patches) in pairs.items()} for i in range(count)]


def vectors_of(seen: Mapping[str, Tokens], shown: Sequence[Mask]) -> Vectors:
    """The six vectors of each subject in one picture, as ``Backbone.embed`` defines them.

    Args:
        seen: per layer ``whole`` f16[D] and ``patches`` f16[rows, columns, D].
        shown: masks bool[H, W] of the view.
    """
    import torch

    out: dict[str, Tensor] = {}
    count = len(shown)
    stack = torch.from_numpy(np.stack(shown).astype(np.float32))
    for layer, (whole, patches) in seen.items():
        every = patches.float().expand(count, *patches.shape)
        out[f"cls_{layer}"] = whole.float().expand(count, -1)
        out[f"patch_{layer}"] = patches.float().mean((0, 1)).expand(count, -1)
        out[f"subject_{layer}"] = subject_mean(every, stack)
    return {name: values.half().numpy() for name, values in out.items()}


class Glances:
    """What is seen while one video is tracked, part by part."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.target = artefact(scene.project, scene.video, scene.target.stamp)
        if not self.target.complete():
            self.target.begin()
        self.held: dict[tuple[str, int], dict[str, Tokens]] = {}  # of the pictures in hand
        self.keys: list[Key] = []
        self.vectors: list[Vectors] = []

    def see(self, view: str, frames: Sequence[int], tokens: Mapping[Any, Tokens]) -> None:
        """Hold the tokens of some frames of a view until their rows come, instead of those before."""
        self.held = {at: seen for at, seen in self.held.items() if at[0] != view}
        self.held |= {(view, frame): seen for frame, seen in zip(frames, halved(tokens), strict=True)}

    def add(self, row: Row) -> None:
        """Keep the vectors of a row whose picture is held."""
        seen = self.held.get((row["view"], row["frame"]))
        if seen is None or row["rle"] is None:
            return
        view = self.scene.views[row["view"]]
        self.keys.append(key(row["view"], row["frame"], row["rle"]))
        self.vectors.append(vectors_of(seen, [masks.decode(row["rle"], view.h, view.w)]))

    def write(self, name: str) -> None:
        """Write what has been kept since the last time as ``<name>.arrow``."""
        self.held.clear()
        keys, vectors, self.keys, self.vectors = self.keys, self.vectors, [], []
        if not keys:
            return
        views, frames, hashes = zip(*keys, strict=True)
        columns: dict[str, Any] = {"view": pa.array(views), "frame": pa.array(frames, pa.int64()), "mask": pa.array(hashes)}
        for column in (f"{feature}_{layer}" for layer in LAYERS for feature in FEATURES):
            values = np.concatenate([found[column] for found in vectors])
            columns[column] = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
        table = pa.table(columns)
        with write_aside(self.target.path(f"{name}.arrow")) as aside, pa.ipc.new_file(str(aside), table.schema) as writer:
            writer.write_table(table)


def read(target: Artefact, part: str) -> tuple[dict[Key, int], Vectors]:
    """What was seen in one part, forward and backward: row of each key, and the vectors; empty where nothing was kept."""
    found: dict[Key, int] = {}
    vectors: list[Vectors] = []
    for path in sorted(target.folder.glob(f"*{part}.arrow")):
        if not target.complete():
            break
        try:
            with pa.memory_map(str(path)) as mapped, pa.ipc.open_file(mapped) as reader:
                table = reader.read_all()
                views, frames, hashes = (table[name].to_pylist() for name in ("view", "frame", "mask"))
                own = {
                    name: np.asarray(table[name].combine_chunks().flatten()).reshape(len(table), -1)
                    for name in table.column_names[3:]
                }
        except (pa.ArrowException, OSError) as error:
            raise damaged(path) from error
        start = sum(len(next(iter(earlier.values()))) for earlier in vectors)
        found |= {k: start + i for i, k in enumerate(zip(views, frames, hashes, strict=True))}
        vectors.append({name: values.copy() for name, values in own.items()})
    return found, {name: np.concatenate([own[name] for own in vectors]) for name in (vectors[0] if vectors else ())}
