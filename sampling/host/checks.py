"""Errors that advise: what can be told of a run's models before it, and of a failure in it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import comfy.samplers
import torch
from comfy.model_patcher import ModelPatcher

from ..checks import DeltaError
from ..delta import Delta
from .latent_spaces import LatentSpace


def check_models(target: ModelPatcher, deltas: Sequence[Delta]) -> None:
    """Raise DeltaError unless source and adapted share a latent space, and a way leads from the target's to it."""
    own = LatentSpace.of(target)
    for delta in deltas:
        source = LatentSpace.of(delta.source.model)
        adapted = LatentSpace.of(delta.adapted.model) if delta.adapted else source
        if not source.same_as(adapted):
            raise DeltaError(
                f"The source model works on {source}, the adapted model on {adapted}. A delta needs both on the same "
                "ones. As source_model, load the base model that the adapter was made for."
            )
        bridge = delta.bridge
        if bridge is None and not own.rescales(source):
            raise DeltaError(
                f"The source and adapted models work on {source}, the target model on {own}. A delta needs a bridge "
                "between the two. Put a Delta Bridge behind the Delta Pair, and connect to it a Latent Bridge Load "
                "(a fitted bridge from a file), a Latent Bridge Fit (fits one to some images with both VAEs) or a "
                "Latent Bridge VAE (through pixels: slow, needs no images). Sample with Delta KSampler (Advanced) or "
                "Delta Guider."
            )
        if bridge is not None and (bridge.source, bridge.target) != (source.shape, own.shape):
            raise DeltaError(
                f"The bridge leads from a target of {bridge.target} to a source of {bridge.source}. The target model "
                f"works on {own}, the source and adapted models on {source}. Connect a bridge whose source_vae is the "
                "source model's VAE and whose target_vae is the target model's."
            )


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
