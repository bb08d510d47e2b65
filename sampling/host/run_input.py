"""What a run was started with."""

from dataclasses import dataclass
from typing import Any

import comfy.nested_tensor
import comfy.utils
from torch import Tensor


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
