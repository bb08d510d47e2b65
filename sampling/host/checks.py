"""Errors that advise: what can be told of a run's models before it, and of a failure in it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import comfy.samplers
import torch
from comfy.model_patcher import ModelPatcher

from ..checks import DeltaError
from ..delta import Delta


def check_models(target: ModelPatcher, deltas: Sequence[Delta]) -> None:
    """Raise DeltaError unless all models of a run work on one latent space and one kind of noise."""
    for delta in deltas:
        source, adapted = delta.source.model, delta.adapted.model
        if _latent_space(source) != _latent_space(adapted):
            raise DeltaError(
                f"The source model works on {_name(source)} latents, the adapted model on {_name(adapted)} "
                "latents. A delta needs both on the same ones. As source_model, load the base model that the "
                "adapter was made for."
            )
        if _latent_space(source) != _latent_space(target):
            raise DeltaError(
                f"The source and adapted models work on {_name(source)} latents, the target model on "
                f"{_name(target)} latents. Carrying a delta from one latent space to another is not supported "
                f"yet. Choose a target model that works on {_name(source)} latents."
            )
        for role, model in (("source", source), ("adapted", adapted)):
            if _noise_kind(model) != _noise_kind(target):
                raise DeltaError(
                    f"The {role} model mixes noise in as a {_noise_kind(model)} model, the target model as a "
                    f"{_noise_kind(target)} model. Both kinds in one run are not supported yet. Choose models of "
                    "one kind (SD1.x, SD2.x and SDXL diffuse; SD3 and Flux flow)."
                )


def _latent_space(model: ModelPatcher) -> tuple:
    """Return what makes latents interchangeable: their channels, axes, and scale and shift."""
    space = model.get_model_object("latent_format")
    shape = [1, space.latent_channels] + [1] * space.latent_dimensions
    maps = [tuple(space.process_out(probe).flatten().tolist()) for probe in (torch.zeros(shape), torch.ones(shape))]
    return space.latent_channels, space.latent_dimensions, *maps


def _name(model: ModelPatcher) -> str:
    space = model.get_model_object("latent_format")
    return f"{type(space).__name__} ({space.latent_channels} channels)"


def _noise_kind(model: ModelPatcher) -> str:
    """Say whether the clean latent keeps its size in a noisy one (diffusion) or shrinks (flow)."""
    half = torch.tensor([0.5])
    clean_part = model.get_model_object("model_sampling").noise_scaling(half, torch.zeros(1), torch.ones(1))
    return "diffusion" if clean_part.item() == 1.0 else "flow"


@contextmanager
def explained(role: str, guider: comfy.samplers.CFGGuider) -> Iterator[None]:
    """Turn a failure inside into advice if the role's conditioning is of another width than its model's."""
    try:
        yield
    except (RuntimeError, KeyError, TypeError) as error:
        config = guider.model_patcher.model.model_config.unet_config
        expected = config.get("context_dim", config.get("context_in_dim"))
        embeddings = [c["cross_attn"] for conds in guider.original_conds.values() for c in conds if "cross_attn" in c]
        widths = sorted({e.shape[-1] for e in embeddings if torch.is_tensor(e)})
        if not isinstance(expected, int) or all(width == expected for width in widths):
            raise
        found = " and ".join(map(str, widths))
        raise DeltaError(
            f"The {role} model was given text conditioning {found} numbers wide and expects {expected}. Each role "
            f"needs prompts made by its own text encoder: connect {role}_positive and {role}_negative to CLIP Text "
            f"Encode nodes fed by the CLIP that was loaded with the {role} model. ({error})"
        ) from error
