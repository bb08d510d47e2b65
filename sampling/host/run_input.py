"""What a run was started with, and what its branches are started with in their own latents and sigmas."""

from dataclasses import dataclass, replace
from typing import Any

import comfy.nested_tensor
import comfy.sampler_helpers
import comfy.utils
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ..noise_levels import NoiseLevels
from ..state_mapping import StateMapping
from .latent_spaces import LatentSpace


@dataclass(frozen=True)
class RunInput:
    """What a run was started with, in the words of `CFGGuider.sample`.

    `scale` is that of its picture, height and width, relative to the one that is sampled.
    """

    noise: Any
    latent_image: Any
    sigmas: Tensor
    denoise_mask: Any
    seed: int | None
    scale: tuple[float, float] = (1.0, 1.0)


def run_input(
    noise,
    latent_image,
    sampler,
    sigmas,
    denoise_mask=None,
    callback=None,
    disable_pbar=False,
    seed=None,
    latent_shapes=(),
    **kwargs,
) -> RunInput:
    """Return, from the arguments of `outer_sample`, what was asked for before the host packed and repeated it."""
    # A mask is repeated over the channels of its latent: one of them says it all.
    if len(latent_shapes) <= 1:
        mask = None if denoise_mask is None else denoise_mask[:, :1]
        return RunInput(noise, latent_image, sigmas, mask, seed)

    def nested(packed: Tensor, channels: slice = slice(None)) -> comfy.nested_tensor.NestedTensor:
        parts = comfy.utils.unpack_latents(packed, latent_shapes)
        return comfy.nested_tensor.NestedTensor([part[:, channels] for part in parts])

    mask = None if denoise_mask is None else nested(denoise_mask, slice(1))
    return RunInput(nested(noise), nested(latent_image), sigmas, mask, seed)


def run_of_branch(
    mapping: StateMapping, target: ModelPatcher, patcher: ModelPatcher, levels: NoiseLevels, run: RunInput
) -> RunInput:
    """Return what a branch on `patcher` is to be opened with: the target's `run` in its own latents and sigmas."""
    if levels in mapping.passthrough:
        return run
    sigmas = torch.where(run.sigmas > 0, mapping.sigma_for(levels, run.sigmas), run.sigmas)
    maps = mapping.maps_for(run.noise)
    if maps is None:
        return replace(run, sigmas=sigmas)
    space, source_space = LatentSpace.of(target), LatentSpace.of(patcher)
    noise, image, mask = maps.noise_to_source(run.noise), run.latent_image, run.denoise_mask
    if image.count_nonzero() == 0:
        # The host takes zeros for "no picture", and does not scale or shift them.
        image = torch.zeros_like(noise)
    else:
        seen = maps.clean_to_source(space.from_raw(space.picture(image)))
        image = source_space.latent(source_space.raw_picture(seen))
    if mask is not None:
        mask = source_space.latent(space.picture(mask))
        mask = comfy.sampler_helpers.prepare_mask(mask, noise.shape, patcher.load_device)[:, :1]
    return RunInput(noise, image, sigmas, mask, run.seed, scale_of_picture(target, patcher, run, noise))


def scale_of_picture(target: ModelPatcher, patcher: ModelPatcher, run: RunInput, noise: Tensor) -> tuple[float, float]:
    """Return the scale of the picture that a branch on `patcher` of the target's `run` is shown with `noise`."""
    space, source_space = LatentSpace.of(target), LatentSpace.of(patcher)
    pixels = source_space.shape.downscale / space.shape.downscale
    height, width = (
        scale * pixels * own / edge
        for scale, own, edge in zip(run.scale, noise.shape[-2:], run.noise.shape[-2:], strict=True)
    )
    return height, width
