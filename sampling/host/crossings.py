"""Crossings between models of the host: what it takes to show a target's state to the branches of a delta."""

from dataclasses import replace

import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ..bridges import affine_of, gain, same_latents
from ..crossing import Crossing, LatentMaps, noise_map
from ..delta import Branch, Delta, role_names
from ..noise_levels import NoiseLevels
from ..resize import Resize
from .branches import OpenBranch
from .latent_spaces import LatentSpace, noise_levels
from .run_input import RunInput

AREA_UNIT = 8  # areas of conditioning are counted in blocks of 8 by 8 pixels of the picture


def open_crossing(target: ModelPatcher, delta: Delta, run: RunInput) -> Crossing:
    """Return the crossing of `delta` in the run of `target` that was started with `run`."""
    levels = noise_levels(target, "target"), branch_levels(target, delta)
    if not changes_latents(target, delta):
        return Crossing(*levels)
    space, source_space = LatentSpace.of(target), LatentSpace.of(delta.source.model)
    bridge = (delta.bridge or same_latents(space.shape)).to(target.load_device)
    fold, unfold = bridge.noise_map.fold, bridge.noise_map.unfold
    batch, _, *large = space.picture(run.noise).shape
    small = large if delta.scale == 1.0 else [fold * max(1, round(edge * delta.scale / fold)) for edge in large]
    resize = Resize(tuple(large), tuple(small), target.load_device)

    def in_model_space(probe: Tensor) -> Tensor:
        return source_space.to_model(bridge.clean_to_source(space.to_raw(probe)))

    linear = affine_of(in_model_space, space.shape.channels, fold, unfold) if bridge.is_linear else bridge.noise_map
    noise_shape = (batch, source_space.shape.channels, *(edge // fold * unfold for edge in small))
    rotated = noise_map(linear, noise_shape, run.seed or 0).to(target.load_device)

    def clean_to_source(clean: Tensor) -> Tensor:
        raw = bridge.clean_to_source(space.to_raw(resize.down(space.picture(clean))))
        return source_space.latent(source_space.to_model(raw))

    def noise_to_source(noise: Tensor) -> Tensor:
        return source_space.latent(rotated(resize.noise_down(space.picture(noise))))

    def delta_to_target(adapted: Tensor, source: Tensor) -> Tensor:
        adapted, source = (source_space.to_raw(source_space.picture(p)) for p in (adapted, source))
        return space.latent(resize.up(space.delta_to_model(bridge.delta_to_target(adapted, source))))

    def coarse(latent: Tensor) -> Tensor:
        return space.latent(resize.up(resize.down(space.picture(latent))))

    smaller = resize.small != resize.large
    maps = LatentMaps(clean_to_source, noise_to_source, delta_to_target, coarse if smaller else None)
    # A bridge says how much larger or smaller the same picture is in the source's latents.
    detail = gain(linear) if delta.bridge or delta.same_detail else 1.0
    return Crossing(*levels, maps, resize.ratio * detail if delta.same_detail else detail)


def branch_levels(target: ModelPatcher, delta: Delta) -> tuple[NoiseLevels, NoiseLevels]:
    """Return the noise levels of source and adapted."""
    adapted = target if delta.adapted is None else delta.adapted.model
    source_role, adapted_role = role_names([delta])[0]
    return noise_levels(delta.source.model, source_role), noise_levels(adapted, adapted_role)


def view_of(target: ModelPatcher, delta: Delta) -> tuple:
    """Return what decides how the pair of `delta` sees a state of `target`; equal views see it alike."""
    space = LatentSpace.of(delta.source.model).key
    return space, branch_levels(target, delta), delta.scale, delta.same_detail, delta.bridge


def changes_latents(target: ModelPatcher, delta: Delta) -> bool:
    """Say whether the pair's latents are others than the target's, in kind or in resolution."""
    same = LatentSpace.of(target).same_as(LatentSpace.of(delta.source.model))
    return delta.bridge is not None or delta.scale != 1.0 or not same


def run_of_branch(crossing: Crossing, target: ModelPatcher, branch: OpenBranch, run: RunInput) -> RunInput:
    """Return what `branch` is to be opened with: the target's `run` in its own latents and sigmas."""
    levels = branch.levels
    if crossing.sees_the_same(levels):
        return run
    sigmas = torch.where(run.sigmas > 0, crossing.sigma_for(levels, run.sigmas), run.sigmas)
    if crossing.maps is None:
        return replace(run, sigmas=sigmas)
    space, source_space = LatentSpace.of(target), LatentSpace.of(branch.patcher)
    noise, image, mask = crossing.maps.noise_to_source(run.noise), run.latent_image, run.denoise_mask
    if image.count_nonzero() == 0:
        # The host takes zeros for "no picture", and does not scale or shift them.
        image = torch.zeros_like(noise)
    else:
        seen = crossing.maps.clean_to_source(space.latent(space.to_model(space.picture(image))))
        image = source_space.latent(source_space.to_raw(source_space.picture(seen)))
    mask = None if mask is None else source_space.latent(space.picture(mask))
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
