"""Shows pictures to models, and writes down what they looked at."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa

from foveate.attention import sheets
from foveate.attention.evidence import cam_maps
from foveate.attention.focus import focus_score
from foveate.attention.looking import Looked, Place, look
from foveate.evaluate.encoders import Encoder
from foveate.models.pretrained import Backbone
from foveate.project import Project, Video
from foveate.store import Artefact, write_aside, write_parquet
from foveate.videowriter import VideoWriter

MAPS = pa.schema(
    [
        *((name, pa.string()) for name in ("model", "source", "video", "view", "subject")),
        ("frame", pa.int64()),
        ("time", pa.float64()),
        ("area", pa.float32()),  # share of the picture that the subject covers
        ("focus", pa.float32()),  # of the mean of the heads; not a number where the subject covers nothing
        ("focus_heads", pa.list_(pa.float32())),
        ("rows", pa.int32()),
        ("columns", pa.int32()),
        ("attention", pa.list_(pa.float32())),  # heads x rows x columns, as the softmax gave it
    ]
)
"""``maps/<video>.parquet``: a row per model and picture."""

_CLIP = 224  # height of a clip's pictures in pixels


@dataclass(frozen=True)
class Watcher:
    """All models beside each other. The iterators yield after every picture."""

    project: Project
    models: Mapping[str, Backbone | Encoder]  # by the name shown; encoders are networks of convolutions
    size: int  # pixels of the short side

    def examples(self, target: Artefact, video: Video, places: Sequence[Place], sources: Sequence[str]) -> Iterator[None]:
        """Write the sheets of one video, and then its maps, whose file says that the video is done."""
        rows: list[dict[str, Any]] = []
        for looked in itertools.chain.from_iterable(look(self.project, video, places, source) for source in sources):
            at, seen = looked.place, self.see(looked)
            with write_aside(
                target.path(f"pictures/{video.name}/{at.view}-{at.subject}-{at.frame}-{looked.source}.png")
            ) as aside:
                sheets.sheet(looked, seen).save(aside, compress_level=1)  # three times as fast, a fifth larger
            rows += [_row(looked, one) for one in seen]
            yield
        write_parquet(target.path(f"maps/{video.name}.parquet"), pa.Table.from_pylist(rows, schema=MAPS))

    def clip(self, target: Artefact, name: str, video: Video, places: Sequence[Place], source: str) -> Iterator[None]:
        """Write the clip ``name`` of one subject in one view, a second for a second."""
        steps = np.diff([place.time for place in places])
        rate = max(Fraction(1), Fraction(1 / float(np.median(steps))).limit_denominator(100)) if len(steps) else Fraction(1)
        pictures = look(self.project, video, places, source)
        first = next(pictures)
        height, width = sheets.clip_size(first, _CLIP, len(self.models))
        with write_aside(target.path(name)) as aside, VideoWriter(aside, width, height, rate=rate) as writer:
            for looked in itertools.chain([first], pictures):
                writer.write(sheets.clip_picture(looked, self.see(looked), _CLIP))
                yield

    def see(self, looked: Looked) -> list[sheets.Seen]:
        """What each model makes of a picture."""
        import torch

        from foveate.models.attention import attention_maps

        mask, within = (torch.from_numpy(part.astype(np.float32))[None] for part in (looked.mask, looked.within))
        found = []
        for label, model in self.models.items():
            shown = looked.shown(self.size, model.patch)
            maps = (attention_maps(shown, model) if isinstance(model, Backbone) else cam_maps(shown, model)).cpu()
            focus = focus_score(maps, mask, within)
            found.append(sheets.Seen(label, maps[0], float(focus.mean[0]), focus.heads[0].tolist(), float(focus.area[0])))
        return found


def _row(looked: Looked, seen: sheets.Seen) -> dict[str, Any]:
    at = looked.place
    return {
        "model": seen.model,
        "source": looked.source,
        **{name: getattr(at, name) for name in ("video", "view", "subject", "frame", "time")},
        "area": seen.area,
        "focus": seen.mean,
        "focus_heads": seen.heads,
        "rows": seen.maps.shape[1],
        "columns": seen.maps.shape[2],
        "attention": seen.maps.flatten().numpy(),
    }
