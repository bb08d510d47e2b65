"""The deltas of one run, and the predictors that they are made of: those that several share are there once."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import comfy.sampler_helpers
import torch
from comfy.model_patcher import ModelPatcher
from comfy.samplers import CFGGuider
from torch import Tensor

from ..delta import Branch, Delta
from ..errors import DeltaError
from ..prepared_delta import PreparedDelta
from ..state_mapping import StateMapping
from .carried import Layer, all_branches, take_off
from .conditioning import placed
from .lending import Modules
from .memories import controls, remembering, separate_memories, with_own_controls
from .predictors import Predictor
from .run_input import RunInput
from .views import open_mapping, view_of


class Shared:
    """What a run shares with the runs inside of it: the modules, and the ids of all that remembers its calls."""

    def __init__(self, guider: CFGGuider, layers: Sequence[Layer]):
        target = guider.model_patcher
        self.modules = Modules(target, list(all_branches(layers)))
        self.taken = set(map(id, [*remembering(target), *controls(guider.original_conds)]))


def open_deltas(
    target: ModelPatcher, layers: Sequence[Layer], names: Sequence[tuple[str, str]], run: RunInput, shared: Shared
) -> list[PreparedDelta]:
    """Return the deltas of `layers` ready for a run of `target`, started with `run`; no predictor is open yet.

    `names` are what users call source and adapted of each.
    """
    mappings: dict[Any, StateMapping] = {}
    branches: dict[Any, tuple[str, Branch]] = {}
    prompts: list[Any] = []
    wired: list[tuple[int, Delta, StateMapping, Any, Any]] = []
    layered = [(number, delta) for number, layer in enumerate(layers) for delta in layer.acting]
    for (layer, delta), roles in zip(layered, names, strict=True):
        view = view_of(target, delta)
        if view not in mappings:
            mappings[view] = open_mapping(target, delta, run)
        pair = []
        for role, branch in zip(roles, (delta.source, delta.adapted), strict=True):
            key = None if branch is None else (view, *_settings(branch, prompts))
            if branch is not None and key not in branches:
                branch = _guided_as_seen(branch, mappings[view])
                branches[key] = role, placed(branch, target, run, mappings[view])
            pair.append(key)
        wired.append((layer, delta, mappings[view], pair[0], pair[1]))

    predictors: dict[Any, Predictor | None] = {None: None}
    for key, (role, branch) in branches.items():
        patcher, owner = shared.modules.place(role, branch.model)
        take_off(patcher)
        separate_memories(patcher, shared.taken)
        positive, negative = with_own_controls(branch.prompts, shared.taken)
        predictors[key] = Predictor(role, replace(branch, positive=positive, negative=negative), patcher, owner)

    model_sampling: Any = target.get_model_object("model_sampling")
    return [
        PreparedDelta(
            delta,
            mapping,
            predictors[source],
            predictors[adapted],
            run.sigmas.cpu(),
            model_sampling.percent_to_sigma,
            _masks(target, delta, run),
            layer,
        )
        for layer, delta, mapping, source, adapted in wired
    ]


def _guided_as_seen(branch: Branch, mapping: StateMapping) -> Branch:
    """Return `branch` guided at the levels that it sees, or always where each of its evaluations builds on the last."""
    if branch.guided is None:
        return branch
    low, high = (mapping.detail * ratio for ratio in branch.guided)
    return replace(branch, guided=None if mapping.lossy else (low, high))


def _settings(branch: Branch, prompts: list[Any]) -> tuple:
    """Return what makes two branches one; `prompts` are those known so far."""
    return branch.model, _known(branch.prompts, prompts), branch.cfg, branch.guided


def _known(given: Any, known: list[Any]) -> int:
    """Return the number of `given` in `known`, to which it is added where nothing equal is there."""
    for number, each in enumerate(known):
        if _alike(given, each):
            return number
    known.append(given)
    return len(known) - 1


def _alike(a: Any, b: Any) -> bool:
    """Say whether two prompts are the same: in texts, numbers and tensors equal, in all else (controls, hooks) one."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(_alike, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_alike(a[key], b[key]) for key in a)
    if isinstance(a, torch.Tensor):
        return a.shape == b.shape and a.dtype == b.dtype and a.device == b.device and torch.equal(a, b)
    return isinstance(a, (str, int, float)) and a == b


def _masks(target: ModelPatcher, delta: Delta, run: RunInput) -> tuple[Tensor, ...]:
    """Return the delta's masks in the size of the run's latent, [B, 1, ...], as the host resizes noise masks."""
    if run.noise.is_nested and delta.masks:
        raise DeltaError(
            "The target's latent packs several kinds of data (pictures and sound, say), and a Delta Mask is for "
            "pictures. Leave the Delta Mask out for this model."
        )
    shape, device = run.noise.shape, target.load_device
    return tuple(comfy.sampler_helpers.prepare_mask(mask, shape, device)[:, :1] for mask in delta.masks)
