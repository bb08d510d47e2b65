"""Several model patchers on one module: who owns it, who borrows it, with which weights.

ComfyUI keeps one set of patched weights per module, and the patcher that was loaded last decides
which. Of the patchers of one run that share a module, the first is its *owner*: it alone is
loaded. Every other one borrows the module for the length of a call.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from comfy.model_patcher import ModelPatcher


def assign_owners(target: ModelPatcher, patchers: Sequence[ModelPatcher]) -> list[tuple[ModelPatcher, ModelPatcher]]:
    """Return a private clone of each of `patchers` with the patcher that owns its module.

    `target` owns its own module. Clones that need weights of their own cannot be dynamic (the
    host streams those and has no weight hooks for them), so they and their kin move to the host's
    static copy of the model.
    """
    owners = {id(target.model): target}
    static = {}
    pairs = []
    for patcher in patchers:
        kin = [other for other in (target, *patchers) if other.is_clone(patcher)]
        if patcher.is_dynamic() and any(needs_own_weights(other, patcher) for other in kin):
            if id(patcher.model) not in static:
                static[id(patcher.model)] = patcher.get_non_dynamic_delegate().get_clone_model_override()
            clone = patcher.clone(disable_dynamic=True, model_override=static[id(patcher.model)])
        else:
            clone = patcher.clone()
        pairs.append((clone, owners.setdefault(id(clone.model), clone)))
    return pairs


def needs_own_weights(patcher: ModelPatcher, owner: ModelPatcher) -> bool:
    """Say whether `patcher` wants other weights than its owner loads."""
    return patcher.patches_uuid != owner.patches_uuid


@contextmanager
def lent(patcher: ModelPatcher, owner: ModelPatcher) -> Iterator[None]:
    """Let `patcher` use its owner's module: its objects, injections and hooks, and only those."""
    if patcher is owner:
        yield
        return
    _hand_over(owner, patcher)
    try:
        yield
    finally:
        _hand_over(patcher, owner)


def _hand_over(giver: ModelPatcher, taker: ModelPatcher) -> None:
    giver.patch_hooks(None)
    giver.unpatch_model(unpatch_weights=False)
    taker.patch_model(load_weights=False)
    taker.model.current_patcher = taker
