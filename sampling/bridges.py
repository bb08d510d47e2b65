"""Bridges between latent spaces that map every pixel by one matrix, and how to fit them.

Where one space has larger pixels than the other (Flux.2: 128 channels at 1/16 of the picture, SD1.5:
4 at 1/8), the finer latent is folded first: blocks of its pixels become channels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import DeltaError

Size = tuple[int, int]  # height and width

FIT_TOLERANCE = 0.01  # what a fit leaves of a map that is exact
RANK_TOLERANCE = 1e-5  # of the largest singular value: what rounding leaves of a direction that a map drops


@dataclass(frozen=True)
class LatentShape:
    """What can be told of a latent space from the outside: channels, and pixels of the picture per pixel."""

    channels: int
    downscale: int

    def __str__(self):
        return f"{self.channels} channels at 1/{self.downscale} of the picture"


@dataclass(frozen=True, eq=False)
class Affine:
    """A map of latents: fold blocks into channels, multiply each pixel or its 3x3 neighbours, add, unfold.

    `weight` is [C_out * unfold^2, C_in * fold^2], or with neighbours [..., 3, 3], and `bias` [C_out * unfold^2]; a
    latent [B, C_in, H, W] becomes [B, C_out, H / fold * unfold, W / fold * unfold].
    """

    weight: Tensor
    bias: Tensor
    fold: int = 1
    unfold: int = 1

    def to(self, device: torch.device | None) -> "Affine":
        return replace(self, weight=self.weight.to(device), bias=self.bias.to(device))

    @property
    def flat(self) -> "Affine":
        """What the map does to flat areas, pixel by pixel."""
        return self if self.weight.ndim == 2 else replace(self, weight=self.weight.sum((2, 3)))

    def __call__(self, latent: Tensor) -> Tensor:
        return self._mapped(latent, self.bias)

    def linear(self, delta: Tensor) -> Tensor:
        """Return the map of a difference of latents."""
        return self._mapped(delta, None)

    def _mapped(self, latent: Tensor, bias: Tensor | None) -> Tensor:
        height, width = latent.shape[-2:]
        if height % self.fold or width % self.fold:
            raise DeltaError(
                f"The target's latent is {width}x{height}, and one pixel of the source's latent covers {self.fold}x"
                f"{self.fold} of its pixels. Choose a width and height of the target's latent that are multiples of "
                f"{self.fold}."
            )
        weight, folded = self.weight.to(latent), F.pixel_unshuffle(latent, self.fold)
        if weight.ndim == 2:
            weight = weight[:, :, None, None]
        else:
            folded = F.pad(folded, (1, 1, 1, 1), mode="replicate")
        out = F.conv2d(folded, weight, None if bias is None else bias.to(latent))
        return F.pixel_shuffle(out, self.unfold)


def on_one_grid(source: LatentShape, target: LatentShape) -> bool:
    """Say whether the pixels of one are whole blocks of the other's."""
    edges = source.downscale, target.downscale
    return max(edges) % min(edges) == 0


def folds(source: LatentShape, target: LatentShape) -> tuple[int, int]:
    """Return by how much the target's and the source's latents are folded to reach one grid.

    Raises DeltaError where the pixels of one are no whole blocks of the other's.
    """
    large = max(source.downscale, target.downscale)
    if not on_one_grid(source, target):
        raise DeltaError(
            f"The source's latents have {source} and the target's {target}. A bridge needs pixels of which one "
            "is a whole multiple of the other. Use a scale of 1, 0.5 or 0.25, or choose another pair of models."
        )
    return large // target.downscale, large // source.downscale


def affine_of(function: Callable[[Tensor], Tensor], channels: int, fold: int, unfold: int) -> Affine:
    """Return the Affine that equals `function`, which has to map latents pixel by pixel, by trying it."""
    inputs = channels * fold**2
    # One block: all zeros, then each of its values one.
    probes = torch.cat([torch.zeros(1, inputs), torch.eye(inputs)])[:, :, None, None]
    answers = F.pixel_unshuffle(function(F.pixel_shuffle(probes, fold)), unfold)[:, :, 0, 0]
    return Affine((answers[1:] - answers[0]).T.contiguous(), answers[0], fold, unfold)


def polar(weight: Tensor) -> Tensor:
    """Return the nearest matrix with orthonormal rows or columns, of the rank of `weight`: it keeps unit noise unit."""
    # In float64, which not every device has.
    u, values, vh = np.linalg.svd(weight.cpu().numpy().astype(np.float64), full_matrices=False)
    kept = values > RANK_TOLERANCE * values.max()
    return torch.from_numpy((u[:, kept] @ vh[kept]).astype(np.float32))


def scale(clean_map: Affine) -> float:
    """Return by how much a map makes latents larger, the mean over the directions that it keeps."""
    values = torch.linalg.svdvals(clean_map.weight)
    return values[values > RANK_TOLERANCE * values.max()].mean().item()


def _needs_neighbours(affine: Affine) -> bool:
    """Say whether a map needs a pixel's neighbours."""
    weight = affine.weight
    return weight.ndim == 4 and bool((weight.sum((2, 3)) - weight[:, :, 1, 1]).abs().max() > FIT_TOLERANCE)


@dataclass(frozen=True, eq=False)
class Bridge:
    """Two maps between the raw latents [B, C, H, W] of a source and a target, which need not be linear.

    A subclass has a `noise_map`, an Affine whose polar factor maps noise. `lossy` says that what goes over it and back
    is not what it was, `is_fitted` that its scale tells how much larger latents are in one space than in the other.
    """

    source: LatentShape
    target: LatentShape
    to_source: Callable[[Tensor], Tensor]
    to_target: Callable[[Tensor], Tensor]

    @property
    def models(self) -> Sequence:
        """What the host has to load."""
        return ()

    def to(self, device: torch.device) -> Any:
        return self

    def between(self, small: Size, large: Size) -> Any:
        """Return the bridge that leads between latents of these sizes; None where they are resized outside of it."""

    def delta_to_target(self, adapted: Tensor, source: Tensor) -> Tensor:
        """Return adapted - source in the target's latents."""
        return self.to_target(adapted) - self.to_target(source)


@dataclass(frozen=True, eq=False)
class LinearBridge(Bridge):
    """A bridge of two affine maps."""

    to_source: Affine
    to_target: Affine
    is_fitted: bool = True

    @property
    def noise_map(self) -> Affine:
        return self.to_source.flat

    def to(self, device: torch.device) -> "LinearBridge":
        return replace(self, to_source=self.to_source.to(device), to_target=self.to_target.to(device))

    @property
    def lossy(self) -> bool:
        there, back = self.to_source.flat.weight, self.to_target.flat.weight
        both = there @ back if len(there) <= len(back) else back @ there
        exact = torch.allclose(both, torch.eye(len(both), device=both.device), atol=FIT_TOLERANCE)
        return not exact or any(map(_needs_neighbours, (self.to_source, self.to_target)))

    @property
    def reversed(self) -> "LinearBridge":
        """The bridge for a pair whose source is the target of this one."""
        return LinearBridge(self.target, self.source, self.to_target, self.to_source, self.is_fitted)

    def delta_to_target(self, adapted: Tensor, source: Tensor) -> Tensor:
        return self.to_target.linear(adapted - source)


@dataclass(frozen=True, eq=False)
class FunctionBridge(Bridge):
    """A bridge of networks. They know no noise, which has a fitted map of its own."""

    noise_map: Affine
    is_fitted = True
    lossy = True


def leads_between(bridge: Any, source: LatentShape, target: LatentShape) -> bool:
    """Say whether a bridge is for these latents; it may lead to the source's at a lower resolution."""
    found, times = bridge.source, bridge.source.downscale / source.downscale
    return bridge.target == target and found.channels == source.channels and times >= 1 and times == int(times)


def same_latents(shape: LatentShape) -> LinearBridge:
    """Return the bridge between two spaces that hold the same latents."""
    unchanged = Affine(torch.eye(shape.channels), torch.zeros(shape.channels))
    return LinearBridge(shape, shape, unchanged, unchanged, is_fitted=False)
