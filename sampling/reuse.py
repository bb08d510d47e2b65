"""Deltas that change slowly: evaluated at some calls of a run, held or extrapolated at the others."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from .errors import step_of
from .noise_levels import NoiseLevels, noise_to_signal
from .prediction import Prediction

ROUNDING = 1e-4  # relative, of a noise level that a sampler works out again
GROWTH = 2  # by how much a delta may grow without an evaluation: where noise rises, little tells how much comes


@dataclass(frozen=True)
class Reuse:
    """When a delta is evaluated: every `every` steps, after a change of more than `threshold`, or at `places`.

    The change is that of the target's prediction, relative and added up from call to call, as
    TeaCache adds up that of a model's input (arXiv 2411.19108); 0 is no threshold. In between the
    delta is held, or goes on in a straight line through the last two noise levels. The line is one
    over the noise-to-signal ratio: over the sigma of a flow, or its logarithm, it overshoots.

    `places` are noise-to-signal ratios. A delta is evaluated when the noise crosses the level of the run that is
    nearest to one, and fades in between (`share_of_noise`). Where noise rises it grows by `GROWTH` at most.
    """

    every: int = 1
    threshold: float = 0.0
    extrapolate: bool = False
    places: tuple[float, ...] = ()

    @property
    def changes_nothing(self) -> bool:
        return self == Reuse(extrapolate=self.extrapolate)


@dataclass(frozen=True, eq=False)
class ReuseState:
    """What is kept of one delta in a run.

    `values` are its last two evaluations, each with its noise-to-signal ratio. `ratio` and `step` are those of the last
    call, `target` is what the target predicted there, and `change` how much that has changed since `evaluated_step`.
    """

    values: tuple[tuple[float, Prediction], ...] = ()
    ratio: float = math.inf
    step: int = 0
    target: Tensor | None = None
    change: float = 0.0
    evaluated_step: int = 0


@dataclass(frozen=True, eq=False)
class ReuseController:
    """Decides when a delta is evaluated in a run with the schedule `sigmas`; state goes in and comes out."""

    settings: Reuse
    sigmas: Tensor
    levels: NoiseLevels

    @cached_property
    def places(self) -> list[float]:
        """The ratios of the run's steps that are nearest to the places of the settings."""
        ratios = noise_to_signal(self.sigmas[:-1], self.levels).tolist()
        return [nearest(place, ratios) for place in self.settings.places if ratios]

    def observe(self, state: ReuseState, sigma: float | None, target: Tensor) -> tuple[ReuseState, bool]:
        """Return the state of a new call and whether to evaluate the delta there.

        The call is at `sigma`, where the target predicts `target` [B, C, ...].
        """
        every, threshold = self.settings.every, self.settings.threshold
        if sigma is None or self.settings.changes_nothing:
            return state, True
        (ratio,) = noise_to_signal(torch.tensor([sigma]), self.levels).tolist()
        step, change = step_of(sigma, self.sigmas), state.change
        if threshold > 0 and state.target is not None:
            change += ((target - state.target).abs().mean() / state.target.abs().mean()).item()
        before, now = ([at <= place * (1 + ROUNDING) for place in self.places] for at in (state.ratio, ratio))
        by_step = every > 1 and abs(step - state.evaluated_step) >= every
        by_growth = self.places and state.values and fading(state.values[-1][0], ratio) > GROWTH
        due = not state.values or by_step or before != now or by_growth or 0 < threshold <= change
        seen = target if threshold > 0 else None
        return replace(state, ratio=ratio, step=step, target=seen, change=change), bool(due)

    def keep(self, state: ReuseState, raw: Prediction) -> ReuseState:
        """Return the state after an evaluation that found `raw`."""
        if self.settings.changes_nothing:
            return state
        # Second-order samplers evaluate one level twice, which leaves one point of the line.
        before = [value for value in state.values if value[0] != state.ratio][-1:]
        return replace(state, values=(*before, (state.ratio, raw)), change=0.0, evaluated_step=state.step)

    def value(self, state: ReuseState, fades: bool) -> Prediction:
        """Return the delta that stands for an evaluation; between places it `fades`, or is held."""
        ratio, raw = state.values[-1]
        if self.settings.extrapolate and len(state.values) > 1:
            ratio_before, raw_before = state.values[0]
            share = (state.ratio - ratio) / (ratio - ratio_before)
            return tuple(torch.lerp(a, b, 1 + share) for a, b in zip(raw_before, raw, strict=True))
        if self.settings.places and fades:
            return tuple(part * fading(ratio, state.ratio) for part in raw)
        return raw


def share_of_noise(ratio: float) -> float:
    """Return n / (1 + n) for the noise-to-signal `ratio` n: how a delta fades as the noise goes.

    Without noise any two models predict the state itself, and their delta is zero. Of normally distributed
    latents whose means differ it is n^2 / (c^2 + n^2) of that difference, c their spread; pictures have
    structure of many sizes c, which together fade more slowly. For a flow this is its sigma.
    """
    return 1 / (1 + 1 / ratio) if ratio > 0 else 0.0


def fading(before: float, ratio: float) -> float:
    """Return the factor by which a delta fades from one noise-to-signal ratio to another."""
    return share_of_noise(ratio) / max(share_of_noise(before), 1e-12)


def nearest(place: float, ratios: Sequence[float]) -> float:
    """Return the one of the noise-to-signal `ratios` that is nearest to `place`, by their logarithms."""

    def height(ratio: float) -> float:
        return math.log(min(max(ratio, 1e-6), 1e6))

    return min(ratios, key=lambda ratio: abs(height(ratio) - height(place)))
