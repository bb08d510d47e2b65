"""A bridge for a pair whose latents are not the target's, where none is wired.

A fitted one whose file is named for both comes first (sd15_to_sdxl): the user's, then this pack's. Else the host's
previews make one.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import PurePath

from comfy.model_patcher import ModelPatcher
from torch import Tensor
from torch.nn import functional as F

from ..bridges import Affine, LinearBridge, affine_of, folds, leads_between, on_one_grid
from ..delta import Delta, role_names
from ..errors import DeltaError
from ..preview_bridge import latents_of_colours
from . import bridge_files
from .latent_spaces import LatentSpace, plain_name


def with_bridges(target: ModelPatcher, deltas: Sequence[Delta]) -> list[Delta]:
    """Return `deltas`, those that need a bridge and have none with the one that is found. Raises DeltaError without."""
    own = LatentSpace.of(target)
    found: dict[tuple, LinearBridge] = {}
    bridged = []
    for delta, (role, _) in zip(deltas, role_names(deltas), strict=True):
        space = LatentSpace.of(delta.source.model)
        if delta.view.bridge is None and not own.rescales(space):
            if space.key not in found:
                found[space.key] = find_bridge(space, own, role)
            delta = replace(delta, view=replace(delta.view, bridge=found[space.key]))
        bridged.append(delta)
    return bridged


def find_bridge(source: LatentSpace, target: LatentSpace, role: str) -> LinearBridge:
    """Return a bridge between two spaces, and log where it is from. Raises DeltaError if there is none."""
    if min(source.axes, target.axes) < 2:
        raise DeltaError(
            f"The {role} model works on {source}, the target model on {target}. No bridge leads between latents that "
            "are no pictures. Choose models that share one kind of latents."
        )
    meet = f"Delta Sampling: {source} of the {role} model and {target} of the target meet"
    fitted = fitted_bridge(source, target)
    if fitted is not None:
        name, bridge = fitted
        logging.info("%s over the bridge %s.", meet, name)
        return bridge
    by_colours = preview_bridge(source, target)
    if by_colours is not None:
        hint = f"A bridge saved as {source.name}_to_{target.name} knows more and is used by itself"
        logging.info("%s by their preview colours. %s; a Latent Bridge VAE knows most.", meet, hint)
        return by_colours
    raise DeltaError(
        f"The {role} model works on {source}, the target model on {target}. A delta needs a bridge between the two. "
        "ComfyUI knows too little of their colours to make one by itself. Put a Delta Bridge behind the Delta Pair or "
        "Delta Autoguidance, and connect to it a Latent Bridge Load (a fitted bridge from a file), a Latent Bridge Fit "
        "(fits one with both VAEs) or a Latent Bridge VAE (through pixels). Sample with Delta Model, Delta KSampler "
        "(Advanced) or Delta Guider; the Delta KSampler has no place for a bridge."
    )


def fitted_bridge(source: LatentSpace, target: LatentSpace) -> tuple[str, LinearBridge] | None:
    """Return the first bridge whose file is named for both, whichever comes first in the name, and what to call it."""
    for path, shown in bridge_files.files().items():
        first, second = named_for(path)
        if first in source.names and second in target.names:
            bridge = bridge_files.read(path, shown)
        elif second in source.names and first in target.names:
            bridge = bridge_files.read(path, shown).reversed
        else:
            continue
        if leads_between(bridge, source.shape, target.shape):
            return shown, bridge
    return None


def named_for(file: str) -> tuple[str, str]:
    """Return the two plain names that a bridge's file is named for: sd15 and sdxl, of sets/SD1.5_to_SDXL_00001_."""
    stem = PurePath(file.replace("\\", "/")).name.removesuffix(bridge_files.SUFFIX)
    first, _, second = stem.lower().partition("_to_")
    name, _, counter = second.rstrip("_").rpartition("_")
    return plain_name(first), plain_name(name if counter.isdigit() and name else second)


def preview_bridge(source: LatentSpace, target: LatentSpace) -> LinearBridge | None:
    """Return the bridge by the host's preview colours of both, None where it has none or their pixels do not fit."""
    theirs, own = source.preview, target.preview
    if theirs is None or own is None or not on_one_grid(source.shape, target.shape):
        return None
    fold, unfold = folds(source.shape, target.shape)
    to_source = affine_of(_by_colours(target, own, source, theirs), target.shape.channels, fold, unfold)
    to_target = affine_of(_by_colours(source, theirs, target, own), source.shape.channels, unfold, fold)
    return LinearBridge(source.shape, target.shape, to_source, to_target, is_fitted=False)


def _by_colours(known: LatentSpace, colours: Affine, wanted: LatentSpace, wanted_colours: Affine) -> Callable:
    """Return the function from raw latents of one space to those of another, by the previews of both."""
    back = latents_of_colours(wanted_colours)
    finer = known.shape.downscale // colours.unfold / (wanted.shape.downscale // wanted_colours.unfold)

    def lead(raw: Tensor) -> Tensor:
        shown = F.interpolate(colours(known.picture(known.from_raw(raw))), scale_factor=finer, mode="area")
        return wanted.raw_picture(wanted.latent(back(shown)))

    return lead
