"""Exact denoisers in the host: of normally distributed latents the best guess is known in closed form."""

import comfy.latent_formats
import comfy.model_base
import comfy.supported_models_base
import torch
from comfy.model_base import ModelType
from comfy.model_patcher import ModelPatcher

from .tiny import CPU


class Nothing(torch.nn.Module):
    """A network without weights of its own; the model around it answers."""

    def __init__(self, device=None, operations=None, dtype=torch.float32, **kwargs):
        super().__init__()
        self.dtype = dtype
        self.unused = torch.nn.Parameter(torch.zeros(1))


def denoiser(denoise, kind=ModelType.EPS, latent_format=None, settings=None) -> ModelPatcher:
    """Return a MODEL whose denoised prediction is `denoise(x, n)`.

    x is the clean latent plus n times unit noise, [B, C, ...], n [B, 1, ...], in the model's own
    latent space; the host sees it under the parametrisation `kind`.
    """

    class Family(comfy.supported_models_base.BASE):
        pass

    Family.latent_format = latent_format or OneVAE
    Family.sampling_settings = settings or {}

    class Exact(comfy.model_base.BaseModel):
        def apply_model(self, x, t, *args, **kwargs):
            sigma = t.reshape(-1, *[1] * (x.ndim - 1))
            if kind == ModelType.FLOW:
                ratio = sigma / (1 - sigma)
                # At sigma 1 there is noise alone, however much it is enlarged.
                near = ratio.clamp(max=1e4)
                return denoise(x * (1 + near), near)
            return denoise(x, sigma)

        def memory_required(self, *args, **kwargs):
            return 0

    with torch.inference_mode(False):
        made = Exact(Family({"dtype": torch.float32}), model_type=kind, device=CPU, unet_model=Nothing)
    return ModelPatcher(made, CPU, CPU)


class OneVAE(comfy.latent_formats.LatentFormat):
    """What tells the host that formats are of one VAE where it knows no more of it: a class that they share."""


def latents(channels, axes=2, downscale=8, scale=1.0, shift=0.0):
    """Return a latent format like those of the host, all of one VAE."""

    class Format(OneVAE):
        latent_channels, latent_dimensions, spacial_downscale_ratio = channels, axes, downscale

        def process_in(self, latent):
            return (latent - shift) * scale

        def process_out(self, latent):
            return latent / scale + shift

    return Format


def normal(mean: torch.Tensor, spread: float):
    """Return the denoiser of latents with the given mean of each channel and standard deviation."""

    def denoise(x, ratio):
        centre = mean.reshape(1, -1, *[1] * (x.ndim - 2))
        keep = spread**2 / (spread**2 + ratio**2)
        return centre + keep * (x - centre)

    return denoise
