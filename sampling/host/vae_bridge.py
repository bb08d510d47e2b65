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
PROBE = 4  # latent pixels along the edge of a picture that is encoded to find a latent's shape


def latent_shape(vae: Any, scale: float = 1.0) -> LatentShape:
    """Return the shape of the latents of a VAE that sees pictures at `scale` times their size, by encoding one."""
    # The host's own number is not always the VAE's: it has 8 for taef2, whose latents are at 1/16.
    edge = PROBE * vae.spacial_compression_encode()
    latent = encode(vae, torch.full((1, edge, edge, 3), 0.5))
    return LatentShape(latent.shape[1], round(edge / latent.shape[-1] / scale))


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
        to_source, to_target = self.source.downscale, self.target.downscale
        return replace(
            self,
            to_source=replace(self.to_source, size=(small[0] * to_source, small[1] * to_source)),
            to_target=replace(self.to_target, size=(large[0] * to_target, large[1] * to_target)),
        )


def resized(images: Tensor, size: Size | None) -> Tensor:
    """Return images [B, H, W, 3] at another height and width."""
    if size is None or images.shape[1:3] == size:
        return images
    planes = F.interpolate(images.movedim(-1, 1), size, mode="bicubic", antialias=True)
    return planes.movedim(1, -1).clamp(0, 1)
