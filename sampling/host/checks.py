"""Errors that advise: what can be told of a run's models before it, and of a failure in it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import comfy.samplers
import torch
from comfy.model_patcher import ModelPatcher

from ..checks import DeltaError
from ..delta import Delta, role_names
from .latent_spaces import LatentSpace


def check_models(target: ModelPatcher, deltas: Sequence[Delta]) -> None:
    """Raise DeltaError unless source and adapted share a latent space, and a way leads from the target's to it."""
    own = LatentSpace.of(target)
    for delta, (first, second) in zip(deltas, role_names(deltas), strict=True):
        source = LatentSpace.of(delta.source.model)
        adapted = LatentSpace.of(delta.adapted.model) if delta.adapted else source
        if not source.same_as(adapted):
            raise DeltaError(
                f"The {first} model works on {source}, the {second} model on {adapted}. A delta needs both on the same "
                "ones. As source_model, load the base model that the adapter was made for."
            )
        bridge = delta.bridge
        if bridge is None and not own.rescales(source):
            raise DeltaError(
                f"The {first} model works on {source}, the target model on {own}. A delta needs a bridge between the "
                "two. Put a Delta Bridge behind the Delta Pair or Delta Autoguidance, and connect to it a Latent "
                "Bridge Load (a fitted bridge from a file), a Latent Bridge Fit (fits one to some images with both "
                "VAEs) or a Latent Bridge VAE (through pixels: slow, needs no images). Sample with Delta KSampler "
                "(Advanced) or Delta Guider; the Delta KSampler has no place for a bridge."
            )
        if bridge is not None and (bridge.source, bridge.target) != (source.shape, own.shape):
            raise DeltaError(
                f"The bridge leads from a target of {bridge.target} to a source of {bridge.source}. The target model "
                f"works on {own}, the {first} model on {source}. Connect a bridge whose source_vae is the {first} "
                "model's VAE and whose target_vae is the target model's."
            )


@contextmanager
def explained(role: str, guider: comfy.samplers.CFGGuider) -> Iterator[None]:
    """Turn a failure inside into advice if the role's conditioning is of another width than its model's."""
    try:
        yield
    except (RuntimeError, KeyError, TypeError) as error:
        expected = _text_width(guider.model_patcher.model.model_config.unet_config)
        embeddings = [c["cross_attn"] for conds in guider.original_conds.values() for c in conds if "cross_attn" in c]
        widths = sorted({e.shape[-1] for e in embeddings if torch.is_tensor(e)})
        if expected is None or all(width == expected for width in widths):
            raise
        found = " and ".join(map(str, widths))
        raise DeltaError(
            f"The {role} model was given text conditioning {found} numbers wide and expects {expected}. A prompt has "
            f"to be encoded by its own model's text encoder: connect the CLIP that was loaded with the {role} model to "
            f"the CLIP Text Encode nodes of its positive and of its negative prompt. ({error})"
        ) from error


def _text_width(config: dict) -> int | None:
    """Return how wide a model's text conditioning is, as the host writes it down for the kinds that it knows."""
    # SD1.x to SDXL; Flux, Flux.2, Chroma; Z-Image; SD3.
    widths = [config.get(name) for name in ("context_dim", "context_in_dim", "cap_feat_dim")]
    widths.append(config.get("context_embedder_config", {}).get("params", {}).get("in_features"))
    return next((width for width in widths if isinstance(width, int)), None)
