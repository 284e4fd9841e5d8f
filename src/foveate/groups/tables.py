"""The tests of a comparison as tables: the primary family (shares of time, starred), everything beside it (never starred)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from foveate.groups import effects, statistics
from foveate.groups.measures import ALL_SESSIONS, Recording
from foveate.groups.statistics import Values

if TYPE_CHECKING:
    import pandas as pd

BOUT_MEASURES = ("bouts_per_hour", "mean_bout_seconds", "median_bout_seconds", "latency_seconds")
TRANSITION, BIN = "transition_probability", "share_in_bin"

_FEW_STATES = 20_000
"""Of the secondary tests, of which there may be hundreds: beyond, random dealings, which are shared between them."""

_TESTED = ("test", "statistic", "p", "exact")
_EFFECT = ("effect_name", "effect", "effect_low", "effect_high")


def test_columns(groups: int) -> tuple[str, ...]:
    """Columns of tests.csv for this many groups; ``_1`` belongs to the first group.

    Primary: means and medians of the shares (0 to 1); ``test``, its ``statistic`` (U of group 1, W+, or H) and ``p``, ``exact`` or not;
    ``p_holm`` over the tested behaviours; ``mark`` is ``***``, ``**``, ``*`` or ``n.s.`` by it; ``smallest_p`` that these numbers of
    animals can reach without ties. ``effect`` is Cliff's delta with Newcombe's interval, of pairs the rank-biserial correlation with a
    bootstrap interval, of several groups epsilon squared; positive: group 1 is larger. Where ``tested`` is 0 the statistics are empty and
    ``note`` says why.

    Secondary, never starred: ``q_bh`` (Benjamini and Hochberg); ``t``, ``t_df``, ``p_t`` of Welch's test (of pairs: Student's); Hedges' g
    with the interval of the noncentral t distribution (of pairs: a bootstrap); ``g_boot_*`` and ``boot_*``, the bootstrap intervals of
    ``g`` and ``effect``, which are too narrow for few animals; ``p_videos``, the rank test with videos
    for units, as the publication aggregates: videos of one animal are not independent, so it is too small.
    """
    of = [f"{name}_{k + 1}" for name in ("group", "n", "mean", "median") for k in range(groups)]
    more = (
        "q_bh",
        "t",
        "t_df",
        "p_t",
        "g",
        "g_low",
        "g_high",
        "g_boot_low",
        "g_boot_high",
        "boot_low",
        "boot_high",
        "p_videos",
    )
    videos = [f"videos_{k + 1}" for k in range(groups)]
    return (
        *("behaviour", "tested", *of, *_TESTED, "p_holm", "significant", "mark", "smallest_p", *_EFFECT),
        *(*more, *videos, "note"),
    )


def secondary_columns(groups: int) -> tuple[str, ...]:
    """Columns of secondary.csv. ``q_bh`` is over all tests of one measure; ``note`` says why a row is not tested, and what is censored."""
    of = [f"{name}_{k + 1}" for name in ("n", "median") for k in range(groups)]
    return ("measure", "behaviour", "to", "start", "stop", *of, *_TESTED, "q_bh", *_EFFECT, "note")


PAIRS = ("behaviour", "group_1", "group_2", "n_1", "n_2", "z", "p", "p_holm", "delta", "delta_low", "delta_high")
"""Columns of pairs.csv, more than two groups: Dunn's z, its p, Holm over the pairs of the behaviour, Cliff's delta with its interval."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One measure of the animals of every group; of pairs, the same animal stands in the same place in both."""

    values: list[Values]
    censored: list[NDArray[np.bool_]] | None = None
    paired: bool = False


def sample(
    table: pd.DataFrame, groups: Sequence[str], column: str, paired: bool, censored: str | None = None
) -> Sample:  # fmt: skip
    """The values of ``column`` (rows: group, subject) that are there; of pairs, those of animals that have both."""
    parts = [table[table["group"] == group].dropna(subset=[column]).set_index("subject") for group in groups]
    if paired:
        both = [subject for subject in parts[0].index if subject in parts[1].index]
        parts = [part.loc[both] for part in parts]
    late = None if censored is None else [part[censored].to_numpy() == 1 for part in parts]
    return Sample([part[column].to_numpy(np.float64) for part in parts], late, paired)


def rank_test(s: Sample, seed: int, states: int = statistics.EXACT_STATES) -> dict[str, Any]:
    """The rank test that fits the sample: columns test, statistic, p, exact; ``states`` as for ``statistics.kruskal_wallis``."""
    if s.paired and s.censored is not None and any(late.any() for late in s.censored):
        sign = _directions(s)
        name, found = "sign", statistics.sign_test(int((sign > 0).sum()), int((sign < 0).sum()))
    elif s.paired:
        name, found = "wilcoxon", statistics.wilcoxon(s.values[0] - s.values[1])
    elif len(s.values) == 2:
        late = s.censored or (None, None)
        name = "gehan" if s.censored and any(c.any() for c in s.censored) else "mann-whitney"
        found = statistics.mann_whitney(s.values[0], s.values[1], late[0], late[1])
    else:
        name, found = "kruskal-wallis", statistics.kruskal_wallis(s.values, s.censored, seed, states)
    return {"test": name, "statistic": found.statistic, "p": found.p, "exact": int(found.exact)}


def _directions(s: Sample) -> Values:
    """Of every animal of a paired sample: 1 where its first value is certainly larger, -1 where it is certainly smaller, else 0."""
    late = s.censored or [np.zeros(len(values), dtype=bool) for values in s.values]
    pairs = zip(*s.values, *late, strict=True)
    return np.array([float(statistics.dominance([a], [b], [p], [q])[0, 0]) for a, b, p, q in pairs])


def effect(s: Sample, draws: int, seed: int) -> dict[str, Any]:
    """Effect size with its interval, and that of the bootstrap: columns effect_name .. effect_high, boot_low, boot_high.

    Without draws only intervals that need none. Of censored values only what is certain counts, as in the tests; of pairs with such values
    that is the direction, and their correlation is the share of animals that went up less that of those that went down.
    """
    low, high, boot = math.nan, math.nan, (math.nan, math.nan)
    if s.paired:
        unsure = s.censored is not None and any(late.any() for late in s.censored)
        name, value = "rank-biserial", effects.rank_biserial(_directions(s) if unsure else s.values[0] - s.values[1])
        if draws:
            low, high = boot = effects.rank_biserial_interval(s.values[0] - s.values[1], draws, seed)
    elif len(s.values) == 2:
        (x, y), late = s.values, s.censored or (None, None)
        name, value = "Cliff's delta", float(statistics.dominance(x, y, late[0], late[1]).mean())
        low, high = effects.delta_interval(value, len(x), len(y))
        if draws:
            boot = effects.delta_bootstrap(x, y, draws, seed)
    else:
        name, value = "epsilon squared", effects.epsilon_squared(s.values, s.censored)
        if draws:
            low, high = boot = effects.epsilon_squared_bootstrap(s.values, draws, seed)
    row = {"effect_name": name, "effect": value, "effect_low": low, "effect_high": high}
    return row | {"boot_low": boot[0], "boot_high": boot[1]}


def primary(
    shares: pd.DataFrame,
    videos: pd.DataFrame,
    groups: Sequence[str],
    paired: bool,
    alpha: float,
    draws: int,
    seed: int,
) -> pd.DataFrame:
    """Test the share of every behaviour: columns ``test_columns``.

    Args:
        shares: per animal, columns group, subject, behaviour, share.
        videos: per video, columns group, behaviour, share.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for behaviour, table in shares.groupby("behaviour", sort=False):
        s = sample(table, groups, "share", paired)
        row: dict[str, Any] = {"behaviour": behaviour}
        for k, (group, values) in enumerate(zip(groups, s.values, strict=True), 1):
            row |= {f"group_{k}": group, f"n_{k}": len(values), f"mean_{k}": values.mean(), f"median_{k}": np.median(values)}
        row["tested"] = int(any(values.any() for values in s.values))
        if row["tested"]:
            sizes = [len(values) for values in s.values]
            row |= rank_test(s, seed) | effect(s, draws, seed)
            row["smallest_p"] = statistics.smallest_p_paired(sizes[0]) if paired else statistics.smallest_p(*sizes)
            if len(groups) == 2:
                row |= _means(s, draws, seed)
            row |= _videos(videos[videos["behaviour"] == behaviour], groups, seed)
        else:
            row["note"] = f"not tested: predicted for no animal of {'either' if len(groups) == 2 else 'any'} group"
        rows.append(row)
    table = pd.DataFrame(rows, columns=list(test_columns(len(groups))))
    tested = table["tested"] == 1
    p = table.loc[tested, "p"].to_numpy(np.float64)
    table.loc[tested, "p_holm"], table.loc[tested, "q_bh"] = statistics.holm(p), statistics.benjamini_hochberg(p)
    table["significant"] = (table["p_holm"] < alpha).astype("int64")
    table["mark"] = [statistics.stars(p, alpha) if use else "" for p, use in zip(table["p_holm"], tested, strict=True)]
    return table.astype({"exact": "Int64", "note": "str"} | {f"videos_{k + 1}": "Int64" for k in range(len(groups))})


def _means(s: Sample, draws: int, seed: int) -> dict[str, Any]:
    x, y = s.values
    if s.paired:
        test = statistics.paired_t(x - y)
        g, boot = effects.paired_g(x, y), effects.paired_g_bootstrap(x, y, draws, seed)
        interval = boot
    else:
        test = statistics.welch(x, y)
        g, boot = effects.hedges_g(x, y), effects.hedges_g_bootstrap(x, y, draws, seed)
        interval = effects.hedges_g_interval(x, y)
    row = {"t": test.t, "t_df": test.df, "p_t": test.p} if test else {}
    return row | {"g": g, "g_low": interval[0], "g_high": interval[1], "g_boot_low": boot[0], "g_boot_high": boot[1]}


def _videos(table: pd.DataFrame, groups: Sequence[str], seed: int) -> dict[str, Any]:
    """The variant with videos for units; pairs are forgotten in it."""
    s = Sample([table.loc[table["group"] == group, "share"].to_numpy(np.float64) for group in groups])
    return {"p_videos": rank_test(s, seed, _FEW_STATES)["p"]} | {
        f"videos_{k}": len(values) for k, values in enumerate(s.values, 1)
    }


def video_shares(found: Sequence[Recording]) -> pd.DataFrame:
    """Per video the share of every behaviour, its animals together: columns group, video, behaviour, share."""
    import pandas as pd

    seconds: dict[tuple[str, str, str], list[float]] = {}
    for r in found:
        for behaviour, value in r.seconds.items():
            row = seconds.setdefault((r.group, r.video, behaviour), [0.0, 0.0])
            row[0], row[1] = row[0] + value, row[1] + r.seen
    rows = [(*key, round(s / seen, 9)) for key, (s, seen) in seconds.items() if seen > 0]
    return pd.DataFrame(rows, columns=["group", "video", "behaviour", "share"])


def secondary(
    measures: pd.DataFrame,
    transitions: pd.DataFrame,
    bins: pd.DataFrame | None,
    groups: Sequence[str],
    paired: bool,
    seed: int,
) -> pd.DataFrame:
    """Test bouts, durations, latencies, transitions and shares in bins: ``secondary_columns``. No stars: none of it was the question."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for head, s in _samples(measures, transitions, bins, groups, paired):
        row: dict[str, Any] = dict(head)
        for k, values in enumerate(s.values, 1):
            late = None if s.censored is None else s.censored[k - 1]
            row |= {f"n_{k}": len(values), f"median_{k}": _median(values, late)}
        if min(len(values) for values in s.values) < 2:
            row["note"] = "not tested: too few animals show it"
        elif not any(values.any() for values in s.values):
            row["note"] = "not tested: always 0"
        else:
            row |= rank_test(s, seed, _FEW_STATES) | effect(s, 0, seed)
            if s.censored is not None and any(late.any() for late in s.censored):
                listed = ", ".join(f"{int(c.sum())} of {len(c)} {group}" for group, c in zip(groups, s.censored, strict=True))
                row["note"] = f"did not come in every video of {listed}: their latency is at least what was observed"
        rows.append(row)
    table = pd.DataFrame(rows, columns=list(secondary_columns(len(groups))))
    for _, index in table[table["p"].notna()].groupby("measure").groups.items():
        table.loc[index, "q_bh"] = statistics.benjamini_hochberg(table.loc[index, "p"].to_numpy(np.float64))
    return table.astype({"exact": "Int64", "note": "str"})


def _samples(
    measures: pd.DataFrame, transitions: pd.DataFrame, bins: pd.DataFrame | None, groups: Sequence[str], paired: bool
) -> Iterator[tuple[Mapping[str, Any], Sample]]:
    whole = measures[measures["session"] == ALL_SESSIONS]
    for measure in BOUT_MEASURES:
        for behaviour in dict.fromkeys(whole["behaviour"]):
            table = whole[whole["behaviour"] == behaviour]
            late = "latency_censored" if measure == "latency_seconds" else None
            yield {"measure": measure, "behaviour": behaviour}, sample(table, groups, measure, paired, late)
    for keys, table in transitions.groupby(["behaviour", "to"], sort=False):
        head = {"measure": TRANSITION, **dict(zip(("behaviour", "to"), keys, strict=True))}
        yield head, sample(table, groups, "probability", paired)
    if bins is not None:
        for keys, table in bins.groupby(["behaviour", "start", "stop"], sort=False):
            head = {"measure": BIN, **dict(zip(("behaviour", "start", "stop"), keys, strict=True))}
            yield head, sample(table, groups, "share", paired)


def _median(values: Values, censored: NDArray[np.bool_] | None) -> float:
    """NaN where there is none, or where it lies among values that are only known to be at least so large."""
    if not len(values):
        return math.nan
    median = float(np.median(values))
    if censored is None or not censored.any():
        return median
    return median if float(np.median(np.where(censored, np.inf, values))) == median else math.nan


def dunn_pairs(shares: pd.DataFrame, groups: Sequence[str]) -> pd.DataFrame:
    """Which of several groups differ: columns ``PAIRS``."""
    import pandas as pd

    rows: list[tuple[Any, ...]] = []
    for behaviour, table in shares.groupby("behaviour", sort=False):
        s = sample(table, groups, "share", paired=False)
        if not any(values.any() for values in s.values):
            continue
        pairs = statistics.dunn(s.values)
        for pair, corrected in zip(pairs, statistics.holm([pair.p for pair in pairs]).tolist(), strict=True):
            x, y = s.values[pair.first], s.values[pair.second]
            delta = effects.cliffs_delta(x, y)
            names = groups[pair.first], groups[pair.second]
            interval = effects.delta_interval(delta, len(x), len(y))
            rows.append((behaviour, *names, len(x), len(y), pair.z, pair.p, corrected, delta, *interval))
    return pd.DataFrame(rows, columns=list(PAIRS))
