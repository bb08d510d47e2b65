"""Latents at another resolution, where unit noise stays unit noise."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .bridges import polar


class Resize:
    """A change of a latent's height and width from `large` to `small`, and back.

    Downwards clean latents are averaged. Noise goes by the polar factor of the same average, so that
    it stays white and of unit variance. Upwards a delta is interpolated.
    """

    def __init__(self, large: tuple[int, int], small: tuple[int, int], device: torch.device | None = None):
        self.large, self.small, self.device = large, small, device
        averages = [box_filter(*sizes) for sizes in zip(small, large, strict=True)]
        self._average = [a.float().to(device) for a in averages]
        self._average_noise = [polar(a).float().to(device) for a in averages]

    @property
    def ratio(self) -> float:
        """An edge after over one before, as the geometric mean of both."""
        return (self.small[0] * self.small[1] / (self.large[0] * self.large[1])) ** 0.5

    def down(self, latent: Tensor) -> Tensor:
        """Return the average of a clean latent [B, C, *large]: [B, C, *small]."""
        return self._filtered(latent, *self._average)

    def noise_down(self, noise: Tensor) -> Tensor:
        """Return unit noise [B, C, *small] from unit noise [B, C, *large]."""
        return self._filtered(noise, *self._average_noise)

    def up(self, delta: Tensor) -> Tensor:
        """Return a delta [B, C, *small] as [B, C, *large]."""
        return delta if self.large == self.small else F.interpolate(delta, self.large, mode="bicubic")

    def _filtered(self, latent: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        return latent if self.large == self.small else rows.to(latent) @ latent @ columns.to(latent).T


def box_filter(after: int, before: int) -> Tensor:
    """Return the matrix [after, before] that averages `before` pixels down to `after` <= `before`.

    Every new pixel is the mean of the stretch that it covers, whole pixels and parts of pixels.
    """
    edges = torch.arange(after + 1, dtype=torch.float64) * before / after
    pixels = torch.arange(before, dtype=torch.float64)
    covered = torch.minimum(edges[1:, None], pixels + 1) - torch.maximum(edges[:-1, None], pixels)
    return covered.clamp(min=0) * after / before


def mask_for(mask: Tensor, latent: Tensor) -> Tensor:
    """Return a mask [B, 1, ..., H, W] in the height and width of a latent [B, C, ..., h, w]."""
    if mask.ndim < 4 or mask.shape[-2:] == latent.shape[-2:]:
        return mask.to(latent)
    frames = mask.shape[1:-2] if mask.ndim == latent.ndim else [1] * (latent.ndim - 3)
    resized = F.interpolate(mask.flatten(1, -3), latent.shape[-2:], mode="bilinear")
    return resized.reshape(len(mask), *frames, *latent.shape[-2:]).to(latent)
