"""Deltas that change slowly, evaluated now and then and held or extrapolated in between."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Reuse:
    """When a delta is evaluated anew: every `every` steps, or after a change of more than `threshold`.

    The change is that of the target's prediction, relative and added up from call to call, as
    TeaCache adds up that of a model's input (arXiv 2411.19108); 0 is no threshold. In between the
    delta is held, or goes on in a straight line through the last two noise levels. The line is one
    over the ratio of noise to signal: over the sigma of a flow, or its logarithm, it overshoots.
    """

    every: int = 1
    threshold: float = 0.0
    extrapolate: bool = False

    @property
    def changes_nothing(self) -> bool:
        return self == Reuse(extrapolate=self.extrapolate)


@dataclass(eq=False)
class Held:
    """The values of one delta in one run. What is kept is keyed by noise level, not by call."""

    reuse: Reuse
    step: int = 0
    change: float = 0.0
    last_seen: Tensor | None = None
    known: list[tuple[float, tuple[Tensor, ...]]] = field(default_factory=list)

    def at(
        self, ratio: float, step: int, seen: Tensor, evaluate: Callable[[], tuple[Tensor, ...]]
    ) -> tuple[Tensor, ...]:
        """Return the parts at the noise-to-signal `ratio` in a `step` of the run; `seen` is the target's prediction."""
        if self.reuse.threshold > 0:
            if self.last_seen is not None:
                self.change += ((seen - self.last_seen).abs().mean() / self.last_seen.abs().mean()).item()
            self.last_seen = seen
        if self._is_due(step):
            parts = evaluate()
            self.step, self.change = step, 0.0
            self.known = [*[pair for pair in self.known if pair[0] != ratio][-1:], (ratio, parts)]
            return parts
        follows = self.reuse.extrapolate and len(self.known) > 1
        return self._extrapolated(ratio) if follows else self.known[-1][1]

    def _is_due(self, step: int) -> bool:
        by_step = self.reuse.every > 1 and abs(step - self.step) >= self.reuse.every
        by_change = self.reuse.threshold > 0 and self.change >= self.reuse.threshold
        return not self.known or by_step or by_change

    def _extrapolated(self, ratio: float) -> tuple[Tensor, ...]:
        (before, first), (after, second) = self.known
        share = (ratio - after) / (after - before)
        return tuple(torch.lerp(a, b, 1 + share) for a, b in zip(first, second, strict=True))
