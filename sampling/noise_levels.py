"""Noise levels: one noisy state as models of different parametrisations see it.

A noisy latent is x = a z + b e, with z the clean latent and e unit noise. Diffusion models (eps, v,
EDM) have a = 1, flow models a = 1 - sigma; for both b is sigma, times the size of their noise. Two
states match where the ratio of noise to signal, n = b / a over the size of the latents, is the same.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


def by_sample(values: Tensor, latent: Tensor) -> Tensor:
    """Return `values`, one [1] or one for each sample [B], in a form that multiplies a latent [B, C, ...]."""
    return values.reshape(-1, *[1] * (latent.ndim - 1))


@dataclass(frozen=True)
class NoiseLevels:
    """The noise levels a model was made for; `sigma` is in its own parametrisation."""

    flow: bool
    sigma_min: float
    sigma_max: float
    noise_std: float = 1.0
    clean_std: float = 1.0

    def mixes_like(self, other: "NoiseLevels") -> bool:
        """Say whether the two call every noisy latent by the same sigma."""
        return (self.flow, self.noise_std, self.clean_std) == (other.flow, other.noise_std, other.clean_std)


def mixing(sigma: Tensor, levels: NoiseLevels) -> tuple[Tensor, Tensor]:
    """Return the factors a and b of x = a z + b e."""
    return (1 - sigma if levels.flow else torch.ones_like(sigma)), levels.noise_std * sigma


def noise_to_signal(sigma: Tensor, levels: NoiseLevels) -> Tensor:
    """Return n = b / (a * clean_std): infinite where a flow model sees nothing but noise."""
    a, b = mixing(sigma, levels)
    return b / (a * levels.clean_std)


def sigma_at(ratio: Tensor, levels: NoiseLevels) -> Tensor:
    """Return the sigma at which `levels` has the noise-to-signal `ratio`."""
    sigma = ratio * levels.clean_std / levels.noise_std
    # For flow sigma / (1 + sigma), in a form that an infinite ratio leaves finite.
    return 1 / (1 + 1 / sigma) if levels.flow else sigma


def known_range(*models: NoiseLevels) -> tuple[float, float]:
    """Return the lowest and highest noise-to-signal ratio that all `models` were made for."""
    ends = [noise_to_signal(torch.tensor([m.sigma_min, m.sigma_max], dtype=torch.float64), m).tolist() for m in models]
    return max(low for low, _ in ends), min(high for _, high in ends)


def noise_in(x: Tensor, clean: Tensor, sigma: Tensor, levels: NoiseLevels) -> Tensor:
    """Return the noise e [B, C, ...] of the latent x, given its clean part; `sigma` is [B], above 0."""
    a, b = (by_sample(factor, x) for factor in mixing(sigma, levels))
    return (x - a * clean) / b


def mix(clean: Tensor, noise: Tensor, sigma: Tensor, levels: NoiseLevels) -> Tensor:
    """Return the noisy latent a z + b e [B, C, ...]; `sigma` is [B]."""
    a, b = (by_sample(factor, clean) for factor in mixing(sigma, levels))
    return a * clean + b * noise


def signal_of(clean: Tensor, sigma: Tensor, levels: NoiseLevels) -> Tensor:
    """Return a z: what the clean latent z [B, C, ...] makes up of a noisy one; `sigma` is [B]."""
    return clean * by_sample(mixing(sigma, levels)[0], clean)
