"""What the host knows of a model's latents and noise, in the words of the method."""

from dataclasses import dataclass
from functools import cache, cached_property
from itertools import takewhile
from typing import Any

import comfy.latent_formats
import comfy.supported_models
import torch
import torch.nn.functional as F
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ..bridges import Affine, LatentShape, affine_of
from ..errors import DeltaError
from ..noise_levels import NoiseLevels

PIXELS = LatentShape(3, 1)


def plain_name(name: str) -> str:
    """Return a name without what people write in different ways: case, dots, underscores."""
    return "".join(filter(str.isalnum, name.lower()))


@cache
def _vae_of(latent_format: type) -> Any:
    return LatentSpace(latent_format()).vae


@dataclass(frozen=True, eq=False)
class LatentSpace:
    """The latents of a model. *Raw* ones are those that VAEs know, a *picture* has no axis of time."""

    format: Any

    @classmethod
    def of(cls, model: ModelPatcher) -> "LatentSpace":
        return cls(model.get_model_object("latent_format"))

    @property
    def shape(self) -> LatentShape:
        return LatentShape(self.format.latent_channels, self.format.spacial_downscale_ratio)

    @property
    def axes(self) -> int:
        """The number of axes after batch and channels: 2 for pictures, 3 for video."""
        return self.format.latent_dimensions

    @property
    def of_pictures(self) -> bool:
        """Whether the host knows these as pictures, by the colours of their preview; sound and shapes have none."""
        return self.format.latent_rgb_factors is not None

    def __str__(self):
        return f"{type(self.format).__name__} latents ({self.shape})"

    @cached_property
    def _scaling(self) -> list[tuple]:
        probes = (torch.zeros, torch.ones)
        return [tuple(self.format.process_out(probe(self._size(1, 1, 1))).flatten().tolist()) for probe in probes]

    @cached_property
    def vae(self) -> Any:
        """What tells whose latents these are: equal for formats of one VAE, which may differ in scale and shift.

        Latents of one shape are not the same for that: the VAEs of SD1.5 and SDXL were trained apart. The host knows a
        VAE by the tiny decoder that stands in for it, else by its preview, else by the class of its format.
        """
        if self.shape == PIXELS:
            return PIXELS
        if self.format.taesd_decoder_name is not None:
            return self.format.taesd_decoder_name
        preview = self.preview
        if preview is not None:

            def colours(raw: Tensor) -> Tensor:
                return preview(self.picture(self.from_raw(raw)))

            raw = affine_of(colours, self.shape.channels, 1, preview.unfold)
            return tuple(round(value, 3) for value in raw.weight.flatten().tolist())
        *kinds, _ = takewhile(lambda kind: kind is not object, type(self.format).__mro__)
        return kinds[-1] if kinds else type(self.format)

    @property
    def key(self) -> tuple:
        """What makes latents interchangeable: their VAE and shape, scale and shift."""
        return self.vae, self.shape, self.axes, *self._scaling

    def same_as(self, other: "LatentSpace") -> bool:
        """Say whether latents of the one are latents of the other."""
        return self.key == other.key

    def rescales(self, other: "LatentSpace") -> bool:
        """Say whether at most scale and shift tell the two apart."""
        return self.key[:3] == other.key[:3]

    @property
    def name(self) -> str:
        """What these latents are called in the names of files."""
        return plain_name(type(self.format).__name__)

    @cached_property
    def names(self) -> set[str]:
        """What these latents are called: by their format, and by the host's kinds of models with this VAE."""
        models = [model for model in comfy.supported_models.models if _vae_of(model.latent_format) == self.vae]
        kinds = {type(self.format), *models, *(model.latent_format for model in models)}
        return {plain_name(kind.__name__) for kind in kinds}

    @cached_property
    def preview(self) -> Affine | None:
        """The host's linear preview, from latents of the model's as pictures to colours in -1..1, if it has one."""
        factors = self.format.latent_rgb_factors
        if factors is None:
            return None
        weight, bias = torch.tensor(factors).T[:, :, None, None], self.format.latent_rgb_factors_bias
        reshape = getattr(self.format, "latent_rgb_factors_reshape", None) or (lambda latent: latent)

        def colours(latent: Tensor) -> Tensor:
            return F.conv2d(reshape(latent), weight, None if bias is None else torch.tensor(bias))

        unfold = colours(torch.zeros(1, self.shape.channels, 1, 1)).shape[-1]
        return affine_of(colours, self.shape.channels, 1, unfold)

    def _size(self, batch: int, height: int, width: int) -> list[int]:
        return [batch, self.shape.channels, *[1] * (self.axes - 2), height, width]

    @staticmethod
    def is_picture(latent: Any) -> bool:
        """Say whether a latent has the axes of pictures: not those of sound, of frames or of several kinds of data."""
        return not latent.is_nested and (latent.ndim == 4 or (latent.ndim == 5 and latent.shape[2] == 1))

    def picture(self, latent: Tensor) -> Tensor:
        """Return a latent of this space as a picture [B, C, H, W]."""
        return latent if latent.ndim == 4 else latent[:, :, 0]

    def latent(self, picture: Tensor) -> Tensor:
        """Return a picture [B, C, H, W] with the axes of this space."""
        return picture.reshape(*picture.shape[:2], *[1] * (self.axes - 2), *picture.shape[2:])

    def raw_picture(self, latent: Tensor) -> Tensor:
        """Return the raw picture of a latent of the model's."""
        return self.picture(self.format.process_out(latent))

    def from_raw(self, picture: Tensor) -> Tensor:
        """Return the model's latent of a raw picture."""
        return self.format.process_in(self.latent(picture))


def noise_levels(model: ModelPatcher, role: str) -> NoiseLevels:
    """Return the noise that the model of `role` was made for, found by mixing some. Raises DeltaError if unknown."""
    sampling: Any = model.get_model_object("model_sampling")
    sigma, zero, one = torch.tensor([0.25, 0.5]), torch.zeros(2), torch.ones(2)
    clean = sampling.noise_scaling(sigma, zero.clone(), one.clone())
    noise = sampling.noise_scaling(sigma, one.clone(), zero.clone())
    flow = torch.equal(clean, 1 - sigma)
    if not (flow or torch.equal(clean, one)) or not noise.all() or noise[1] != 2 * noise[0]:
        raise DeltaError(
            f"The {role} model, {type(model.model).__name__}, mixes noise in its own way ({type(sampling).__name__}): "
            f"{clean.tolist()} of the picture and {noise.tolist()} of noise at sigma {sigma.tolist()}. A delta needs "
            "models that add noise (SD1.x, SD2.x, SDXL, ...) or blend it in (SD3, Flux, ...)."
        )
    return NoiseLevels(
        flow=flow,
        sigma_min=float(sampling.sigma_min),
        sigma_max=float(sampling.sigma_max),
        noise_std=2 * noise[1].item(),
        clean_std=float(getattr(sampling, "sigma_data", 1.0)),
    )
