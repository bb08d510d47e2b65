"""The pack's error, and the checks on numbers that need no host."""

from collections.abc import Mapping

import torch
from torch import Tensor


class DeltaError(ValueError):
    """Bad input or a failed run: says which role, what was found and what to do."""


def step_of(sigma: float, sigmas: Tensor) -> int:
    """Return the number, from 1, of the step of the descending schedule `sigmas` that `sigma` is in."""
    return max(1, int((sigmas >= sigma - 1e-6).sum()))


def require_finite(predictions: Mapping[str, Tensor], result: Tensor, sigma: float, sigmas: Tensor) -> None:
    """Raise DeltaError if `result` or one of `predictions` (role -> tensor), which it was made of, has a NaN or Inf.

    The first role with such a value is named.
    """
    where = f"at step {step_of(sigma, sigmas)} of {len(sigmas) - 1} (sigma {sigma:.4g})"
    for role, prediction in predictions.items():
        if bad := _not_finite(prediction):
            raise DeltaError(
                f"The {role} model returned {bad} that are NaN or infinite, {where}. "
                f"Finite numbers were expected. Run the {role} model alone in a KSampler: if that is black "
                "too, load it in a higher precision (--force-fp32, or a bf16 weight_dtype) or replace the "
                "file. If it is fine alone, lower the delta's strength."
            )
    if bad := _not_finite(result):
        raise DeltaError(
            f"All models returned finite numbers, but with the delta added {bad} are NaN or infinite, {where}. "
            "Lower the delta's strength. If the delta has a bridge, try another one: a fit to more pictures, or VAEs "
            "in a higher precision (--fp32-vae)."
        )


def _not_finite(values: Tensor) -> str:
    bad = int((~torch.isfinite(values)).sum())
    return f"{bad} values of {values.numel()}" if bad else ""
