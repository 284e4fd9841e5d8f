"""The memory of a SAM 2 on its way through a video, as small after hours as after seconds.

``transformers`` keeps everything that a session has ever seen: at 1024 pixels about 18 MB per frame. The network looks back at the
prompted frames, at the features of the last ``num_maskmem - 1`` others and at the object pointers of the last
``max_object_pointers_in_encoder - 1``; what lies further back cannot change any result and is dropped here after every frame, so that
results are the same, bit for bit. Only prompted frames pile up: the first and the newest are kept.

One subject has one session of its own, so that following another one beside it changes nothing; what the image encoder sees is shared.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from foveate.masks import Mask

if TYPE_CHECKING:
    from torch import Tensor

    from foveate.models.sam2 import Segmenter

PROMPTS = 4  # prompted frames kept: the first and the newest
_KEPT = ("object_pointer", "maskmem_features", "maskmem_pos_enc")  # of what a session stores per frame: all that is read again
_BOX, _ON = (2, 3), 1  # labels of a box's corners and of a point on the subject


@dataclass(frozen=True, eq=False)
class Given:
    """What somebody says of a subject in one frame: a mask, or points on it and a box around it, or one of these. View pixels."""

    points: tuple[tuple[float, float], ...] = ()
    box: tuple[float, float, float, float] | None = None  # left, top, right, bottom
    mask: Mask | None = None  # bool[H, W]


@dataclass(frozen=True, eq=False)
class Seen:
    """Where a subject is in one frame."""

    logits: Tensor  # f32[size / 4, size / 4], over the whole view; above 0 is the subject
    mask: Mask  # bool[H, W] of the view: the logits, interpolated bilinearly, as published; holes are not filled
    certainty: float  # 0..1, that the subject is in the picture at all


class Session:
    """The subjects of one view, followed through pictures that are given one by one.

    Args:
        model: the network.
        height, width: of the view in pixels, which prompts are given in.
        prompts: how many prompted frames are remembered, at least 2.
        bounded: False: nothing is dropped (for comparison; memory grows with every frame).
    """

    def __init__(self, model: Segmenter, height: int, width: int, prompts: int = PROMPTS, *, bounded: bool = True) -> None:
        self.model, self.size, self.prompts, self.bounded = model, (height, width), prompts, bounded
        self.memories: dict[int, Any] = {}  # subject -> session of transformers
        self.next = 0  # number of the next frame, counted by what this session was shown

    def step(
        self,
        picture: NDArray[np.uint8],
        given: Mapping[int, Given] | None = None,
        only: Collection[int] | None = None,
        *,
        at: int | None = None,
    ) -> dict[int, Seen]:
        """Look at the next picture.

        Args:
            picture: u8[h, w, 3], the whole view at any size.
            given: prompts of this frame by subject; a subject is followed from its first one on.
            only: subjects that are looked for; default: all.
            at: the frame's number where it is not the next one; frames that the session has been shown may not come again.

        Returns:
            One answer for each subject that is looked for and has been prompted, in this frame or before.
        """
        from torch.nn import functional

        given = given or {}
        at = self.next if at is None else at
        self.next = max(self.next, at + 1)
        for subject in given:
            if subject not in self.memories:
                self.memories[subject] = self._memory()
        looked = {subject: memory for subject, memory in sorted(self.memories.items()) if only is None or subject in only}
        if not looked:
            return {}
        pixels = self.model.pixels(picture)
        features = self.model.features(pixels)
        seen = {}
        for subject, memory in looked.items():
            if subject in given:
                self._prompt(memory, at, given[subject])
            memory.cache.cache_vision_features(at, features)
            with self.model.running():
                out = self.model.module(memory, frame=pixels, frame_idx=at)
            memory.cache.clear_all()
            if self.bounded:
                self._forget(memory, at)
            logits = out.pred_masks[:1, :1].float().cpu()
            full = functional.interpolate(logits, self.size, mode="bilinear", align_corners=False)[0, 0] > 0
            seen[subject] = Seen(logits[0, 0], full.numpy(), float(out.object_score_logits.flatten()[0].float().sigmoid()))
        return seen

    def _memory(self) -> Any:
        import torch

        device = self.model.device
        memory = self.model.session_class(
            inference_device=device,
            inference_state_device=device,
            video_storage_device=device,
            dtype=torch.float32,  # the default is the name of a type, which mask prompts stumble over
        )
        memory.obj_id_to_idx(0)
        return memory

    def _prompt(self, memory: Any, at: int, given: Given) -> None:
        """Hand over what is given, box and points in one call: a second call would erase what the first one said."""
        import torch
        from torch.nn import functional

        size = self.model.size
        if given.mask is not None:
            mask = torch.from_numpy(given.mask.astype(np.float32))[None, None]
            if mask.shape[-2:] != (size, size):
                mask = functional.interpolate(mask, (size, size), mode="bilinear", align_corners=False, antialias=True)
            memory.add_mask_inputs(0, at, (mask >= 0.5).float())
        else:
            corners = () if given.box is None else (given.box[:2], given.box[2:])
            places = torch.tensor([*corners, *given.points], dtype=torch.float32) * size
            labels = [*(_BOX if corners else ()), *[_ON] * len(given.points)]
            inputs = {
                "point_coords": (places / torch.tensor([self.size[1], self.size[0]]))[None, None],
                "point_labels": torch.tensor(labels, dtype=torch.int32)[None, None],
            }
            memory.add_point_inputs(0, at, inputs)
        memory.obj_with_new_inputs = [0]

    def _forget(self, memory: Any, at: int) -> None:
        """Drop what no later frame can look back at."""
        config = self.model.module.config
        memory.processed_frames.clear()
        memory.frames_tracked_per_obj[0].clear()
        memory.point_inputs_per_obj[0].clear()
        memory.mask_inputs_per_obj[0].clear()
        outputs = memory.output_dict_per_obj[0]
        prompted, others = outputs["cond_frame_outputs"], outputs["non_cond_frame_outputs"]
        for frame in sorted(prompted)[1 : 1 - self.prompts]:
            del prompted[frame]
        for frame, kept in [*prompted.items(), *others.items()]:
            for name in set(kept) - set(_KEPT):
                del kept[name]
            if frame in prompted:
                continue
            if frame < at + 2 - config.max_object_pointers_in_encoder:
                del others[frame]
            elif frame < at + 2 - config.num_maskmem:
                kept.pop("maskmem_features", None)
                kept.pop("maskmem_pos_enc", None)

    def cut(self, subjects: Collection[int] | None = None) -> None:
        """Forget what was taken for these subjects (default: all) in the last frames; only prompted frames are remembered."""
        for subject, memory in self.memories.items():
            if subjects is None or subject in subjects:
                memory.output_dict_per_obj[0]["non_cond_frame_outputs"].clear()

    def state(self) -> dict[str, Tensor]:
        """All that the next frames depend on."""
        import torch

        found = {"next": torch.tensor(self.next)}
        for subject, memory in self.memories.items():
            for kind, frames in memory.output_dict_per_obj[0].items():
                for frame, kept in frames.items():
                    for name in _KEPT:
                        if name in kept:
                            # A copy: a view into a frame's batch would take the whole batch along.
                            found[f"{subject}.{kind}.{frame}.{name}"] = (
                                kept[name].cpu().clone(memory_format=torch.contiguous_format)
                            )
        return found

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on where ``state`` was taken."""
        self.memories, self.next = {}, int(state.get("next", 0))
        kept = {tuple(key.split(".")): value for key, value in state.items() if key != "next"}
        for number, kind, frame, name in sorted(kept, key=lambda key: (int(key[0]), key[1], int(key[2]), key[3])):
            if int(number) not in self.memories:
                self.memories[int(number)] = self._memory()
            outputs = self.memories[int(number)].output_dict_per_obj[0][kind]
            outputs.setdefault(int(frame), {})[name] = kept[number, kind, frame, name].to(self.model.device)
