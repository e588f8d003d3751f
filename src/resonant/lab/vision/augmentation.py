"""Images changed at random in training, by kornia."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

MIXUP_ALPHA = 0.8  # of the Beta distribution of the second image's share
CUTMIX_ALPHA = 1.0
SHIFT = 4  # pixels that an image of 32 is moved at most; in proportion for others
LABEL_SMOOTHING = 0.1


def augmented(
    images: Tensor, labels: Tensor, kind: str, *, classes: int, key: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Images (batch, channel, row, column) in [0, 1] and the share of each class in them.

    "flips" shifts each image by up to an eighth of its side (zeros come in) and mirrors every
    second one; "published" then mixes the batch with itself, by mixup or by cutmix as a coin says,
    and smooths the shares by 0.1. A function of ``key`` alone: the generator outside stays.

    Source: mixup 0.8, cutmix 1.0, label smoothing 0.1 of arXiv 2602.11534, vision; what is shifted
    and mirrored, and the coin, are customary (arXiv 2012.12877).
    """
    shares = F.one_hot(labels, classes).to(images.dtype)
    if kind == "none":
        return images, shares
    drawn = np.random.Generator(np.random.Philox(key=key)).integers(2**62)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(drawn))
        images = move(images)
        if kind == "published":
            images, shares = _mixed(images, labels, shares)
            shares = shares * (1 - LABEL_SMOOTHING) + LABEL_SMOOTHING / classes
    return images, shares


def move(images: Tensor) -> Tensor:
    """Shift, turn and flip images as published."""
    import kornia.augmentation as K

    side = images.shape[-1]
    moves = K.AugmentationSequential(
        K.RandomCrop((side, side), padding=max(1, round(SHIFT * side / 32))),
        K.RandomHorizontalFlip(p=0.5),
        data_keys=["input"],
    )
    return moves(images)


def _mixed(images: Tensor, labels: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
    import kornia.augmentation as K

    if torch.rand(()) < 0.5:
        share = torch.distributions.Beta(MIXUP_ALPHA, MIXUP_ALPHA).sample()
        mix = K.RandomMixUpV2(lambda_val=share.repeat(2), data_keys=["input", "class"])
    else:
        mix = K.RandomCutMixV2(
            beta=CUTMIX_ALPHA, data_keys=["input", "class"], use_correct_lambda=True
        )
    mixed, told = mix(images, labels)
    told = told.reshape(len(labels), 3)  # a label, the other image's, a share
    other = F.one_hot(told[:, 1].long(), shares.shape[1]).to(shares.dtype)
    # kornia tells the other image's share of a mixup, and what is left of the own of a cutmix.
    share = told[:, 2:] if isinstance(mix, K.RandomMixUpV2) else 1.0 - told[:, 2:]
    return mixed, torch.lerp(shares, other, share.to(shares.dtype))
