"""What a run was started with, and what its branches are started with in their own latents and sigmas."""

from dataclasses import dataclass, replace
from typing import Any

import comfy.nested_tensor
import comfy.sampler_helpers
import comfy.utils
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ..delta import Branch
from ..noise_levels import NoiseLevels
from ..state_mapping import StateMapping
from .latent_spaces import LatentSpace

AREA_UNIT = 8  # areas of conditioning are counted in blocks of 8 by 8 pixels of the picture


@dataclass(frozen=True)
class RunInput:
    """What a run was started with, in the words of `CFGGuider.sample`."""

    noise: Any
    latent_image: Any
    sigmas: Tensor
    denoise_mask: Any
    seed: int | None


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
    if mapping.maps is None:
        return replace(run, sigmas=sigmas)
    space, source_space = LatentSpace.of(target), LatentSpace.of(patcher)
    height, width = run.noise.shape[-2:]
    maps = mapping.maps((height, width))
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
    return RunInput(noise, image, sigmas, mask, run.seed)


def placed(branch: Branch, target: ModelPatcher, run: RunInput) -> Branch:
    """Return `branch` with the areas of its conditioning as shares of the picture, whatever its latents' size."""
    space, source_space = LatentSpace.of(target), LatentSpace.of(branch.model)
    edges = [edge * space.shape.downscale for edge in space.picture(run.noise).shape[2:]]
    frames = source_space.axes - 2

    def share(options: dict) -> dict:
        area = options.get("area")
        if area is None or len(area) != 4:
            return options
        height, width, y, x = (part * AREA_UNIT / edge for part, edge in zip(area, edges * 2, strict=True))
        return {**options, "area": ("percentage", *[1.0] * frames, height, width, *[0.0] * frames, y, x)}

    def placed_in(conditioning: list) -> list:
        return [[embedding, share(options)] for embedding, options in conditioning]

    return replace(branch, positive=placed_in(branch.positive), negative=placed_in(branch.negative))
