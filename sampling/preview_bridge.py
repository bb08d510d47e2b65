"""A bridge that nobody fitted: by the colours that the latents of two spaces stand for.

A linear preview says what a unit of each channel of a latent adds to red, green and blue. One of each space leads
from the one's latents to colours, and from these to the latents of the other that are the most likely ones: those of
least length beside the colours' error (ridge regression; Hoerl and Kennard 1970), as latents have about unit variance.
Three directions are known so; the others stay at their mean.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .bridges import Affine

# What a preview leaves unexplained of a colour (-1..1), as a variance.
RIDGE = 0.001


def latents_of_colours(preview: Affine, ridge: float = RIDGE) -> Affine:
    """Return the way back of a `preview`, which leads from latents [B, C, h, w] to colours [B, 3, h * k, w * k]."""
    weight = preview.weight.double()
    squared = weight @ weight.T + ridge * torch.eye(len(weight), dtype=torch.float64)
    back = torch.linalg.solve(squared, weight).T
    return Affine(back.float(), -(back @ preview.bias.double()).float(), preview.unfold, preview.fold)


def resized(colours: Tensor, known: int, wanted: int) -> Tensor:
    """Return `colours` [B, 3, h, w] whose pixels are `known` pixels of the picture wide, with pixels of `wanted`.

    One has to be a whole multiple of the other.
    """
    if known < wanted:
        return F.avg_pool2d(colours, wanted // known)
    return F.interpolate(colours, scale_factor=known / wanted, mode="nearest")
