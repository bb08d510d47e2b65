"""Hooks on a branch's conditioning: its own copies of the user's, and the one that gives it its weights."""

import comfy.hooks
from comfy.model_patcher import ModelPatcher


def own_weights(patcher: ModelPatcher, owner: ModelPatcher) -> comfy.hooks.HookGroup:
    """Return a hook that gives a loaded module the weights of `patcher` in place of its owner's.

    The hook computes each weight from the unpatched one and drops the owner's, so that the result
    is the same, rounding included, as if `patcher` had been loaded on its own.
    """
    keys = patcher.patches.keys() | owner.patches.keys()
    recipes = patcher.get_key_patches()
    hook = _ReplaceWeights()
    hook.weights = {key: recipes[key] for key in keys}
    hook.need_weight_init = False
    group = comfy.hooks.HookGroup()
    group.add(hook)
    return group


class _ReplaceWeights(comfy.hooks.WeightHook):
    """A weight hook that replaces weights where the host's adds to them."""

    def add_hook_patches(self, model, model_options, target_dict, registered):
        model.add_hook_patches(hook=self, patches=self.weights, strength_patch=1.0, strength_model=0.0)
        registered.add(self)
        return True


def with_own_hooks(*conditionings: list, first: comfy.hooks.HookGroup | None = None) -> list[list]:
    """Return `conditionings` with copies of their hooks, and `first` before them where it is given.

    A scheduled hook remembers the step it is at. Were it shared with another branch, that branch
    would move it on unseen. Weights that replace come before weights that add to them.
    """
    groups, schedules = {None: first}, {}

    def own(group):
        if group not in groups:
            copies = comfy.hooks.HookGroup()
            for hook in group.hooks:
                copy = hook.clone()
                copy.hook_keyframe = schedules.setdefault(hook.hook_keyframe, hook.hook_keyframe.clone())
                copies.add(copy)
            groups[group] = comfy.hooks.HookGroup.combine_all_hooks([first, copies])
        return groups[group]

    def with_own(options):
        group = own(options.get("hooks"))
        return options if group is None else {**options, "hooks": group}

    return [[[embedding, with_own(options)] for embedding, options in given] for given in conditionings]
