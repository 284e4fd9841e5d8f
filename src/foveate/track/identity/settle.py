"""Who is who, where several subjects share a view: the rows of a tracker, looked at once more as a whole.

Subjects that meet may leave with each other's names. Meetings (``crossings``) cut the tracks into fragments; each fragment is described
by what the animal looks like from near in some of its frames (``fingerprint``); the fragments that a person's prompt vouches for, and
those that they make sure, train a classifier between the animals of the view (``likeness``); the likeliest course of names decides
(``whois``). What was exchanged is exchanged back, short meetings are looked at once more from both sides (``contact``), and what stays
doubtful says so: state ``uncertain`` and an event.

Some numbers per frame and one vector per fragment are all that is held, pictures are looked at one at a time or a meeting at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from foveate import masks
from foveate.masks import Mask
from foveate.schema import SEGMENT, State
from foveate.store import read_parquet
from foveate.track import events
from foveate.track.events import Event, Kind
from foveate.track.identity import contact, fingerprint, likeness, whois
from foveate.track.identity.crossings import Fragment, History, Meeting, fragments, meetings, read_history, told_absent
from foveate.track.prompts import ABSENT, load_prompts
from foveate.track.propagate.propagator import DEPTH
from foveate.track.scene import Picture, Row, Scene, cut, part_name, raw_name

SAMPLES = 10  # frames of a fragment that are looked at from near
STAY = 0.8  # probability that a tracker leaves a meeting with the right names
SURE = 0.8  # probability of a name below which rows are uncertain
BEGUN = 0.99  # probability that a tracker begins with the right names
VOUCHED = 30.0  # log-odds of a name that a person gave
HINTED = 3.0  # likewise where it was given in the meeting just before
TELLING = 3.0  # log-odds that the animals of a view do look different, from which looks count
MOST = 1.5  # log-odds that motion may give to an exchange, or take from it: animals that meet often turn round
FADES = 1.0  # seconds in which what motion says loses most of its weight
CLEAR = 0.6  # mean label of a subject that was looked for again in a meeting, below which it is uncertain
TOGETHER = 3  # analysed frames in which two masks must lie on one animal to be reported

if TYPE_CHECKING:
    from foveate.models.pretrained import Backbone

EVENTS = "identity"

_Again = tuple[bytes, float]
"""Run lengths of a mask that was found in a second look, and its mean label."""

_log = logging.getLogger("foveate")


@dataclass(frozen=True, eq=False)
class Course:
    """What became of the names in one view; S subjects, N analysed frames."""

    history: History
    animal: NDArray[np.int8]  # [S, N] which subject the rows under a label belong to
    score: NDArray[np.float64]  # [S, N] probability of it; NaN where nothing ever met
    doubtful: NDArray[np.bool_]  # [S, N]
    events: list[Event]
    contacts: list[tuple[int, int, tuple[int, ...]]]  # clear positions before and after a meeting, and its labels


def settle(scene: Scene) -> None:
    """Make the parts of the tracks, and their events, from those that the tracker wrote. Done again, it gives the same bytes."""
    target = scene.target
    own = f"events-{EVENTS}.csv"
    if not target.has(own) and not target.has(events.FILE):  # gathered already: what the tracker reported is no longer apart
        eye = Eye(scene)
        courses = {view: follow_names(eye, view) for view in scene.views}
        waiting = {view: list(course.contacts) for view, course in courses.items()}
        said = [prompt for prompt in load_prompts(scene.project, scene.video) if prompt.kind == ABSENT]
        away = {
            view: told_absent(course.history, [(p.frame, scene.subjects.index(p.subject)) for p in said if p.view == view])
            for view, course in courses.items()
        }
        seen: dict[tuple[str, int, int], _Again | None] = {}
        for part in range(scene.parts):
            stop = min((part + 1) * SEGMENT, len(scene.analysed))
            for view, contacts in waiting.items():
                while contacts and contacts[0][0] + 1 < stop:
                    again = eye.look_again(view, courses[view], contacts.pop(0))
                    seen |= {(view, *key): found for key, found in again.items() if key not in away[view]}
            # Parts that are there may be of other prompts: what a person says late in a video can change names from its beginning.
            rows = read_parquet(target.path(raw_name(part))).to_pylist()
            scene.write(part_name(part), [_settled(row, scene, courses[row["view"]], seen) for row in rows])
            seen = {key: found for key, found in seen.items() if key[1] >= stop}
        found = [_renamed_event(event, scene, courses[event.view]) for event in events.parts(target) if event.view in courses]
        scene.happened(EVENTS, [*found, *(event for course in courses.values() for event in course.events)])
    for left in target.folder.glob("events-*.csv"):
        if left.name != own:
            left.unlink()


def follow_names(eye: Eye, view: str) -> Course:
    """The course of names in one view, from the tracker's rows and the footage."""
    scene = eye.scene
    height, width = scene.views[view].h, scene.views[view].w
    history = read_history(_raw_parts(scene), view, scene.subjects, height, width)
    changes = [event.frame for event in events.parts(scene.target) if event.kind is Kind.CUT and event.view in ("", view)]
    breaks = np.searchsorted(history.frame, changes).tolist()
    cuts = meetings(history, breaks)
    if not cuts:
        unchanged = np.repeat(np.arange(len(scene.subjects), dtype=np.int8)[:, None], len(history.frame), axis=1)
        return Course(history, unchanged, np.full(unchanged.shape, np.nan), np.zeros(unchanged.shape, np.bool_), [], [])
    pieces = fragments(history, cuts)
    _log.info("%s: view %s: who is who after %d meetings", scene.video.name, view, len(cuts))
    prints = likeness.summarise(len(pieces), eye.samples(view, history, pieces))
    answer = name_fragments(history, cuts, pieces, prints)
    ends = [(contact.clear_ends(history, meeting, cuts, breaks), meeting.group) for meeting in cuts]
    contacts = [(*clear, group) for clear, group in ends if clear is not None]
    return _course(scene, view, history, cuts, answer, contacts)


def name_fragments(
    history: History, cuts: Sequence[Meeting], pieces: Sequence[Fragment], prints: likeness.Prints, motion: bool = True
) -> whois.Answer:
    """Who is who after each meeting; the first step of the answer is the beginning.

    Args:
        prints: what the fragments look like; without any (``likeness.Prints.none``) motion and the tracker's own names decide.
        motion: whether positions and speeds around a meeting count.
    """
    subjects = len(history.box)
    start = Meeting(0, -1, tuple(range(subjects)))
    steps = [start, *cuts]
    moves = [_moves(history, meeting, motion) for meeting in steps]
    after = {(piece.first, piece.label): k for k, piece in enumerate(pieces)}
    places = [{label: after.get((meeting.last + 1, label)) for label in meeting.group} for meeting in steps]
    vouched = np.zeros((len(pieces), subjects))
    for k, piece in enumerate(pieces):
        if piece.anchored:
            vouched[k] = -VOUCHED
            vouched[k, piece.label] = 0
    for meeting, place in zip(cuts, places[1:], strict=True):
        for label in meeting.group:
            hint = bool(history.prompted[label, meeting.first : meeting.last + 1].any())
            if hint and (at := place[label]) is not None and not pieces[at].anchored:
                vouched[at] = -HINTED
                vouched[at, label] = 0
    nothing = np.zeros_like(vouched)

    def course(looks: NDArray[np.float64]) -> whois.Answer:
        out = []
        for meeting, move, place in zip(steps, moves, places, strict=True):
            table = np.zeros((subjects, subjects))
            for label, at in place.items():
                if at is not None:
                    table[label] = looks[at] + vouched[at]
            out.append(whois.Step(meeting.group, move, table))
        return whois.who(out, subjects)

    if not pieces:  # they touch from the first frame to the last
        return course(nothing)
    # At first only what a person vouched for teaches: what the tracker believes is in question.
    belief = np.where(vouched.any(axis=1, keepdims=True), np.exp(vouched), 1 / subjects)
    for label in range(subjects):  # prompted in a meeting: the first that is seen of it has to do
        own = [k for k, piece in enumerate(pieces) if piece.label == label]
        if own and not vouched[own].any():
            belief[own[0]] = np.arange(subjects) == label
    seen, known = likeness.directions(prints, pieces), prints.number > 0
    for _ in range(likeness.ROUNDS):
        found = likeness.looks(seen, known, belief)
        answer = course(found.table)
        before, belief = belief, belief.copy()
        for share, place in zip(answer.share, places, strict=True):
            for label, at in place.items():
                if at is not None:
                    belief[at] = share[label]
        if float(np.abs(belief - before).max()) < 1e-3:
            break
    # Animals that look alike can be set apart by chance as well, but not so that it explains the looks better than one animal would.
    unseen = course(nothing)
    gain = course(likeness.looks(seen, known, belief).density).evidence - unseen.evidence
    return answer if gain > TELLING else unseen


def _moves(history: History, meeting: Meeting, motion: bool) -> NDArray[np.float64]:
    """Log-probabilities of the permutations of a meeting's group."""
    orders = whois.exchanges(len(meeting.group))
    prior = np.full(len(orders), np.log((1 - STAY) / max(1, len(orders) - 1)))
    prior[0] = np.log(STAY)
    if meeting.first == 0 and meeting.last < 0:  # the beginning
        prior[1:] = np.log((1 - BEGUN) / max(1, len(orders) - 1))
        prior[0] = np.log(BEGUN)
    if motion and meeting.last >= meeting.first > 0:
        costs = np.array([[_strain(history, meeting, i, j) for j in meeting.group] for i in meeting.group])  # from, to
        told = -np.array([sum(costs[i, j] for j, i in enumerate(order)) for order in orders])
        length = float(history.time[min(meeting.last + 1, len(history.time) - 1)] - history.time[meeting.first - 1])
        prior += np.clip(told - told[0], -MOST, MOST) * np.exp(-length / FADES)
    normalised: NDArray[np.float64] = prior - np.logaddexp.reduce(prior)
    return normalised


def _strain(history: History, meeting: Meeting, before: int, after: int) -> float:
    """How far from its course somebody would have come who bore the one label before a meeting and the other one after it: half the
    squared distance in units of half its size; 0 where that is not known."""
    n = len(history.frame)
    came = [i for i in range(max(0, meeting.first - 3), meeting.first) if history.seen[before, i]]
    went = [i for i in range(meeting.last + 1, min(n, meeting.last + 4)) if history.seen[after, i]]
    if not came or not went:
        return 0.0
    start, stop = history.centre[before, came[-1]], history.centre[after, went[0]]
    size = max(1.0, float(history.box[before, came[-1], 2:].max()))
    passed = float(history.time[went[0]] - history.time[came[-1]])
    off = []
    for label, known, sign in ((before, came, 1.0), (after, went, -1.0)):
        speed = np.zeros(2)
        if len(known) > 1:
            between = float(history.time[known[-1]] - history.time[known[0]])
            speed = (history.centre[label, known[-1]] - history.centre[label, known[0]]) / between
        ahead = start + speed * passed if sign > 0 else stop - speed * passed
        off.append(float(np.hypot(*((stop if sign > 0 else start) - ahead))))
    return 0.5 * min(4.0, float(np.mean(off)) / (0.5 * size)) ** 2


def _raw_parts(scene: Scene) -> Iterator[pa.Table]:
    for part in range(scene.parts):
        yield read_parquet(scene.target.path(raw_name(part)))


class Eye:
    """Looks at the footage of one video once more, with a backbone that is loaded when something has met."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.part = -1
        self.table: pa.Table | None = None

    @cached_property
    def backbone(self) -> Backbone:
        from foveate.models.pretrained import kept_backbone, model_of

        config = self.scene.project.config
        model = config.track.model if config.track.method == "propagate" else config.embed.model
        return kept_backbone(model_of(self.scene.project.folder, model), depth=DEPTH)

    def tokens(self, picture: Picture) -> NDArray[np.float32]:
        import torch

        found: NDArray[np.float32] = (
            self.backbone.patch_tokens(torch.from_numpy(picture.copy()).permute(2, 0, 1)[None]).cpu().numpy()[0]
        )
        return found

    def samples(
        self, view: str, history: History, pieces: Sequence[Fragment]
    ) -> Iterator[tuple[int, tuple[NDArray[np.float32], ...]]]:
        """Number of a fragment and the fingerprint of one of its frames; by time."""
        usual, wanted = history.usual, dict[int, list[int]]()
        for k, piece in enumerate(pieces):
            at = np.arange(piece.first, piece.last + 1)
            at = at[history.sure[piece.label, at] & (history.area[piece.label, at] > 0.4 * usual[piece.label])]
            for i in np.unique(np.round(np.linspace(0, len(at) - 1, min(SAMPLES, len(at)))).astype(int)) if len(at) else ():
                wanted.setdefault(int(at[i]), []).append(k)
        positions = sorted(wanted)
        place = self.scene.views[view]
        for i, (_, picture) in zip(positions, self.scene.pictures([int(history.frame[i]) for i in positions]), strict=True):
            if picture is not None:
                seen = cut(picture, place, place.h, place.w)
                for k in wanted[i]:
                    mask = self.mask(view, pieces[k].label, history, i)
                    yield k, fingerprint.describe(seen, mask, self.tokens, self.backbone.patch)

    def mask(self, view: str, label: int, history: History, position: int) -> Mask:
        """What the tracker says under a label in a frame in which it sees it."""
        import pyarrow.compute as pc

        if position // SEGMENT != self.part or self.table is None:
            self.part = position // SEGMENT
            self.table = read_parquet(self.scene.target.path(raw_name(self.part)))
        place, frame = self.scene.views[view], int(history.frame[position])
        own = (pc.field("frame") == frame) & (pc.field("view") == view) & (pc.field("subject") == self.scene.subjects[label])
        return masks.decode(self.table.filter(own)["rle"][0].as_py(), place.h, place.w)

    def look_again(
        self, view: str, course: Course, ends: tuple[int, int, tuple[int, ...]]
    ) -> dict[tuple[int, int], _Again | None]:
        """By position and subject, what is seen of those who met between two clear frames; None where one is hidden."""
        first, last, labels = ends
        history, place = course.history, self.scene.views[view]
        before, after = (
            {int(course.animal[label, i]): self.mask(view, label, history, i) for label in labels} for i in (first, last)
        )
        pictures = []
        for _, picture in self.scene.pictures(history.frame[first : last + 1].tolist()):
            if picture is None:
                return {}
            pictures.append(cut(picture, place, place.h, place.w))
        boxes = history.box[list(labels), first : last + 1].reshape(-1, 4)
        zoom = self.scene.project.config.track.short_side / min(place.h, place.w) / self.backbone.patch
        found = contact.look_again(pictures, boxes, before, after, self.backbone, round(place.h * place.w * zoom**2))
        out: dict[tuple[int, int], _Again | None] = {}
        for i, here in enumerate(found, first + 1):
            for label in labels:
                animal = int(course.animal[label, i])
                mask, sure = here.get(animal, (None, 0.0))
                enough = mask is not None and int(mask.sum()) >= contact.LEAST * history.usual[label]
                out[i, animal] = (masks.encode(mask), sure) if mask is not None and enough else None
        return out


# --- from names to rows --------------------------------------------------------------------------------------------------------


def _course(
    scene: Scene,
    view: str,
    history: History,
    cuts: Sequence[Meeting],
    answer: whois.Answer,
    contacts: list[tuple[int, int, tuple[int, ...]]],
) -> Course:
    names, share = answer.names, answer.share
    subjects, n = history.area.shape
    animal = np.repeat(names[0][:, None], n, axis=1)
    score = np.repeat(share[0, np.arange(subjects), names[0]][:, None], n, axis=1)
    for k, meeting in enumerate(cuts, 1):
        turn = _turn(history, meeting)
        for label in meeting.group:
            animal[label, turn:] = names[k, label]
            before = score[label, max(meeting.first - 1, 0)]
            score[label, meeting.last + 1 :] = after = share[k, label, names[k, label]]
            score[label, meeting.first : meeting.last + 1] = min(before, after)
    doubtful = score < SURE
    notes: list[Event] = []
    for (one, other), same in history.same.items():
        for first, last in _stretches(same):
            if last - first + 1 >= TOGETHER:
                for label, rival in ((one, other), (other, one)):
                    doubtful[label, first : last + 1] = True
                    note = f"on the same animal as {scene.subjects[animal[rival, first]]}"
                    notes.append(_event(scene, view, history, int(animal[label, first]), Kind.DOUBT, first, last, None, note))
    for meeting in cuts:
        for label in meeting.group if meeting.last >= meeting.first else ():
            others = ", ".join(sorted(scene.subjects[animal[m, meeting.first]] for m in meeting.group if m != label))
            who = int(animal[label, meeting.first])
            notes.append(_event(scene, view, history, who, Kind.CROSSING, meeting.first, meeting.last, None, f"with {others}"))
    for label in range(subjects):
        for first, last in _changes(animal[label]):
            who = int(animal[label, first])
            if who != label:
                note = f"tracked as {scene.subjects[label]}"
                sure = float(score[label, first : last + 1].min())
                notes.append(_event(scene, view, history, who, Kind.SWAP, first, last, sure, note))
            for begin, end in _stretches(score[label, first : last + 1] < SURE):
                low = float(score[label, first + begin : first + end + 1].min())
                note = "who is who is not certain"
                notes.append(_event(scene, view, history, who, Kind.DOUBT, first + begin, first + end, low, note))
    return Course(history, animal, score, doubtful, notes, contacts)


def _turn(history: History, meeting: Meeting) -> int:
    """The frame of a meeting from which names may differ: where its subjects are nearest, or in the middle."""
    if meeting.last < meeting.first:
        return meeting.first
    inside = slice(meeting.first, meeting.last + 1)
    centres = history.centre[list(meeting.group), inside]
    spread = np.linalg.norm(centres - centres.mean(axis=0), axis=-1).sum(axis=0)
    known = np.flatnonzero(~np.isnan(spread))
    if len(known):
        return meeting.first + int(known[spread[known].argmin()])
    return (meeting.first + meeting.last + 1) // 2


def _changes(values: NDArray[np.int8]) -> list[tuple[int, int]]:
    """First and last index of runs of one value."""
    at = np.flatnonzero(np.diff(values)) + 1
    return list(zip([0, *at.tolist()], [*(at - 1).tolist(), len(values) - 1], strict=True))


def _stretches(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    return [(first, last) for first, last in _changes(flags.astype(np.int8)) if flags[first]]


def _event(
    scene: Scene, view: str, history: History, subject: int, kind: Kind, first: int, last: int, score: float | None, note: str
) -> Event:
    return Event(
        frame=int(history.frame[first]),
        view=view,
        subject=scene.subjects[subject],
        kind=kind,
        time=float(history.time[first]),
        until_frame=int(history.frame[last]),
        until_time=float(history.time[last]),
        score=score,
        note=note,
    )


def _settled(row: Row, scene: Scene, course: Course, seen: Mapping[tuple[str, int, int], _Again | None]) -> Row:
    """The row of a label as that of the subject it belongs to, with the mask that a second look at a meeting gave it."""
    position = int(np.searchsorted(scene.analysed.frame, row["frame"]))
    label = scene.subjects.index(row["subject"])
    animal, score = int(course.animal[label, position]), float(course.score[label, position])
    row = row | {"subject": scene.subjects[animal]}
    if np.isnan(score):
        return row
    key = row["view"], position, animal
    if key in seen and row["state"] != State.PROMPTED.value:
        found = seen[key]
        if found is None:
            return scene.row(row["view"], row["subject"], row["frame"], State.LOST)
        state = State.TRACKED if found[1] >= CLEAR else State.UNCERTAIN
        view = scene.views[row["view"]]
        row = scene.row(row["view"], row["subject"], row["frame"], state, masks.decode(found[0], view.h, view.w), found[1])
    if row["rle"] is None:
        return row
    unsure = bool(course.doubtful[label, position]) and row["state"] == State.TRACKED.value
    return row | {"identity_score": score} | ({"state": State.UNCERTAIN.value} if unsure else {})


def _renamed_event(event: Event, scene: Scene, course: Course) -> Event:
    if event.subject not in scene.subjects:
        return event
    position = min(int(np.searchsorted(scene.analysed.frame, event.frame)), course.animal.shape[1] - 1)
    return replace(event, subject=scene.subjects[course.animal[scene.subjects.index(event.subject), position]])
