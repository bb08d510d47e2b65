"""Strength over a run: a window of the run, and a curve between two factors inside it."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

CURVES: dict[str, Callable[[float], float]] = {
    "constant": lambda share: 0.0,
    "linear": lambda share: share,
    "cosine": lambda share: (1 - math.cos(math.pi * share)) / 2,
    # A logistic curve over 12 units, stretched to begin at 0 and end at 1.
    "sigmoid": lambda share: (math.tanh(6 * share - 3) / math.tanh(3) + 1) / 2,
}


@dataclass(frozen=True)
class Schedule:
    """Factors on a delta's strength from `start_percent` to `end_percent` of a run (0..1); none outside.

    The factor goes from `strength_start` to `strength_end` along one of CURVES; `constant` stays at
    `strength_start`.
    """

    start_percent: float = 0.0
    end_percent: float = 1.0
    curve: str = "constant"
    strength_start: float = 1.0
    strength_end: float = 1.0

    @property
    def changes_nothing(self) -> bool:
        return self == Schedule(curve=self.curve)

    def factor(self, percent: float) -> float:
        """Return the factor at `percent` of the run."""
        if not self.start_percent <= percent <= self.end_percent:
            return 0.0
        share = (percent - self.start_percent) / max(self.end_percent - self.start_percent, 1e-9)
        return self.strength_start + (self.strength_end - self.strength_start) * CURVES[self.curve](share)


class Progress:
    """How far a run has come, in percent as a model counts it: `sigma_of` gives the sigma of a percentage."""

    def __init__(self, sigma_of: Callable[[float], float], points: int = 250):
        self._percents = np.linspace(1, 0, points + 1)
        self._sigmas = np.array([sigma_of(float(percent)) for percent in self._percents])

    def percent(self, sigma: float) -> float:
        return float(np.interp(sigma, self._sigmas, self._percents))
