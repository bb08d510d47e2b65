"""What of a delta is let through: its part along the prediction, its size, its frequencies."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .noise_levels import by_sample

BANDS = ("all", "low", "high")


@dataclass(frozen=True)
class Limits:
    """Limits on a delta, applied in this order: band, parallel share, norm.

    `cutoff` is a share of the highest frequency of the latent; `low` keeps what is below it. `parallel`
    is the share kept of the part along the target's prediction (Sadat et al. 2024, arXiv 2410.02416).
    `norm_limit` is the largest norm relative to the prediction's, 0 for none.
    """

    parallel: float = 1.0
    norm_limit: float = 0.0
    band: str = "all"
    cutoff: float = 0.25

    @property
    def changes_nothing(self) -> bool:
        return self == Limits(cutoff=self.cutoff)


def limited(delta: Tensor, prediction: Tensor, limits: Limits) -> Tensor:
    """Return `delta` [B, C, ...] within `limits`, beside the target's `prediction` of the same shape."""
    if limits.band != "all":
        low = low_pass(delta, limits.cutoff)
        delta = low if limits.band == "low" else delta - low
    if limits.parallel != 1.0:
        delta = delta - (1 - limits.parallel) * along(delta, prediction)
    if limits.norm_limit > 0:
        largest = limits.norm_limit * _norm(prediction)
        delta = delta * (largest / _norm(delta).clamp(min=1e-12)).clamp(max=1)
    return delta


def along(delta: Tensor, direction: Tensor) -> Tensor:
    """Return the part of each sample of `delta` that is parallel to `direction`."""
    return direction * (dot(delta, direction) / dot(direction, direction).clamp(min=1e-12))


def low_pass(latent: Tensor, cutoff: float) -> Tensor:
    """Return the frequencies below `cutoff` (0..1 of the highest), softly cut off, of a latent [B, C, ...].

    They are those of its last two axes; sound has one, of time.
    """
    sizes = latent.shape[2:][-2:]
    squares = torch.fft.rfftfreq(sizes[-1], device=latent.device) ** 2
    if len(sizes) > 1:
        squares = torch.fft.fftfreq(sizes[0], device=latent.device)[:, None] ** 2 + squares
    # Half of the amplitude passes at the cutoff; a hard edge would ring.
    relative = 2 * squares.sqrt() / max(cutoff, 1e-6)
    kept = 1 / (1 + relative**4)
    axes = tuple(range(-len(sizes), 0))
    return torch.fft.irfftn(torch.fft.rfftn(latent.float(), dim=axes) * kept, s=sizes, dim=axes).to(latent.dtype)


def _norm(a: Tensor) -> Tensor:
    return dot(a, a).sqrt()


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Return the inner product of each sample of two latents [B, C, ...], in a form that multiplies one."""
    return by_sample((a * b).flatten(1).sum(1), a)
