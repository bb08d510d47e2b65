"""VAEs as a bridge: from latents to pixels with one, from pixels to latents with the other."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import comfy.utils
import torch
import torch.nn.functional as F
from torch import Tensor

from ..bridges import Affine, FunctionBridge, LatentShape, Size

LONGEST_EDGE = 1024  # pixels of a picture that is fitted


def latent_shape(vae: Any, scale: float = 1.0) -> LatentShape:
    """Return the shape of the latents of a VAE that sees pictures at `scale` times their size."""
    return LatentShape(vae.latent_channels, round(vae.spacial_compression_encode() / scale))


def encode(vae: Any, images: Tensor) -> Tensor:
    """Return the raw latents [B, C, h, w] of `images` [B, H, W, 3] in 0..1."""
    # One by one: a VAE of videos takes a batch for the frames of one.
    latents = torch.cat([vae.encode(image[None, ..., :3]) for image in images])
    return latents[:, :, 0] if latents.ndim == 5 else latents


def encode_pairs(
    images: Sequence[Tensor], source_vae: Any, target_vae: Any, scale: float = 1.0
) -> list[tuple[Tensor, Tensor]]:
    """Return the raw latents [C, h, w] of both VAEs for every picture of `images`, batches [B, H, W, 3] of any size.

    Large pictures are scaled down; all are cropped so that both VAEs see the same pixels, the source's at `scale`
    times their number.
    """
    block = max(latent_shape(source_vae, scale).downscale, latent_shape(target_vae).downscale)
    pairs: list[tuple[Tensor, Tensor]] = []
    for batch in images:
        height, width = batch.shape[1:3]
        shrink = min(1.0, LONGEST_EDGE / max(height, width))
        width, height = (max(block, int(edge * shrink) // block * block) for edge in (width, height))
        pictures = comfy.utils.common_upscale(batch.movedim(-1, 1), width, height, "area", "center").movedim(1, -1)
        smaller = resized(pictures, (round(height * scale), round(width * scale)))
        pairs += zip(encode(source_vae, smaller), encode(target_vae, pictures), strict=True)
    return pairs


def decode(vae: Any, latents: Tensor) -> Tensor:
    """Return the images [B, H, W, 3] in 0..1 of raw latents [B, C, h, w]."""
    images = vae.decode(latents[:, :, None] if vae.latent_dim == 3 else latents)
    return images[:, 0] if images.ndim == 5 else images


@dataclass(frozen=True)
class ThroughPixels:
    """The way from the raw latents of one VAE to those of another; with `size`, pictures are resized to it."""

    decoder: Any
    encoder: Any
    size: Size | None = None

    def __call__(self, latents: Tensor) -> Tensor:
        return encode(self.encoder, resized(decode(self.decoder, latents), self.size)).to(latents)

    def leading_to(self, height: int, width: int) -> "ThroughPixels":
        """Return the way that ends in latents of this size."""
        downscale = latent_shape(self.encoder).downscale
        return replace(self, size=(height * downscale, width * downscale))


@dataclass(frozen=True, eq=False)
class VAEBridge(FunctionBridge):
    """A bridge through pixels: as exact as the VAEs are, and as slow."""

    to_source: ThroughPixels
    to_target: ThroughPixels

    @classmethod
    def of(cls, source_vae: Any, target_vae: Any, noise_map: Affine) -> "VAEBridge":
        return cls(
            latent_shape(source_vae),
            latent_shape(target_vae),
            ThroughPixels(target_vae, source_vae),
            ThroughPixels(source_vae, target_vae),
            noise_map,
        )

    @property
    def models(self) -> list:
        return [self.to_source.encoder.patcher, self.to_target.encoder.patcher]

    def between(self, small: Size, large: Size) -> "VAEBridge":
        """Return the bridge between latents of these sizes. Pictures are resized in pixels, where least is lost."""
        return replace(self, to_source=self.to_source.leading_to(*small), to_target=self.to_target.leading_to(*large))


def resized(images: Tensor, size: Size | None) -> Tensor:
    """Return images [B, H, W, 3] at another height and width."""
    if size is None or images.shape[1:3] == size:
        return images
    planes = F.interpolate(images.movedim(-1, 1), size, mode="bicubic", antialias=True)
    return planes.movedim(1, -1).clamp(0, 1)
