"""The networks of the pack SD-Latent-Interposer (city96) as a bridge, where it is installed."""

from collections.abc import Callable
from typing import Any

import comfy.latent_formats
import torch
import torch.nn.functional as F
from torch import Tensor

from ..bridge_fit import fit_bridge
from ..bridges import FunctionBridge
from ..errors import DeltaError
from .latent_spaces import LatentSpace

# The latents between which networks lead both ways: what that pack calls them, and their format.
LATENTS = {
    "SD1.x": ("v1", comfy.latent_formats.SD15),
    "SDXL": ("xl", comfy.latent_formats.SDXL),
    "SD3": ("v3", comfy.latent_formats.SD3),
}
PROBES, EDGE, FINER = 12, 8, 4  # smooth random latents that the noise's map is fitted to


def interposer_bridge(node: type | None, source: str, target: str) -> FunctionBridge:
    """Return the bridge between two of `LATENTS` over the pack's `node`. Raises DeltaError where there is none.

    The pack reads or downloads a network when it is first used: here.
    """
    if node is None:
        raise DeltaError(
            "A Latent Bridge Interposer uses the networks of another pack, SD-Latent-Interposer by city96, and ComfyUI "
            "has not loaded it. Install it from https://github.com/city96/SD-Latent-Interposer and restart ComfyUI. It "
            "also works without: leave the Delta Bridge out, and a bridge is found, or use a Latent Bridge VAE with "
            "tiny autoencoders (taesd, taesdxl, taesd3), which keeps most."
        )
    (source_name, source_format), (target_name, target_format) = LATENTS[source], LATENTS[target]
    to_source, to_target = _way(node(), target_name, source_name), _way(node(), source_name, target_name)
    space = LatentSpace(target_format())
    small = torch.randn(PROBES, space.shape.channels, EDGE, EDGE, generator=torch.Generator().manual_seed(0))
    probes = space.raw_picture(space.latent(F.interpolate(small, scale_factor=FINER, mode="bicubic")))
    seen, shapes = to_source(probes), (LatentSpace(source_format()).shape, space.shape)
    to_target(seen[:1])  # for the pack to read it now, not in the middle of a run
    fitted = fit_bridge(list(zip(seen, probes, strict=True)), *shapes).bridge
    return FunctionBridge(*shapes, to_source, to_target, fitted.noise_map)


def _way(interposer: Any, known: str, wanted: str) -> Callable[[Tensor], Tensor]:
    """Return the function from raw latents to raw latents of a node of the pack, which keeps one network."""
    return lambda latents: interposer.convert({"samples": latents}, known, wanted)[0]["samples"]
