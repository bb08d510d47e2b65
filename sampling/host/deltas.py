"""The deltas of one run, and the branches they are made of: those that several share are there once."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import comfy.sampler_helpers
from comfy.model_patcher import ModelPatcher
from comfy.samplers import CFGGuider
from torch import Tensor

from ..checks import DeltaError
from ..crossing import Crossing
from ..delta import Branch, Delta, DeltaInRun, role_names
from .branches import OpenBranch
from .crossings import open_crossing, placed, view_of
from .lending import assign_owners
from .memories import controls, remembering, separate_memories, with_own_controls
from .run_input import RunInput


@dataclass(frozen=True, eq=False)
class OpenDelta:
    """A delta of one run with its branches; without `adapted` the target's own prediction takes its place."""

    applied: DeltaInRun
    crossing: Crossing
    source: OpenBranch
    adapted: OpenBranch | None

    @property
    def has_trust(self) -> bool:
        return self.applied.delta.trust is not None

    @property
    def branches(self) -> list[OpenBranch]:
        return [branch for branch in (self.source, self.adapted) if branch is not None]


def open_deltas(guider: CFGGuider, deltas: Sequence[Delta], run: RunInput) -> list[OpenDelta]:
    """Return `deltas` ready for a run of the target's `guider`, started with `run`; their branches are still closed."""
    target = guider.model_patcher
    crossings: dict[tuple, Crossing] = {}
    branches: dict[tuple, tuple[str, Branch]] = {}
    parts = []
    for delta, roles in zip(deltas, role_names(deltas), strict=True):
        view = view_of(target, delta)
        if view not in crossings:
            crossings[view] = open_crossing(target, delta, run)
        keys = []
        for role, branch in zip(roles, (delta.source, delta.adapted), strict=True):
            keys.append(None if branch is None else (view, branch.model, *map(id, branch.prompts), branch.cfg))
            if branch is not None:
                seen = branch if crossings[view].maps is None else placed(branch, target, run)
                branches.setdefault(keys[-1], (role, seen))
        parts.append((delta, crossings[view], *keys))
    patchers = assign_owners(target, list(branches.values()))
    taken = set(map(id, [*remembering(target), *controls(guider.original_conds)]))
    opened = {None: None}
    for (key, (role, branch)), (patcher, owner) in zip(branches.items(), patchers, strict=True):
        separate_memories(patcher, taken)
        positive, negative = with_own_controls(branch.prompts, taken)
        opened[key] = OpenBranch(role, replace(branch, positive=positive, negative=negative), patcher, owner)
    sigma_of = target.get_model_object("model_sampling").percent_to_sigma

    def in_run(delta: Delta, crossing: Crossing) -> DeltaInRun:
        return DeltaInRun(delta, run.sigmas, crossing.levels, sigma_of, _masks(target, delta, run))

    return [OpenDelta(in_run(delta, crossing), crossing, *map(opened.get, keys)) for delta, crossing, *keys in parts]


def _masks(target: ModelPatcher, delta: Delta, run: RunInput) -> list[Tensor]:
    """Return the delta's masks in the size of the run's latent, [B, 1, ...], as the host resizes noise masks."""
    if run.noise.is_nested and (delta.masks or delta.trust is not None):
        name = "Delta Mask" if delta.masks else "Delta Trust"
        raise DeltaError(
            f"The target's latent packs several kinds of data (pictures and sound, say), and a {name} is for "
            f"pictures. Leave the {name} out for this model."
        )
    shape, device = run.noise.shape, target.load_device
    return [comfy.sampler_helpers.prepare_mask(mask, shape, device)[:, :1] for mask in delta.masks]
