"""Guidance of a model by the colours of a picture (arXiv 2503.19034), on whatever it predicts.

It is a wrapper of the prediction, so what it sees is mixed already where the model carries deltas. Colours are those of
the host's linear preview: one matrix leads from latents to them and one back, and no network is asked twice.
"""

from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ..bridges import Affine
from ..colour_transport import along, directions, quantiles, step
from ..errors import DeltaError, not_finite
from ..preview_bridge import latents_of_colours
from .latent_spaces import LatentSpace
from .vae_bridge import encode, latent_shape

KEY = "delta_color_guidance"
KNOWN_QUANTILES = 4096  # of the reference's colours along a direction
RIDGE = 0.001  # small, so that the prediction's preview has the colours that were wanted
FEWEST = 16  # pixels of an edge that averaging leaves, where there are as many: a palette may be small


@dataclass(frozen=True, eq=False)
class ColourGuidance:
    """A wrapper that moves the colours of a prediction towards `wanted`, their quantiles [B or 1, K, Q] along `lines`.

    It acts from `start_percent` to `end_percent` of the run.
    """

    space: LatentSpace
    preview: Affine
    back: Affine
    lines: Tensor
    wanted: Tensor
    strength: float
    start_percent: float
    end_percent: float

    def __call__(self, executor, x: Tensor, timestep: Tensor, *args, **kwargs) -> Tensor:
        self.require_pictures(x)
        denoised = executor(x, timestep, *args, **kwargs)
        if not self.acts_at(timestep, executor.class_obj.model_patcher):
            return denoised
        moved = self.space.latent(self.moves(self.space.picture(denoised).float()))
        return denoised + self.strength * moved.to(denoised)

    def acts_at(self, timestep: Tensor, model: ModelPatcher) -> bool:
        if (self.start_percent, self.end_percent) == (0.0, 1.0):
            return True
        sigma_of: Any = model.get_model_object("model_sampling")
        first, last = map(sigma_of.percent_to_sigma, (self.start_percent, self.end_percent))
        return last <= timestep.max().item() <= first

    def moves(self, picture: Tensor) -> Tensor:
        """Return what the latent `picture` [B, C, H, W] lacks of the wanted colours, as a difference of latents."""
        seen = self.preview(picture)
        colours, lines = seen.flatten(2).mT, self.lines.to(picture)
        wanted = quantiles(self.wanted.to(picture), colours.shape[1])
        return self.back.linear(step(colours, wanted, lines).mT.reshape(seen.shape))

    def require_pictures(self, x: Tensor) -> None:
        """Raise DeltaError unless the latent `x` holds pictures of the model's, as many as the reference or any."""
        frames = x.shape[2:-2] if x.ndim == self.space.axes + 2 else None
        if frames is None or x.shape[1] != self.space.shape.channels or any(size != 1 for size in frames):
            raise DeltaError(
                f"The latent to sample has the shape {list(x.shape)}. A Delta Color Guidance expected pictures of "
                f"{self.space}, [batch, {self.space.shape.channels}, height, width]. Take it off the model for videos "
                "and for latents of several kinds of data, or choose a length of one frame."
            )
        if len(self.wanted) not in (1, len(x)):
            raise DeltaError(
                f"The reference of the Delta Color Guidance has {len(self.wanted)} pictures, the latent to sample "
                f"{len(x)}. One picture for all was expected, or one for each. Choose one with Image From Batch, or "
                "make the two batches equal."
            )


def with_colour_guidance(
    model: ModelPatcher,
    reference: Tensor,
    vae: Any = None,
    strength: float = 1.0,
    start_percent: float = 0.0,
    end_percent: float = 1.0,
) -> ModelPatcher:
    """Return a MODEL that samples as `model` does, its colours moved towards those of `reference` [B, H, W, 3].

    With the model's `vae` the reference's colours are read as the prediction's are, from latents. Raises DeltaError
    where the model's latents have no preview, or an input is of no use.
    """
    if strength == 0 or start_percent > end_percent:
        return model
    space = LatentSpace.of(model)
    preview = space.preview
    if preview is None:
        raise DeltaError(
            f"The model works on {space}, for which ComfyUI has no preview colours (latent_rgb_factors). A Delta Color "
            "Guidance reads colours by them. Take it off this model, or match the colours of the finished picture."
        )
    colours = _colours_of(_required(reference), space, preview, vae)
    lines = directions()
    wanted = quantiles(along(colours.flatten(2).mT, lines), KNOWN_QUANTILES)
    guidance = ColourGuidance(
        space, preview, latents_of_colours(preview, RIDGE), lines, wanted, strength, start_percent, end_percent
    )
    guided = model.clone()
    guided.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, KEY, guidance)
    return guided


def _required(reference: Tensor) -> Tensor:
    """Return the reference as it is, if its colours can be read."""
    if reference.ndim != 4 or reference.shape[-1] < 3 or reference.numel() == 0:
        raise DeltaError(
            f"The reference of the Delta Color Guidance has the shape {list(reference.shape)}. Pictures were expected, "
            "[batch, height, width, 3]. Connect a Load Image."
        )
    if bad := not_finite(reference):
        raise DeltaError(
            f"The reference of the Delta Color Guidance has {bad} that are NaN or infinite. Numbers from 0 to 1 were "
            "expected. Look at the node that it comes from."
        )
    return reference[..., :3].float()


def _colours_of(reference: Tensor, space: LatentSpace, preview: Affine, vae: Any) -> Tensor:
    """Return the colours [B, 3, h, w] in -1..1 of pictures [B, H, W, 3], about as coarse as a latent's."""
    if vae is not None:
        if (found := latent_shape(vae)) != space.shape:
            raise DeltaError(
                f"The vae of the Delta Color Guidance makes latents of {found}, the model works on {space}."
                " Connect the VAE that decodes this model's pictures, or none."
            )
        return preview(space.picture(space.from_raw(encode(vae, reference))).float())
    block = space.shape.downscale // preview.unfold
    edges = [max(edge // block, min(edge, FEWEST)) for edge in reference.shape[1:3]]
    return F.interpolate(reference.movedim(-1, 1), edges, mode="area") * 2 - 1
