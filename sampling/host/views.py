"""How a delta's pair sees a target of the host: the state mapping of its view and the models' latents and noise."""

import math
import zlib
from collections.abc import Callable, Sequence
from functools import cache

import comfy.supported_models
import torch
from comfy.model_base import ModelType
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ..bridges import Affine, FunctionBridge, LinearBridge, Size, affine_of, same_latents
from ..bridges import scale as scale_of
from ..delta import Delta, View, role_names
from ..noise_levels import NoiseLevels
from ..resize import Resize
from ..state_mapping import LatentMaps, StateMapping, noise_map
from .latent_spaces import LatentSpace, noise_levels
from .run_input import RunInput

Step = Callable[[Tensor], Tensor]


def open_mapping(target: ModelPatcher, delta: Delta, run: RunInput) -> StateMapping:
    """Return the state mapping of `delta` in the run of `target` that was started with `run`."""
    levels = noise_levels(target, "target"), branch_levels(target, delta)
    view, scale = delta.view, scale_in(target, delta.view, run)
    if not changes_latents(target, delta, scale):
        return StateMapping(*levels)
    space, source_space = LatentSpace.of(target), LatentSpace.of(delta.source.model)
    bridge = (view.bridge or same_latents(space.shape)).to(target.load_device)
    # A bridge that was fitted at a lower resolution leads there by itself.
    scale = min(1.0, scale * bridge.source.downscale / source_space.shape.downscale)

    def in_model_space(probe: Tensor) -> Tensor:
        raw = bridge.noise_map(space.raw_picture(space.latent(probe)))
        return source_space.picture(source_space.from_raw(raw))

    linear = affine_of(in_model_space, space.shape.channels, bridge.noise_map.fold, bridge.noise_map.unfold)
    pictures = space.picture(run.noise)
    # An image alone has the noise that it has in a batch, where its place is another.
    seeds = [(run.seed or 0) ^ zlib.crc32(noise.cpu().float().numpy().tobytes()) for noise in pictures]
    height, width = pictures.shape[-2:]

    @cache
    def maps(size: Size) -> LatentMaps:
        return latent_maps(space, source_space, bridge, resize_by(scale, size, bridge, target), linear, seeds)

    # A fitted bridge says how much larger or smaller the same picture is in the source's latents.
    detail = scale_of(linear) if bridge.is_fitted or view.same_detail else 1.0
    if view.same_detail:
        detail *= resize_by(scale, (height, width), bridge, target).ratio
    return StateMapping(*levels, maps, detail, bridge.lossy)


def resize_by(scale: float, size: Size, bridge: LinearBridge | FunctionBridge, target: ModelPatcher) -> Resize:
    """Return the change of a target's latents of `size` to `scale` times that, in whole blocks of the bridge."""
    fold = bridge.noise_map.fold
    small = size if scale == 1.0 else tuple(fold * max(1, round(edge * scale / fold)) for edge in size)
    return Resize(size, (small[0], small[1]), target.load_device)


def latent_maps(
    space: LatentSpace,
    source_space: LatentSpace,
    bridge: LinearBridge | FunctionBridge,
    resize: Resize,
    linear: Affine,
    seeds: Sequence[int],
) -> LatentMaps:
    """Return the maps between latents of two spaces, over `bridge` and `resize`.

    `linear` is the bridge's map for noise in the models' own latents. `seeds` give each image's missing noise.
    """
    height, width = (edge // linear.fold * linear.unfold for edge in resize.small)
    rotated = noise_map(linear, (source_space.shape.channels, height, width), seeds, resize.device)
    smaller = resize.small != resize.large
    down, noise_down, up = (resize.down, resize.noise_down, resize.up) if smaller else (None, None, None)
    if smaller and (resizing := bridge.between((height, width), resize.large)) is not None:
        bridge, down, up = resizing, None, None

    # Latents of two axes are pictures as they are, and what is not resized needs no step for it.
    picture, latent = (space.picture, space.latent) if space.axes > 2 else (None, None)
    source_picture, source_latent = (
        (source_space.picture, source_space.latent) if source_space.axes > 2 else (None, None)
    )
    to_model = space.format.process_in
    source_raw = _chain(source_space.format.process_out, source_picture)
    back = _chain(up, latent)

    def delta_to_target(adapted: Tensor, source: Tensor) -> Tensor:
        delta = back(bridge.delta_to_target(source_raw(adapted), source_raw(source)))
        return to_model(delta) - to_model(torch.zeros_like(delta[:1]))

    return LatentMaps(
        _chain(
            space.format.process_out, picture, down, bridge.to_source, source_latent, source_space.format.process_in
        ),
        _chain(picture, noise_down, rotated, source_latent),
        delta_to_target,
    )


def _chain(*steps: Step | None) -> Step:
    """Return the function that does all `steps` one after the other, but for those that are None."""
    needed = [step for step in steps if step is not None]

    def chained(latent: Tensor) -> Tensor:
        for step in needed:
            latent = step(latent)
        return latent

    return chained


def branch_levels(target: ModelPatcher, delta: Delta) -> tuple[NoiseLevels, NoiseLevels]:
    """Return the noise levels of source and adapted."""
    adapted = target if delta.adapted is None else delta.adapted.model
    source_role, adapted_role = role_names([delta])[0]
    return noise_levels(delta.source.model, source_role), noise_levels(adapted, adapted_role)


def view_of(target: ModelPatcher, delta: Delta) -> tuple:
    """Return what decides how the pair of `delta` sees a state of `target`; equal views see it alike."""
    space = LatentSpace.of(delta.source.model).key
    return space, branch_levels(target, delta), delta.view


def changes_latents(target: ModelPatcher, delta: Delta, scale: float) -> bool:
    """Say whether the pair's latents are others than the target's, in kind or in resolution."""
    same = LatentSpace.of(target).same_as(LatentSpace.of(delta.source.model))
    return delta.view.bridge is not None or scale != 1.0 or not same


def scale_in(target: ModelPatcher, view: View, run: RunInput) -> float:
    """Return width and height of the pair's picture relative to the target's in `run`; frames keep their size."""
    if view.edge is None or run.noise.is_nested or math.prod(run.noise.shape[2:-2]) > 1:
        return view.scale
    edge = LatentSpace.of(target).shape.downscale * math.prod(run.noise.shape[-2:]) ** 0.5
    return view.scale * min(1.0, view.edge / edge)


def native_edge(model: ModelPatcher) -> int:
    """Return how many pixels wide and high the pictures are that a model was made for, by its kind."""
    match model.model.model_config:
        case comfy.supported_models.SD15():
            return 512
        case comfy.supported_models.SD20():
            return 768 if model.model.model_type == ModelType.V_PREDICTION else 512
        case _:
            return 1024
