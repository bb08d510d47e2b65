"""Errors that advise: what can be told of a run's models before it, and of a failure in it."""

from collections.abc import Sequence

import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher
from comfy.samplers import CFGGuider

from ..bridges import leads_between
from ..delta import Delta, role_names
from ..errors import DeltaError, not_finite, require_number
from .latent_spaces import LatentSpace
from .run_input import RunInput
from .views import changes_latents, scale_in


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
        bridge = delta.view.bridge
        if bridge is not None and not leads_between(bridge, source.shape, own.shape):
            raise DeltaError(
                f"The bridge leads from a target of {bridge.target} to a source of {bridge.source}. The target model "
                f"works on {own}, the {first} model on {source}. Connect a bridge whose source_vae (or "
                f"source_latents) is the {first} model's and whose target is the target model's."
            )


def require_inputs(guider: CFGGuider, run: RunInput, deltas: Sequence[Delta], names: Sequence[tuple[str, str]]) -> None:
    """Raise DeltaError if an input of a run is not finite, or a prompt of its deltas is empty.

    `names` are what users call source and adapted of each delta.
    """
    inputs = {"latent_image": run.latent_image, "noise": run.noise, "noise mask of the latent": run.denoise_mask}
    for name, given in inputs.items():
        for part in given.unbind() if getattr(given, "is_nested", False) else [given]:
            if part is not None and (bad := not_finite(part)):
                raise DeltaError(
                    f"The {name} that the sampler was given has {bad} that are NaN or infinite. Finite numbers were "
                    "expected. Look at the node that it comes from: a VAE Encode of a broken picture, or a run that "
                    "failed."
                )
    require_number("cfg of the target", getattr(guider, "cfg", 1.0))
    for delta, roles in zip(deltas, names, strict=True):
        _require_picture(guider.model_patcher, delta, roles[0], run)
        for role, branch in zip(roles, (delta.source, delta.adapted), strict=True):
            needed = () if branch is None else ("positive",) if branch.cfg == 1.0 else ("positive", "negative")
            for name in needed:
                if not getattr(branch, name):
                    raise DeltaError(
                        f"The {name} prompt of the {role} model is an empty list of conditionings. Connect a CLIP Text "
                        f"Encode to it, fed by the CLIP that was loaded with the {role} model; its text may be empty."
                    )


def _require_picture(target: ModelPatcher, delta: Delta, role: str, run: RunInput) -> None:
    """Raise DeltaError if the pair of `delta` sees other latents than the target's, and these are no pictures."""
    own, source = LatentSpace.of(target), LatentSpace.of(delta.source.model)
    scale = scale_in(target, delta.view, run)
    if own.is_picture(run.noise) or not changes_latents(target, delta, scale):
        return
    if scale != 1.0:
        way, advised = "at another resolution", "Take the Delta Resolution off this delta"
    elif delta.view.bridge is not None and own.rescales(source):
        way, advised = "over a bridge", "Take the Delta Bridge off this delta"
    else:
        way, advised = (
            f"in other latents ({source}; the target's are {own})",
            "Choose models that share one kind of them",
        )
    shorter = ", or a length of one frame" if own.axes > 2 else ""
    raise DeltaError(
        f"The target's latent has the shape {list(run.noise.shape)}. The {role} model is to see it {way}, and a delta "
        f"leads there for single pictures only. {advised}{shorter}."
    )


def advice(role: str, guider: CFGGuider, error: Exception) -> str | None:
    """Return what to do about a failure of the model of `role`, if its prompts explain it."""
    conds = [cond for conds in guider.original_conds.values() for cond in conds]
    if isinstance(error, KeyError) and error.args == ("pooled_output",):
        return (
            f"The {role} model needs prompts with a pooled output, and one of its prompts has none. A prompt has to be "
            f"encoded by its own model's text encoder: connect the CLIP that was loaded with the {role} model to the "
            "CLIP Text Encode nodes of its positive and of its negative prompt."
        )
    expected = _text_width(guider.model_patcher.model.model_config.unet_config)
    embeddings = [cond["cross_attn"] for cond in conds if "cross_attn" in cond]
    widths = sorted({e.shape[-1] for e in embeddings if torch.is_tensor(e)})
    if expected is None or all(width == expected for width in widths):
        return None
    found = " and ".join(map(str, widths))
    return (
        f"The {role} model was given text conditioning {found} numbers wide and expects {expected}. A prompt has "
        f"to be encoded by its own model's text encoder: connect the CLIP that was loaded with the {role} model to "
        f"the CLIP Text Encode nodes of its positive and of its negative prompt. ({error})"
    )


# What the host has to see as it is: a cancel, memory that is full, and what has been explained already.
PLAIN = (DeltaError, comfy.model_management.InterruptProcessingException, comfy.model_management.OOM_EXCEPTION)


def explain(error: Exception, *branches: tuple[str, CFGGuider], always: bool = True) -> None:
    """Raise what says which of `branches`, given as role and guider, failed, and what may be done about it.

    The original is attached. Returns where the host has to see `error` as it is, and without `always` also
    where no prompt explains it.
    """
    if isinstance(error, PLAIN) or "out of memory" in str(error).lower():
        return
    advised = [found for role, guider in branches if (found := advice(role, guider, error))]
    if not (advised or always):
        return
    roles = " and ".join(role for role, _ in branches)
    failed = (
        f"The {roles} model failed with {type(error).__name__}: {error}. If a node of another pack changes how "
        "this model is called (in tiles, in frames, from a cache), put one on each model of the delta and on the "
        "target, or none: see 'Beside other packs' in the guide of Delta Sampling."
    )
    raise DeltaError(*(advised[:1] or [failed])) from error


def _text_width(config: dict) -> int | None:
    """Return how wide a model's text conditioning is, as the host writes it down for the kinds that it knows."""
    # SD1.x to SDXL; Flux, Flux.2, Chroma; Z-Image; SD3.
    widths = [config.get(name) for name in ("context_dim", "context_in_dim", "cap_feat_dim")]
    widths.append(config.get("context_embedder_config", {}).get("params", {}).get("in_features"))
    return next((width for width in widths if isinstance(width, int)), None)
