"""Several model patchers on one module: who owns it, and how the others borrow it for a call.

Of the patchers of one run that share a module, the first is its *owner*: it alone is loaded. While the
module is lent, all that the host keeps on it for a patcher is the borrower's: weights and functions on
them, objects, injections, hooks. So it does not matter what is evaluated inside the call: where that is
another borrower of the module, it takes the first one's place and hands back to it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import comfy.sampler_helpers
import torch
from comfy.model_patcher import ModelPatcher

from ..delta import Branch
from ..errors import DeltaError
from .weights import OwnWeights, patched_by_host


class Modules:
    """The modules of a run of `target`, whose `branches` (all that it may evaluate, with the target's own) share some.

    Where the host streams the weights of a model (dynamic memory) it cannot give one module two sets of
    them, and has no hooks on them; such models, and those that share a module with them, move to a copy
    that is not streamed.
    """

    def __init__(self, target: ModelPatcher, branches: Sequence[Branch]):
        self._models = [target, *(branch.model for branch in branches)]
        self._hooked = [branch.model for branch in branches if _has_hooks(branch)]
        self._owners = {id(target.model): target}

    def place(self, role: str, model: ModelPatcher) -> tuple[ModelPatcher, ModelPatcher]:
        """Return a private clone of a branch's `model` and the patcher that owns its module.

        Raises DeltaError where a copy is needed and the host cannot make it.
        """
        one_set = all(other.patches_uuid == model.patches_uuid for other in self._models if other.is_clone(model))
        hooked = any(other.is_clone(model) for other in self._hooked)
        needs_copy = model.is_dynamic() and (hooked or not one_set)
        clone = _static_clone(model, role) if needs_copy else model.clone()
        return clone, self._owners.setdefault(id(clone.model), clone)


def _has_hooks(branch: Branch) -> bool:
    return any(comfy.sampler_helpers.cond_has_hooks(conditioning) for conditioning in branch.prompts)


# Copies that are not streamed, by the module they are copies of: as long as that is there.
_static_copies: WeakKeyDictionary[torch.nn.Module, ModelPatcher] = WeakKeyDictionary()


def _static_clone(model: ModelPatcher, role: str) -> ModelPatcher:
    """Return a clone of `model`, which is dynamic, on a copy of its module that is not."""
    if model.model not in _static_copies:
        if model.cached_patcher_init is None or not patched_by_host(model):
            raise DeltaError(
                f"The {role} model shares its weights with another model of this run that has other patches or hooks "
                "(a LoRA, say). With ComfyUI's dynamic memory that needs a second copy of it, and the node that loaded "
                f"it (as a {type(model).__name__}) does not say how to make one. Load it with a node of ComfyUI's own "
                "(Load Checkpoint, Load Diffusion Model), or start ComfyUI with --disable-dynamic-vram."
            )
        load, arguments, *part = model.cached_patcher_init
        copy = load(*arguments, disable_dynamic=True)
        _static_copies[model.model] = copy[part[0]] if part else copy
    copy = _static_copies[model.model]
    clone = model.clone(disable_dynamic=True, model_override=copy.get_clone_model_override())
    # When the clone is gone, the host's list of loaded models goes on with its parent: the next run finds it there.
    clone.parent = copy
    return clone


# Who has a module now, by its owner, where that is not the owner.
_borrowers: WeakKeyDictionary[ModelPatcher, OwnWeights] = WeakKeyDictionary()


@contextmanager
def lent(weights: OwnWeights) -> Iterator[None]:
    """Let the patcher of `weights` use its owner's module as if it were loaded there itself."""
    before = _borrowers.get(weights.owner)
    after = None if weights.patcher is weights.owner else weights
    if before is after:
        yield
        return
    try:
        _hand_over(weights.owner, before, after)
        yield
    finally:
        _hand_over(weights.owner, _borrowers.get(weights.owner), before)


def _hand_over(owner: ModelPatcher, before: OwnWeights | None, after: OwnWeights | None) -> None:
    """Take the module from one borrower to another, over its owner, for whom None stands."""
    if before is not None:
        _leave(before.patcher)
        del _borrowers[owner]
        before.take_out()
    else:
        _leave(owner)
    if after is not None:
        _borrowers[owner] = after
        after.put_in()
        _enter(after.patcher)
    else:
        _enter(owner)


def _leave(patcher: ModelPatcher) -> None:
    patcher.patch_hooks(None)  # type: ignore[arg-type]
    patcher.unpatch_model(unpatch_weights=False)


def _enter(patcher: ModelPatcher) -> None:
    patcher.patch_model(load_weights=False)
    patcher.model.current_patcher = patcher
