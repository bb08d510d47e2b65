"""The schedules of hooks on a branch's conditioning."""

import copy

import comfy.hooks


def with_own_schedules(*conditionings: list) -> list[list]:
    """Return `conditionings` with copies of their scheduled hooks, whose schedules are copies too.

    A scheduled hook remembers the step it is at. Were it shared with another branch, that branch would
    move it on unseen. Hooks without a schedule remember nothing and stay as they are.
    """
    groups: dict[comfy.hooks.HookGroup, comfy.hooks.HookGroup] = {}
    schedules: dict[comfy.hooks.HookKeyframeGroup, comfy.hooks.HookKeyframeGroup] = {}

    def own(hook: comfy.hooks.Hook) -> comfy.hooks.Hook:
        schedule = hook.hook_keyframe
        if schedule.is_empty():
            return hook
        # In all but its schedule the copy is the hook itself: not every hook of other packs survives its own clone().
        changed = copy.copy(hook)
        changed.hook_keyframe = schedules.setdefault(schedule, schedule.clone())
        return changed

    def own_group(group: comfy.hooks.HookGroup) -> comfy.hooks.HookGroup:
        if group not in groups:
            changed = [own(hook) for hook in group.hooks]
            groups[group] = group
            if any(new is not old for new, old in zip(changed, group.hooks, strict=True)):
                groups[group] = comfy.hooks.HookGroup()
                for hook in changed:
                    groups[group].add(hook)
        return groups[group]

    def with_own(options: dict) -> dict:
        group = options.get("hooks")
        return options if group is None else {**options, "hooks": own_group(group)}

    return [[[embedding, with_own(options)] for embedding, options in given] for given in conditionings]
