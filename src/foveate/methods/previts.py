"""PreViTS: contrast between clips that show the same tracked subject, and evidence that has to lie on it (Chen et al., WACV 2023).

    sampling    both clips show the subject, both crops cover enough of it           data.constrained, data.pairs
    base        MoCo for pictures, RSPNet for clips, untouched                       methods.moco, methods.rspnet
    foreground  the key with everything but the subject blackened, encoded again
    evidence    Grad-CAM of the likeness of query and foreground in the query's map, with a gradient of its own
    attention   1 - cos(evidence, mask)
    loss        base + lambda attention

The text is the supplement's; the main paper's body was not at hand. Where it and the released code (github.com/brian7685/PreViTS) disagree
there is a switch, and ``paper`` and ``release`` set all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from torch import Tensor, distributed, nn

from foveate import losses_contrastive as losses
from foveate.data.pairs import Crops
from foveate.methods import keys
from foveate.methods.moco import Contrast, Moco, MocoConfig, Pair
from foveate.methods.moment import Group, Moment
from foveate.methods.rspnet import Rspnet, RspnetConfig
from foveate.models.convnets import ConvNet

if TYPE_CHECKING:
    from foveate.data.clips import Clips

_RELEASED = Crops(area=(0.4, 1.0), flip=0.0, jitter=1.0, strength=(0.4, 0.4, 0.4, 0.4), blur=0.0, cover=0.2)
_PAPER = replace(_RELEASED, jitter=0.8, strength=(0.4, 0.4, 0.4, 0.1), blur=0.5, cover=0.3)


@dataclass(frozen=True)
class PrevitsConfig:
    """What the method is set to.

    Attributes:
        base: what it is put on, with crops that cover the subject.
        attention: lambda, weight of the attention loss. 0: constrained sampling alone; nothing else is then computed.
        rectify: where negative evidence goes, see ``losses_contrastive.grad_cam``.
        weigh: mean gradients of clips, see there.
        shrink: how masks are brought to the map's resolution, see there; ``mean`` where maps are small (crops of 112 px have 4 x 4).
        twice: the momentum encoder also follows between key and foreground key, because the released code calls it twice a step.
    """

    base: MocoConfig | RspnetConfig = field(default_factory=lambda: MocoConfig.v1(_PAPER))
    attention: float = 3.0
    rectify: losses.Rectify = "first"
    weigh: losses.Weigh = "cell"
    shrink: losses.Shrink = "points"
    twice: bool = False

    @classmethod
    def paper(cls, base: MocoConfig | RspnetConfig) -> PrevitsConfig:
        """As the supplement has it: mu .3, K 65,535, blur and colours, Grad-CAM by its definition, lambda 3. Of the augmentations only
        blur and colour jitter are named; their strengths are SimCLR's, which is cited there, at MoCo v2's hue."""
        crops = replace(_PAPER, size=base.crops.size)
        return cls(replace(base, crops=crops, hidden=0, temperature=0.07, queue=65_535))

    @classmethod
    def release(cls, base: MocoConfig | RspnetConfig) -> PrevitsConfig:
        """As the released code has it: mu .2, K 65,536 for pictures and 16,384 for clips, colours always changed and no blur, ReLU after
        scaling, two moves of the momentum encoder a step."""
        crops, queue = replace(_RELEASED, size=base.crops.size), 65_536 if isinstance(base, MocoConfig) else 16_384
        made = replace(base, crops=crops, hidden=0, temperature=0.07, queue=queue)
        return cls(made, rectify="after", twice=True)

    @property
    def size(self) -> int:
        """Pixels per side of the crops."""
        return self.base.size

    @property
    def wants_masks(self) -> bool:
        """Always: without masks it is its base."""
        return True


class Previts(nn.Module):
    """The base, and the attention loss beside it.

    Args:
        net: where the encoders begin.
        config: see ``PrevitsConfig``.
    """

    whole_batch = keys.WHOLE_BATCH

    def __init__(self, net: ConvNet, config: PrevitsConfig) -> None:
        super().__init__()
        self.config = config
        self.base: Moco | Rspnet
        self.base = Moco(net, config.base) if isinstance(config.base, MocoConfig) else Rspnet(net, config.base)

    def backbone(self) -> ConvNet:
        """The query encoder's network."""
        return self.base.backbone()

    def step(self, batch: Clips, at: Moment) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch as its base takes it, with ``masks`` bool[B, V, T, H, W] that are empty where there is no subject.

        Returns:
            The loss and what the base tells; with the attention loss also its value (``attention``, 0..1, the mean over the samples that
            have a mask in it; 0 where none has) and their share of the batch (``attended``).
        """
        pair = self.base.pair(batch, at)
        contrast = self.base.contrast(pair, at)
        if self.config.attention == 0:
            return contrast.loss, contrast.told
        attention, attended = self._attention(pair, contrast, at)
        told = contrast.told | {"attention": attention.detach(), "attended": attended}
        return contrast.loss + self.config.attention * attention, told

    def _attention(self, pair: Pair, contrast: Contrast, at: Moment) -> tuple[Tensor, Tensor]:
        """The attention loss and the share of samples in it.

        The query's map is that of the base's pass. (The released code encodes the query once more, to the same map.) A sample is in it if
        both crops show the subject, and the query's mask says at the map's resolution where it is.
        """
        config, query, key = self.config, pair.query, pair.key
        if config.twice:
            keys.follow(self.base.key_encoder, self.base.encoder, config.base.momentum)
        foreground = self.base.foreground(masked(key.pictures, key.mask), at)
        score = losses.positives(contrast.query, foreground, config.base.temperature)
        cam = losses.grad_cam(contrast.map, score, config.rectify, config.weigh)
        chosen = query.shown & key.shown & losses.telling(query.mask, (cam.shape[-2], cam.shape[-1]), config.shrink)
        count = chosen.float().sum()
        # With several processes the mean of their losses is the loss: each divides by the mean count, not by its own.
        loss = losses.mean_over(losses.looked(cam, query.mask, config.shrink), chosen, _mean(count))
        return loss, count / len(chosen)

    def after_step(self, at: Moment) -> None:
        """As the base."""
        self.base.after_step(at)

    def param_groups(self) -> list[Group]:
        """As the base."""
        return self.base.param_groups()


def masked(pictures: Tensor, mask: Tensor) -> Tensor:
    """Normalised pictures f32[B, 3, (T,) S, S] times masks f32[B, S, S]: beyond the subject everything is the mean colour."""
    return pictures * mask.view(len(mask), *(1,) * (pictures.dim() - 3), *mask.shape[1:])


def _mean(count: Tensor) -> Tensor:
    """Over the processes."""
    if not distributed.is_initialized():
        return count
    total = count.clone()
    distributed.all_reduce(total)
    return total / distributed.get_world_size()
