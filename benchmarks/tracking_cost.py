"""Accuracy of the tracker `propagate` against its cost, on the half of DAVIS that settings are chosen on.

One setting after another is changed from its default: the short side of the picture that the tracker sees, the share of the backbone's
blocks that is used, the number of recent frames compared with, how far labels travel, how many patches vote, how sharply they vote; and
the stride, at which frames are left out. Except for the stride's own cells every fourth frame is kept (6 a second).

Cost is CPU time per frame, in forward passes of the default setting, which are timed in the same run on one thread; so load on the machine
hardly matters. It has two parts: the forward pass, and everything else (votes, checks, the outline in pixels). Tokens are kept, so that a
further setting costs seconds; all depths of one short side come from the same pass.

    FOVEATE_DATA=... python benchmarks/tracking_cost.py [NAME ...]       only missing cells are run
    python benchmarks/tracking_cost.py --figures                         picture and table of docs/tracking.md
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cells import RESULTS, footage, write_cell
from davis_propagation import TUNED, frames, measures
from numpy.typing import NDArray

from foveate.evaluate.propagation import RATE, embedded, follow
from foveate.models.pretrained import Backbone, load_backbone
from foveate.settings import TrackSettings
from foveate.track.propagate.propagator import DEPTH

FOLDER, PICTURE = RESULTS / "tracking_cost", RESULTS.parents[1] / "docs" / "pictures" / "tracking_cost.svg"
PAGE, BEGIN, END = RESULTS.parents[1] / "docs" / "tracking.md", "<!-- tracking_cost -->", "<!-- end of tracking_cost -->"
DEFAULT = TrackSettings()
STRIDE, TIMED = 4, 4
"""Frames that are skipped, and pictures over which the forward pass is timed."""


@dataclass(frozen=True)
class Variant:
    short_side: int = DEFAULT.short_side
    depth: float = DEPTH
    stride: int = STRIDE
    changes: dict[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> TrackSettings:
        return TrackSettings.model_validate({"short_side": self.short_side, **self.changes})


VARIANTS = {
    "default": Variant(),
    **{f"short_side-{n}": Variant(short_side=n) for n in (126, 168, 280, 336, 420)},
    **{f"depth-{n}": Variant(depth=n / 12) for n in (6, 8, 10, 12)},
    **{f"stride-{n}": Variant(stride=n) for n in (1, 2, 8)},
    **{f"context-{n}": Variant(changes={"context": n}) for n in (1, 3, 14)},
    **{f"radius-{n}": Variant(changes={"radius": n}) for n in (6, 9, 18, 60)},
    **{f"topk-{n}": Variant(changes={"topk": n}) for n in (1, 3, 10)},
    **{f"temperature-{n}": Variant(changes={"temperature": n}) for n in (0.05, 0.2)},
}
"""The default is a short side of 224 and 9 of 12 blocks; a radius of 60 patches is the whole picture."""


def layers(backbone: Backbone, counts: set[int]) -> Iterator[dict[int, torch.Tensor]]:
    """While it is open, a dict that every forward pass of the whole backbone fills: number of blocks -> f16[1 + rows * columns, D] after
    them and the final LayerNorm, as if later blocks did not exist."""
    module: Any = backbone.module
    (blocks,) = (
        m for m in module.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == module.config.num_hidden_layers
    )
    kept: dict[int, torch.Tensor] = {}

    def keep(count: int) -> Any:
        def hook(_block: Any, _given: Any, out: Any) -> None:
            kept[count] = module.layernorm(out[0] if isinstance(out, tuple) else out)[0].half()

        return hook

    hooks = [blocks[count - 1].register_forward_hook(keep(count)) for count in counts]
    yield kept
    for hook in hooks:
        hook.remove()


Seen = dict[str, list[tuple[NDArray[np.uint8], dict[int, torch.Tensor]]]]


def look(data: Path, short_side: int, counts: set[int], strides: set[int]) -> Seen:
    """Of every frame of every sequence that some stride keeps: what the tracker sees, and its tokens after so many blocks (after other
    numbers than the default's only of the frames that the usual stride keeps)."""
    backbone = load_backbone(DEFAULT.model)
    seen: Seen = {}
    for kept in layers(backbone, counts):
        for name in TUNED:
            numbers = [i for i in range(len(list(frames(data, name)))) if any(i % stride == 0 for stride in strides)]
            pictures = (picture for i, (picture, _) in enumerate(frames(data, name)) if i in numbers)
            seen[name] = []
            for i, (small, tokens) in zip(numbers, embedded(pictures, short_side, backbone), strict=True):
                grid = tokens.shape[:2]
                wanted = counts if i % STRIDE == 0 else counts & {round(12 * DEPTH)}
                seen[name].append((small, {n: kept[n][1:].unflatten(0, grid) for n in wanted}))
    return seen


def forward_seconds(data: Path, short_side: int, depth: float) -> float:
    """CPU seconds of one forward pass with what comes before it, the median of several."""
    backbone, took = load_backbone(DEFAULT.model, depth=depth), []
    pictures = [picture for picture, _ in frames(data, TUNED[0])][:TIMED]
    for picture in [*pictures, *pictures]:
        start = time.process_time()
        list(embedded([picture], short_side, backbone))
        took.append(time.process_time() - start)
    return float(np.median(took[1:]))


def run_variant(data: Path, variant: Variant, seen: Seen, forward: float, unit: float) -> dict[str, Any]:
    """Scores of one cell; ``seen`` holds every frame that its stride keeps, and perhaps more."""
    count, sequences, rest, number = round(12 * variant.depth), {}, 0.0, 0
    step = variant.stride if (1 in strides_of(variant.short_side)) else variant.stride // min(strides_of(variant.short_side))
    for name, looks in seen.items():
        truths = [truth for _, truth in frames(data, name)][:: variant.stride]
        start = time.process_time()
        kept = ((small, tokens[count]) for small, tokens in looks[::step])
        labels = list(follow(kept, truths[0].astype(np.uint8), variant.settings, variant.stride / RATE))
        rest, number = rest + time.process_time() - start, number + len(labels)
        sequences[name] = measures(truths, labels)
    means = {key: round(float(np.mean([one[key]["mean"] for one in sequences.values()])), 4) for key in "JF"}
    return {
        "short_side": variant.short_side,
        "blocks": count,
        "stride": variant.stride,
        "changes": variant.changes,
        **means,
        "JF": round((means["J"] + means["F"]) / 2, 4),
        "share": round(float(np.mean([one["share"] for one in sequences.values()])), 4),
        "forward": round(forward / unit, 3),
        "rest": round(rest / number / unit, 3),
        "unit_cpu_s": round(unit, 3),
        "sequences": sequences,
    }


def strides_of(short_side: int) -> set[int]:
    return {variant.stride for variant in VARIANTS.values() if variant.short_side == short_side}


def same_tokens(data: Path) -> None:
    """Tokens taken in passing are those of a backbone that ends there."""
    picture = next(frames(data, TUNED[0]))[0]
    backbone, whole = load_backbone(DEFAULT.model, depth=DEPTH), load_backbone(DEFAULT.model)
    _, there = next(embedded([picture], 168, backbone))
    for kept in layers(whole, {round(12 * DEPTH)}):
        next(embedded([picture], 168, whole))
        assert torch.equal(kept[round(12 * DEPTH)][1:], there.flatten(0, 1))


def draw(cells: dict[str, dict[str, Any]]) -> None:
    """Left: J&F against cost for short sides and depths. Right: what the other settings change."""
    from matplotlib.figure import Figure

    from foveate.groups.figure import save, style

    default = cells["default"]
    plain = [c for c in cells.values() if not c["changes"] and c["stride"] == STRIDE]
    lines = (
        ("short side (pixels), 9 blocks", "short_side", "#0072B2", "o", [c for c in plain if c["blocks"] == 9]),
        ("blocks, 224 pixels", "blocks", "#D55E00", "s", [c for c in plain if c["short_side"] == 224]),
    )
    with style():
        figure = Figure(figsize=(6.4, 2.8))
        left, right = figure.subplots(1, 2)
        for words, key, colour, mark, own in lines:
            own.sort(key=lambda c: c[key])
            left.plot([cost(c) for c in own], [c["JF"] for c in own], color=colour, marker=mark, ms=3, lw=1, label=words)
            for one in own:
                place, below = (cost(one), one["JF"]), mark == "s"
                left.annotate(
                    one[key], place, (5, -9) if below else (-5, 4), textcoords="offset points", ha="center", color=colour
                )
        left.plot(cost(default), default["JF"], marker="o", ms=8, mfc="none", mec="black")
        left.set_xscale("log")
        left.set_xticks([0.5, 1, 2, 4], ["0.5", "1", "2", "4"])
        left.minorticks_off()
        left.set_xlabel("CPU time per frame (forward passes of the default)")
        left.set_ylabel("J&F, every fourth frame")
        left.legend(frameon=False, loc="lower right")
        changed = [c for c in cells.values() if c["changes"]]
        names = [f"{key} {value:g}" for c in changed for key, value in c["changes"].items()]
        right.barh(range(len(changed)), [c["JF"] - default["JF"] for c in changed], color="#0072B2", height=0.6)
        right.set_yticks(range(len(changed)), names)
        right.invert_yaxis()
        right.locator_params(axis="x", nbins=4)
        right.axvline(0, color="black", lw=0.6)
        right.set_xlabel(f"change of J&F against the default ({default['JF']:.3f})")
        for axis in (left, right):
            axis.spines[["top", "right"]].set_visible(False)
        figure.tight_layout()
        save(figure, PICTURE, pdf=False)


def cost(cell: dict[str, Any]) -> float:
    return float(cell["forward"] + cell["rest"])


def table(cells: dict[str, dict[str, Any]]) -> str:
    lines = ["| setting | J | F | share in crop | forward | rest |", "| --- | --- | --- | --- | --- | --- |"]
    for name, c in cells.items():
        what = ", ".join(f"{key} {value:g}" for key, value in c["changes"].items())
        if not what:
            what = f"{c['short_side']} px, {c['blocks']} blocks" + (f", stride {c['stride']}" if c["stride"] != STRIDE else "")
        what = f"**{what} (default)**" if name == "default" else what
        lines.append(f"| {what} | {c['J']:.3f} | {c['F']:.3f} | {c['share']:.3f} | {c['forward']:.2f} | {c['rest']:.2f} |")
    return "\n".join(lines)


def publish() -> None:
    cells = {n: json.loads((FOLDER / f"{n}.json").read_text()) for n in VARIANTS if (FOLDER / f"{n}.json").exists()}
    print(table(cells))
    draw(cells)
    page = PAGE.read_text(encoding="utf-8")
    start, stop = page.index(BEGIN) + len(BEGIN), page.index(END)
    PAGE.write_text(f"{page[:start]}\n\n{table(cells)}\n\n{page[stop:]}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*VARIANTS, []], help="cells; default: all")
    parser.add_argument("--figures", action="store_true", help="only draw what was measured before")
    args = parser.parse_args()
    if args.figures:
        publish()
        return
    torch.set_num_threads(1)
    data = footage() / "davis2016"
    missing = {name: VARIANTS[name] for name in args.names or VARIANTS if not (FOLDER / f"{name}.json").exists()}
    same_tokens(data)
    unit = forward_seconds(data, DEFAULT.short_side, DEPTH)
    for short_side in sorted({variant.short_side for variant in missing.values()}):
        own = {name: variant for name, variant in missing.items() if variant.short_side == short_side}
        seen = look(data, short_side, {round(12 * v.depth) for v in own.values()}, strides_of(short_side))
        for name, variant in own.items():
            forward = forward_seconds(data, short_side, variant.depth)
            cell = run_variant(data, variant, seen, forward, unit)
            write_cell(FOLDER / f"{name}.json", {"what": "tracker `propagate`, accuracy against cost", "name": name, **cell})
            print(
                f"{name:24} J {cell['J']:.3f} F {cell['F']:.3f}  forward {cell['forward']:.2f} rest {cell['rest']:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
