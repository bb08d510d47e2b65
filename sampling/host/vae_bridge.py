"""VAEs as a bridge: from latents to pixels with one, from pixels to latents with the other."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import comfy.utils
import torch
import torch.nn.functional as F
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ..bridges import Affine, LatentShape, Size

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


@dataclass(frozen=True, eq=False)
class VAEBridge:
    """A bridge through pixels: as exact as the VAEs are, and as slow.

    Noise has no picture, so it passes by a fitted map, `noise_map`. With `sizes`, those of the pictures that the
    source's and the target's VAE see, pictures are resized in between.
    """

    source_vae: Any
    target_vae: Any
    noise_map: Affine
    sizes: tuple[Size, Size] | None = None
    is_fitted = True
    loses = True

    @property
    def source(self) -> LatentShape:
        return latent_shape(self.source_vae)

    @property
    def target(self) -> LatentShape:
        return latent_shape(self.target_vae)

    @property
    def models(self) -> list[ModelPatcher]:
        """What has to be loaded."""
        return [self.source_vae.patcher, self.target_vae.patcher]

    def to(self, device: torch.device) -> "VAEBridge":
        return self

    def between(self, small: Size, large: Size) -> "VAEBridge":
        """Return the bridge between latents of `small` pixels of the source's and `large` ones of the target's.

        Pictures are resized in pixels, where least is lost.
        """
        edges = ((small, self.source.downscale), (large, self.target.downscale))
        own, theirs = (cast(Size, tuple(edge * downscale for edge in size)) for size, downscale in edges)
        return replace(self, sizes=(own, theirs))

    def clean_to_source(self, clean: Tensor) -> Tensor:
        size = None if self.sizes is None else self.sizes[0]
        return encode(self.source_vae, resized(decode(self.target_vae, clean), size)).to(clean)

    def delta_to_target(self, adapted: Tensor, source: Tensor) -> Tensor:
        size = None if self.sizes is None else self.sizes[1]
        adapted, source = (
            encode(self.target_vae, resized(decode(self.source_vae, latent), size)).to(latent)
            for latent in (adapted, source)
        )
        return adapted - source


def resized(images: Tensor, size: Size | None) -> Tensor:
    """Return images [B, H, W, 3] at another height and width."""
    if size is None or images.shape[1:3] == size:
        return images
    planes = F.interpolate(images.movedim(-1, 1), size, mode="bicubic", antialias=True)
    return planes.movedim(1, -1).clamp(0, 1)
