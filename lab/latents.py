"""The two latent spaces: the principal components of patches (64x64 images), and a small autoencoder (128x128).

Both are 4 times smaller than the image each way and have channels of about zero mean and unit variance.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FACTOR = 4


class PatchLatents(nn.Module):
    """The leading principal components of 4x4 patches of RGB: 12 channels, an orthonormal map up to the scales."""

    channels = 12

    def __init__(self):
        super().__init__()
        size = 3 * FACTOR**2
        self.register_buffer("mean", torch.zeros(size, 1, 1))
        self.register_buffer("basis", torch.zeros(self.channels, size))
        self.register_buffer("spread", torch.ones(self.channels, 1, 1))

    @torch.no_grad()
    def fit(self, images: Tensor) -> float:
        """Set the components to those of images [n, 3, H, W] in -1..1; return their share of the variance."""
        patches = F.pixel_unshuffle(images, FACTOR).movedim(1, -1).flatten(0, -2).double()
        values, vectors = torch.linalg.eigh(patches.T.cov())
        values, vectors = values.flip(0), vectors.flip(1)
        self.mean.copy_(patches.mean(0)[:, None, None])
        self.basis.copy_(vectors[:, : self.channels].T)
        self.spread.copy_(values[: self.channels].sqrt()[:, None, None])
        return (values[: self.channels].sum() / values.sum()).item()

    def encode(self, images: Tensor) -> Tensor:
        patches = F.pixel_unshuffle(images, FACTOR) - self.mean
        return torch.einsum("cp,bphw->bchw", self.basis, patches) / self.spread

    def decode(self, latents: Tensor) -> Tensor:
        patches = torch.einsum("cp,bchw->bphw", self.basis, latents * self.spread) + self.mean
        return F.pixel_shuffle(patches, FACTOR)

    def rgb_factors(self) -> tuple[Tensor, Tensor]:
        """Return the linear preview, as the host's latent formats have it: weights [channels, 3], bias [3]."""
        mean_of = self.basis.view(self.channels, 3, -1).mean(2) * self.spread.view(-1, 1)
        return mean_of, self.mean.view(3, -1).mean(1)


class _Residual(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.first, self.second = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.silu(self.first(F.silu(x))))


class AutoEncoder(nn.Module):
    """Convolutions only: RGB in -1..1 <-> latents of 4 channels."""

    channels = 4

    def __init__(self, wide: int = 48, deep: int = 64):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(2), nn.Conv2d(12, wide, 3, padding=1), _Residual(wide),
            nn.Conv2d(wide, deep, 4, stride=2, padding=1), _Residual(deep), nn.SiLU(), nn.Conv2d(deep, 4, 1),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Conv2d(4, deep, 3, padding=1), _Residual(deep), _Residual(deep), nn.Conv2d(deep, wide * 4, 1),
            nn.PixelShuffle(2), _Residual(wide), nn.SiLU(), nn.Conv2d(wide, 12, 3, padding=1), nn.PixelShuffle(2),
        )  # fmt: skip
        self.preview = nn.Conv2d(4, 3, 1)
        self.register_buffer("mean", torch.zeros(4, 1, 1))
        self.register_buffer("spread", torch.ones(4, 1, 1))

    def encode(self, images: Tensor) -> Tensor:
        return (self.encoder(images) - self.mean) / self.spread

    def decode(self, latents: Tensor) -> Tensor:
        return self.decoder(latents * self.spread + self.mean)

    def loss(self, images: Tensor) -> Tensor:
        """Return the error of the reconstruction from noisy latents, and of a linear preview of their colours."""
        raw = self.encoder(images)
        error = self.decoder(raw + 0.05 * torch.randn_like(raw)) - images
        preview = self.preview(raw) - F.avg_pool2d(images, FACTOR)
        size = (raw.mean((0, 2, 3)) ** 2 + (raw.var((0, 2, 3)) - 1) ** 2).mean()
        return error.abs().mean() + 2 * error.square().mean() + 0.3 * preview.square().mean() + 0.01 * size

    @torch.no_grad()
    def fit_scale(self, images: Tensor) -> None:
        """Set mean and spread to those of the latents of images."""
        raw = self.encoder(images)
        self.mean.copy_(raw.mean((0, 2, 3))[:, None, None])
        self.spread.copy_(raw.std((0, 2, 3))[:, None, None])

    def rgb_factors(self) -> tuple[Tensor, Tensor]:
        """Return the linear preview, as the host's latent formats have it: weights [channels, 3], bias [3]."""
        weight = self.preview.weight[:, :, 0, 0]
        return (weight * self.spread.flatten()).T, self.preview.bias + weight @ self.mean.flatten()
