"""Several model patchers on one module: who owns it, and how the others borrow it for a call.

Of the patchers of one run that share a module, the first is its *owner*: it alone is loaded. While the
module is lent, all that the host keeps on it for a patcher is the borrower's: weights and functions on
them, objects, injections, hooks. So it does not matter what is evaluated inside the call.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import comfy.sampler_helpers
import torch
from comfy.model_patcher import ModelPatcher

from ..delta import Branch
from ..errors import DeltaError
from .weights import OwnWeights


def assign_owners(
    target: ModelPatcher, branches: Sequence[tuple[str, Branch]]
) -> list[tuple[ModelPatcher, ModelPatcher]]:
    """Return for each of `branches`, with its role, a private clone of its model and the patcher that owns its module.

    `target` owns its own module. Where the host streams the weights of a model (dynamic memory) it cannot give
    one module two sets of them, and has no hooks on them; such models, and those that share a module with
    them, move to a copy that is not streamed. Raises DeltaError where the host cannot make that copy.
    """
    models = [branch.model for _, branch in branches]
    owners = {id(target.model): target}
    pairs = []
    for role, branch in branches:
        model = branch.model
        kin = [other for other in (target, *models) if other.is_clone(model)]
        one_set = all(other.patches_uuid == model.patches_uuid for other in kin)
        hooked = any(_has_hooks(other) for _, other in branches if other.model.is_clone(model))
        needs_copy = model.is_dynamic() and (hooked or not one_set)
        clone = _static_clone(model, role) if needs_copy else model.clone()
        pairs.append((clone, owners.setdefault(id(clone.model), clone)))
    return pairs


def _has_hooks(branch: Branch) -> bool:
    return any(comfy.sampler_helpers.cond_has_hooks(conditioning) for conditioning in branch.prompts)


# Copies that are not streamed, by the module they are copies of: as long as that is there.
_static_copies: WeakKeyDictionary[torch.nn.Module, ModelPatcher] = WeakKeyDictionary()


def _static_clone(model: ModelPatcher, role: str) -> ModelPatcher:
    """Return a clone of `model`, which is dynamic, on a copy of its module that is not."""
    if model.model not in _static_copies:
        if model.cached_patcher_init is None:
            raise DeltaError(
                f"The {role} model shares its weights with another model of this run that has other patches or hooks "
                "(a LoRA, say). With ComfyUI's dynamic memory that needs a second copy of it, and the node that loaded "
                "it does not say how to make one. Load it with a node of ComfyUI's own (Load Checkpoint, Load "
                "Diffusion Model), or start ComfyUI with --disable-dynamic-vram."
            )
        load, arguments, *part = model.cached_patcher_init
        copy = load(*arguments, disable_dynamic=True)
        _static_copies[model.model] = copy[part[0]] if part else copy
    copy = _static_copies[model.model]
    clone = model.clone(disable_dynamic=True, model_override=copy.get_clone_model_override())
    # When the clone is gone, the host's list of loaded models goes on with its parent: the next run finds it there.
    clone.parent = copy
    return clone


@contextmanager
def lent(weights: OwnWeights) -> Iterator[None]:
    """Let the borrower of `weights` use its owner's module as if it were loaded there itself."""
    if weights.patcher is weights.owner:
        yield
        return
    _leave(weights.owner)
    try:
        with weights.in_place():
            try:
                _enter(weights.patcher)
                yield
            finally:
                _leave(weights.patcher)
    finally:
        _enter(weights.owner)


def _leave(patcher: ModelPatcher) -> None:
    patcher.patch_hooks(None)  # type: ignore[arg-type]
    patcher.unpatch_model(unpatch_weights=False)


def _enter(patcher: ModelPatcher) -> None:
    patcher.patch_model(load_weights=False)
    patcher.model.current_patcher = patcher
