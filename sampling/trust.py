"""Deltas about things that the source does not know: how far to trust them, and what to carry instead.

Where source and target predict alike, the source knows what is asked for, and the delta is taken as it
is. Where they differ, the delta contains shapes of the source's own. Then only what it does to colours
is carried: the affine map of a pixel's channels that explains the delta best, applied to the target's own
prediction, so that it follows the target's shapes.
"""

from dataclasses import dataclass

from torch import Tensor
from torch.linalg import vector_norm

from .colour_map import colour_map

STEEPNESS = 8


@dataclass(frozen=True)
class Trust:
    """How far target and source may differ, relative to the delta, until it is half trusted."""

    limit: float = 0.15


def trusted(delta: Tensor, disagreement: Tensor, prediction: Tensor, trust: Trust) -> Tensor:
    """Return `delta` [B, C, ...] as far as the source can be trusted, its colour map on `prediction` for the rest.

    `disagreement` is the target's `prediction` minus the source's, in the target's latents. The two
    halves are equal where its norm is `trust.limit` times that of the delta. No disagreement leaves the delta
    as it is, and a delta of zero stays zero, bit for bit.
    """
    axes = tuple(range(1, delta.ndim))
    size, own = (vector_norm(a, dim=axes, keepdim=True) for a in (disagreement, delta))
    ratio = size / (trust.limit * own).clamp(min=1e-12)
    weight = 1 / (1 + ratio**STEEPNESS)
    carried = colour_map(prediction - disagreement, delta, prediction)
    return weight * delta + (1 - weight) * carried
