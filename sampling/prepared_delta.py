"""A delta prepared for one run of the target, and its state from call to call.

Both are immutable: a state goes into a call and a new one comes out of it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor

from .delta import Delta
from .limits import limited
from .resize import mask_for
from .reuse import ReuseController, ReuseState
from .schedule import Progress
from .state_mapping import StateMapping


@dataclass(frozen=True, eq=False)
class DeltaState:
    """What a delta has kept of earlier calls of its run, at latents of one size.

    The rest is for lossy bridges. Source and target would each misread a state that holds the delta already. So both
    see it without `applied` (what the last call added, in the target's latents), and adapted sees it with all of
    `in_source` (what the last evaluation found, in the source's latents). `mask` is that of the last call.
    """

    reuse: ReuseState = field(default_factory=ReuseState)
    in_source: Tensor | None = None
    applied: Tensor | None = None
    mask: Tensor | None = None

    def left_of(self, change: Tensor, mask: Tensor | None) -> Tensor:
        """Return what masks leave of a `change` [B, C, ...]: samplers mask after one call and before the next."""
        for each in (self.mask, mask):
            change = change if each is None else change * mask_for(each, change)
        return change


@dataclass(frozen=True, eq=False)
class PreparedDelta:
    """A delta of a run of the target with the schedule `sigmas`.

    `source` and `adapted` are models of requests, `adapted` is None where the target takes its place. `sigma_of` gives
    the sigma of a percentage of the run, as the target's model counts it. `masks` are [B, 1, ..., H, W] or [1, ...].
    Deltas of one `layer` were put on the target together, those of lower layers before.
    """

    settings: Delta
    mapping: StateMapping
    source: Any
    adapted: Any
    sigmas: Tensor
    sigma_of: Callable[[float], float]
    masks: tuple[Tensor, ...] = ()
    layer: int = 0

    @cached_property
    def pair(self) -> tuple:
        """What two deltas share that differ in strength, limits, masks and reuse alone."""
        return self.source, self.adapted, self.mapping

    @cached_property
    def is_lossy(self) -> bool:
        """Whether its branches see states of their own (`DeltaState`)."""
        return self.mapping.lossy and self.adapted is not None

    @cached_property
    def needs_sigma(self) -> bool:
        """Whether what it does depends on the noise level of a call."""
        return bool(self.settings.schedules) or not self.settings.reuse.changes_nothing

    @cached_property
    def reuse(self) -> ReuseController:
        return ReuseController(self.settings.reuse, self.sigmas, self.mapping.levels)

    def strength(self, sigma: float | None) -> float:
        """Return the strength at `sigma`, which may be None where nothing depends on it."""
        strength = self.settings.strength
        if self.settings.schedules and sigma is not None:
            percent = self._progress.percent(sigma)
            for schedule in self.settings.schedules:
                strength *= schedule.factor(percent)
        return strength

    def shaped(self, raw: Tensor, prediction: Tensor) -> Tensor:
        """Return a `raw` delta within its limits and masks, beside the target's `prediction`."""
        for limits in self.settings.limits:
            raw = limited(raw, prediction, limits)
        for mask in self.masks:
            raw = raw * mask_for(mask, raw)
        return raw

    @cached_property
    def _progress(self) -> Progress:
        return Progress(self.sigma_of)
