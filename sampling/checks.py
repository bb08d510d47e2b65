"""The pack's error, and the checks on numbers that need no host."""

from collections.abc import Mapping

import torch
from torch import Tensor


class DeltaError(ValueError):
    """Bad input or a failed run: says which role, what was found and what to do."""


def step_of(sigma: float, sigmas: Tensor) -> int:
    """Return the number, from 1, of the step of the descending schedule `sigmas` that `sigma` is in."""
    return max(1, int((sigmas >= sigma - 1e-6).sum()))


def require_finite(predictions: Mapping[str, Tensor], sigma: float, sigmas: Tensor) -> None:
    """Raise DeltaError that names the first of `predictions` (role -> tensor) with a NaN or Inf."""
    for role, prediction in predictions.items():
        bad = int((~torch.isfinite(prediction)).sum())
        if bad:
            raise DeltaError(
                f"The {role} model returned {bad} values of {prediction.numel()} that are NaN or infinite, "
                f"at step {step_of(sigma, sigmas)} of {len(sigmas) - 1} (sigma {sigma:.4g}). "
                f"Finite numbers were expected. Run the {role} model alone in a KSampler: if that is black "
                "too, load it in a higher precision (--force-fp32, or a bf16 weight_dtype) or replace the "
                "file. If it is fine alone, lower the delta's strength."
            )
