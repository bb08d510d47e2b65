"""Fitting a bridge: two affine maps by least squares, from latents of the same pictures."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .bridges import Affine, LatentShape, LinearBridge, folds

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

    R2 is measured on every fifth picture with maps fitted to the others; of fewer than five, on
    those that were fitted. The maps returned are fitted to all.
    """
    fold, unfold = folds(source, target)
    products = [_products(F.pixel_unshuffle(s, unfold), F.pixel_unshuffle(t, fold)) for s, t in pairs]
    held_out = len(products) >= HELD_OUT
    seen = [p for k, p in enumerate(products) if k % HELD_OUT] if held_out else products
    unseen = products[::HELD_OUT] if held_out else products

    last = source.channels * unfold**2
    sources, targets = slice(0, last), slice(last, -1)
    quality = [
        _explained(_total(unseen), *_regress(_total(seen), *direction), *direction).tolist()
        for direction in ((targets, sources), (sources, targets))
    ]
    bridge = LinearBridge(
        source,
        target,
        Affine(*_regress(_total(products), targets, sources), fold, unfold),
        Affine(*_regress(_total(products), sources, targets), unfold, fold),
    )
    return Fit(bridge, _by_channel(quality[0], source), _by_channel(quality[1], target), held_out)


def _total(products: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(products)).sum(0)


def _products(source: Tensor, target: Tensor) -> Tensor:
    """Return the sums, over the pixels of one picture, of the products of all channels and 1."""
    rows = torch.cat([source.flatten(1), target.flatten(1), torch.ones(1, target[0].numel()).to(target)]).double()
    return rows @ rows.T


def _regress(products: Tensor, known: slice, wanted: slice) -> tuple[Tensor, Tensor]:
    """Return weight and bias of the least-squares map from the channels `known` to those `wanted`."""
    count = products[-1, -1]
    covariance = products / count - torch.outer(products[-1], products[-1]) / count**2
    weight = covariance[wanted, known] @ torch.linalg.pinv(covariance[known, known], hermitian=True, rtol=1e-9)
    bias = products[-1, wanted] / count - weight @ products[-1, known] / count
    return weight.float(), bias.float()


def _explained(products: Tensor, weight: Tensor, bias: Tensor, known: slice, wanted: slice) -> Tensor:
    """Return, per wanted channel, the variance in `products` and what the map leaves of it: [2, C]."""
    weight, bias = weight.double(), bias.double()
    residual = torch.zeros(len(weight), len(products), dtype=torch.float64)
    residual[:, wanted] = torch.eye(len(weight), dtype=torch.float64)
    residual[:, known] -= weight
    residual[:, -1] -= bias
    left = torch.einsum("oi,ij,oj->o", residual, products, residual)
    variance = products.diagonal()[wanted] - products[-1, wanted] ** 2 / products[-1, -1]
    return torch.stack([variance, left])


def _by_channel(explained: list, shape: LatentShape) -> list[float]:
    """Return R2 per channel of `shape`, a folded channel's blocks taken together."""
    variance, left = torch.tensor(explained).reshape(2, shape.channels, -1).sum(-1)
    return (1 - left / variance).tolist()
