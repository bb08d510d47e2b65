"""Fitting a bridge: two affine maps by least squares, from latents of the same pictures."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .bridges import Affine, LatentShape, LinearBridge, folds

AROUND, MOST = 9, 2000  # pixels that a map looks at; numbers that one regression may have
HELD_OUT = 5  # every fifth picture tells how good the fit is, where there are so many


@dataclass(frozen=True)
class Fit:
    """A fitted bridge; the share of each channel's variance that it explains, both ways; on which pictures."""

    bridge: LinearBridge
    to_source: list[float]
    to_target: list[float]
    held_out: bool

    def report(self) -> str:
        """Say in words how good the fit is."""
        pictures = (
            "pictures that were not fitted" if self.held_out else "the fitted pictures; give five or more to test"
        )
        lines = [f"R2 per channel (1 is best), on {pictures}:"]
        for way, shares in (("target to source", self.to_source), ("source to target", self.to_target)):
            mean = sum(shares) / len(shares)
            lines.append(f"{way}, mean {mean:.3f}: " + " ".join(f"{share:.3f}" for share in shares))
        return "\n".join(lines)


def fit_bridge(pairs: Sequence[tuple[Tensor, Tensor]], source: LatentShape, target: LatentShape) -> Fit:
    """Fit both maps of a bridge to `pairs` of latents (source's [C, H, W], target's [C, H, W]) of one picture each.

    The maps look at a pixel's 3x3 neighbours, as VAEs do, unless that were too many numbers. R2 is measured on every
    fifth picture with maps fitted to the others; of fewer than five, on those that were fitted. The maps returned are
    fitted to all.
    """
    fold, unfold = folds(source, target)
    sizes = source.channels * unfold**2, target.channels * fold**2
    around = AROUND if AROUND * sum(sizes) <= MOST else 1
    products = torch.stack(
        [_products(F.pixel_unshuffle(s, unfold), F.pixel_unshuffle(t, fold), around) for s, t in pairs]
    )
    held_out = len(products) >= HELD_OUT
    unseen = products[:: HELD_OUT if held_out else 1].sum(0)
    seen = products.sum(0) - (unseen if held_out else 0)

    *numbers, one = torch.arange(around * sum(sizes) + 1).split([*(around * size for size in sizes), 1])
    # Of the pixels that a map looks at, it explains the one in the middle.
    sources, targets = (each.reshape(-1, around)[:, around // 2] for each in numbers)
    ways = (torch.cat([numbers[1], one]), sources), (torch.cat([numbers[0], one]), targets)
    quality = [_explained(unseen, _regress(seen, *way), *way) for way in ways]
    to_source, to_target = (_affine(_regress(products.sum(0), *way).float(), around) for way in ways)
    bridge = LinearBridge(source, target, Affine(*to_source, fold, unfold), Affine(*to_target, unfold, fold))
    return Fit(bridge, _by_channel(quality[0], source), _by_channel(quality[1], target), held_out)


def _affine(coefficients: Tensor, around: int) -> tuple[Tensor, Tensor]:
    """Return weight and bias of a map."""
    weight, bias = coefficients[:, :-1].contiguous(), coefficients[:, -1].contiguous()
    return (weight if around == 1 else weight.reshape(len(weight), -1, 3, 3)), bias


def _products(source: Tensor, target: Tensor, around: int) -> Tensor:
    """Return the sums, over the pixels of one picture, of the products of all channels of all pixels around, and 1."""
    ones = torch.ones(1, target[0].numel()).to(target)
    rows = torch.cat([_neighbours(source, around), _neighbours(target, around), ones])
    # In float64, which not every device has.
    rows = rows.cpu().double()
    return rows @ rows.T


def _neighbours(latent: Tensor, around: int) -> Tensor:
    """Return, for every pixel of a latent [C, H, W], the channels of the pixels around it: [C * around, H * W]."""
    edge = math.isqrt(around)
    return F.unfold(F.pad(latent[None], [edge // 2] * 4, mode="replicate"), edge)[0]


def _regress(products: Tensor, known: Tensor, wanted: Tensor) -> Tensor:
    """Return the coefficients [wanted, known] of the least-squares map from the numbers `known` to those `wanted`."""
    return products[wanted][:, known] @ torch.linalg.pinv(products[known][:, known], hermitian=True, rtol=1e-10)


def _explained(products: Tensor, coefficients: Tensor, known: Tensor, wanted: Tensor) -> Tensor:
    """Return, per wanted channel, the variance in `products` and what the map leaves of it: [2, C]."""
    residual = products.new_zeros(len(wanted), len(products))
    residual[torch.arange(len(wanted)), wanted] = 1
    residual[:, known] -= coefficients
    left = torch.einsum("oi,ij,oj->o", residual, products, residual)
    variance = products.diagonal()[wanted] - products[-1, wanted] ** 2 / products[-1, -1]
    return torch.stack([variance, left])


def _by_channel(explained: Tensor, shape: LatentShape) -> list[float]:
    """Return R2 per channel of `shape`, a folded channel's blocks taken together."""
    variance, left = explained.reshape(2, shape.channels, -1).sum(-1)
    return (1 - left / variance).tolist()
