"""Colours moved to the distribution of other colours: a step against their sliced Wasserstein distance.

That distance is a mean over directions in colour space (Rabin, Peyre, Delon, Bernot, "Wasserstein Barycenter and its
Application to Texture Mixing", 2011). Along one direction colours are numbers, and the nearest pairing is that of
equal ranks, so the gradient needs no derivative: it is the difference of the sorted numbers. SW-Guidance (Lobashev et
al., "Color Conditional Generation with Sliced Wasserstein Guidance", 2025, arXiv 2503.19034) follows it in a run.
"""

import torch
from torch import Tensor

FRAMES = 10
SEED = 2503_19034


def directions(frames: int = FRAMES) -> Tensor:
    """Return unit vectors of colour space [3, K], K = 3 * frames: the axes of turned frames, which cover it evenly.

    They are the same in every run and on every device.
    """
    generator = torch.Generator().manual_seed(SEED)
    turned = torch.linalg.qr(torch.randn(frames, 3, 3, generator=generator, dtype=torch.float64)).Q
    return turned.permute(1, 0, 2).reshape(3, -1).float()


def along(colours: Tensor, lines: Tensor) -> Tensor:
    """Return colours [..., P, 3] as numbers along the directions `lines` [3, K]: [..., K, P]."""
    return (colours @ lines).mT


def quantiles(values: Tensor, count: int) -> Tensor:
    """Return `values` [..., P] in order, as `count` of them [..., count], between two by a straight line."""
    ordered = values.sort(-1).values
    known = ordered.shape[-1]
    if known == count:
        return ordered
    places = (torch.arange(count, device=values.device) + 0.5) * known / count - 0.5
    places = places.clamp(0, known - 1)
    below = places.long()
    above = (below + 1).clamp(max=known - 1)
    return torch.lerp(ordered[..., below], ordered[..., above], (places - below).to(values))


def step(colours: Tensor, wanted: Tensor, lines: Tensor) -> Tensor:
    """Return the step of colours [B, P, 3] towards those that are `wanted` [B, K, P] along `lines`, in order.

    It is the negative gradient of half the squared sliced distance, times 3 P: the length that takes a shift of all
    colours, or any change along the axes of one frame alone, exactly to its end.
    """
    ordered, ranks = along(colours, lines).sort(-1)
    moves = torch.empty_like(ordered).scatter_(-1, ranks, wanted - ordered)
    return moves.mT @ lines.T * (3 / lines.shape[1])


def sliced_distance(colours: Tensor, others: Tensor, lines: Tensor) -> Tensor:
    """Return the sliced Wasserstein distance (of order 2) of colours [..., P, 3] from `others` [..., Q, 3]."""
    mine = along(colours, lines).sort(-1).values
    return (mine - quantiles(along(others, lines), mine.shape[-1])).square().mean((-2, -1)).sqrt()
