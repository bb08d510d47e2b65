"""Deltas that change slowly, evaluated now and then and held or extrapolated in between."""

import math
from collections.abc import Callable, Sequence
from dataclasses import InitVar, dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Reuse:
    """When a delta is evaluated anew: every `every` steps, after a change of more than `threshold`, or at `places`.

    The change is that of the target's prediction, relative and added up from call to call, as
    TeaCache adds up that of a model's input (arXiv 2411.19108); 0 is no threshold. In between the
    delta is held, or goes on in a straight line through the last two noise levels. The line is one
    over the ratio of noise to signal: over the sigma of a flow, or its logarithm, it overshoots.

    `places` are ratios of noise to signal. The steps of a run whose noise is nearest to them evaluate, each
    once, however many calls it has. In between the delta fades (`share_of_noise`).
    """

    every: int = 1
    threshold: float = 0.0
    extrapolate: bool = False
    places: tuple[float, ...] = ()

    @property
    def changes_nothing(self) -> bool:
        return self == Reuse(extrapolate=self.extrapolate)


def share_of_noise(ratio: float) -> float:
    """Return n / (1 + n) for the `ratio` n of noise to signal: how a delta fades as the noise goes.

    Without noise any two models predict the state itself, and their delta is zero. Of normally distributed
    latents whose means differ it is n^2 / (c^2 + n^2) of that difference, c their spread; pictures have
    structure of many sizes c, which together fade more slowly. For a flow this is its sigma.
    """
    return 1 / (1 + 1 / ratio) if ratio > 0 else 0.0


def nearest_step(place: float, ratios: Sequence[float]) -> int:
    """Return the number, from 1, of the step whose ratio of noise to signal, in `ratios`, is nearest to `place`."""
    heights = [math.log(min(max(ratio, 1e-6), 1e6)) for ratio in (place, *ratios)]
    return min(range(1, len(heights)), key=lambda step: abs(heights[step] - heights[0]))


@dataclass(eq=False)
class Held:
    """The values of one delta in one run, whose steps have the noise-to-signal `ratios`.

    What is kept is keyed by noise level, not by call.
    """

    reuse: Reuse
    ratios: InitVar[Sequence[float]] = ()
    step: int = 0
    change: float = 0.0
    last_seen: Tensor | None = None
    known: list[tuple[float, tuple[Tensor, ...]]] = field(default_factory=list)
    steps: set[int] = field(init=False)

    def __post_init__(self, ratios: Sequence[float]):
        self.steps = {nearest_step(place, ratios) for place in self.reuse.places}

    def at(
        self,
        ratio: float,
        step: int,
        seen: Tensor,
        evaluate: Callable[[], tuple[Tensor, ...]],
        apart: Tensor | float = 0.0,
    ) -> tuple[Tensor, ...]:
        """Return the parts at the noise-to-signal `ratio` in a `step` of the run; `seen` is the target's prediction.

        `apart` is how far source and adapted see states of their own: between places a delta fades where they see one.
        """
        if self.reuse.threshold > 0:
            if self.last_seen is not None:
                self.change += ((seen - self.last_seen).abs().mean() / self.last_seen.abs().mean()).item()
            self.last_seen = seen
        if self._is_due(step):
            parts = evaluate()
            self.step, self.change = step, 0.0
            self.known = [*[pair for pair in self.known if pair[0] != ratio][-1:], (ratio, parts)]
            return parts
        if self.reuse.extrapolate and len(self.known) > 1:
            return self._extrapolated(ratio)
        before, parts = self.known[-1]
        if self.reuse.places:
            fade = share_of_noise(ratio) / share_of_noise(before)
            return tuple(part * (fade + (1 - fade) * apart) for part in parts)
        return parts

    def _is_due(self, step: int) -> bool:
        by_step = self.reuse.every > 1 and abs(step - self.step) >= self.reuse.every
        by_change = self.reuse.threshold > 0 and self.change >= self.reuse.threshold
        by_place = any(self.step < place <= step for place in self.steps)
        return not self.known or by_step or by_change or by_place

    def _extrapolated(self, ratio: float) -> tuple[Tensor, ...]:
        (before, first), (after, second) = self.known
        share = (ratio - after) / (after - before)
        return tuple(torch.lerp(a, b, 1 + share) for a, b in zip(first, second, strict=True))
