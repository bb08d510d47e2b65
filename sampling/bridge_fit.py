"""Fitting a bridge: two affine maps by least squares, from latents of the same pictures."""

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
    products = [_products(F.pixel_unshuffle(s, unfold), F.pixel_unshuffle(t, fold), around) for s, t in pairs]
    held_out = len(products) >= HELD_OUT
    seen = [p for k, p in enumerate(products) if k % HELD_OUT] if held_out else products
    unseen = products[::HELD_OUT] if held_out else products

    numbers = torch.arange(around * sum(sizes)).split([around * size for size in sizes])
    sources, targets = numbers
    # Of the pixels that a map looks at, it explains the one in the middle.
    own_sources, own_targets = (each.reshape(-1, around)[:, around // 2] for each in numbers)
    ways = (targets, own_sources), (sources, own_targets)
    quality = [_explained(_total(unseen), *_regress(_total(seen), *way), *way).tolist() for way in ways]
    to_source, to_target = (_regress(_total(products), *way) for way in ways)
    bridge = LinearBridge(
        source,
        target,
        Affine(_kernel(to_source[0], around), to_source[1], fold, unfold),
        Affine(_kernel(to_target[0], around), to_target[1], unfold, fold),
    )
    return Fit(bridge, _by_channel(quality[0], source), _by_channel(quality[1], target), held_out)


def _kernel(weight: Tensor, around: int) -> Tensor:
    return weight if around == 1 else weight.reshape(len(weight), -1, 3, 3)


def _total(products: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(products)).sum(0)


def _products(source: Tensor, target: Tensor, around: int) -> Tensor:
    """Return the sums, over the pixels of one picture, of the products of all channels of all pixels around, and 1."""
    ones = torch.ones(1, target[0].numel()).to(target)
    rows = torch.cat([_neighbours(source, around), _neighbours(target, around), ones]).double()
    return rows @ rows.T


def _neighbours(latent: Tensor, around: int) -> Tensor:
    """Return, for every pixel of a latent [C, H, W], the channels of the pixels around it: [C * around, H * W]."""
    if around == 1:
        return latent.flatten(1)
    return F.unfold(F.pad(latent[None], (1, 1, 1, 1), mode="replicate"), 3)[0]


def _regress(products: Tensor, known: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Return weight and bias of the least-squares map from the numbers `known` to those `wanted`."""
    count, means = products[-1, -1], products[-1] / products[-1, -1]
    covariance = products / count - torch.outer(means, means)
    inverse = torch.linalg.pinv(covariance[known][:, known], hermitian=True, rtol=1e-9)
    weight = covariance[wanted][:, known] @ inverse
    return weight.float(), (means[wanted] - weight @ means[known]).float()


def _explained(products: Tensor, weight: Tensor, bias: Tensor, known: Tensor, wanted: Tensor) -> Tensor:
    """Return, per wanted channel, the variance in `products` and what the map leaves of it: [2, C]."""
    residual = torch.zeros(len(weight), len(products), dtype=torch.float64)
    residual[torch.arange(len(wanted)), wanted] = 1
    residual[:, known] -= weight.double()
    residual[:, -1] -= bias.double()
    left = torch.einsum("oi,ij,oj->o", residual, products, residual)
    variance = products.diagonal()[wanted] - products[-1, wanted] ** 2 / products[-1, -1]
    return torch.stack([variance, left])


def _by_channel(explained: list, shape: LatentShape) -> list[float]:
    """Return R2 per channel of `shape`, a folded channel's blocks taken together."""
    variance, left = torch.tensor(explained).reshape(2, shape.channels, -1).sum(-1)
    return (1 - left / variance).tolist()
