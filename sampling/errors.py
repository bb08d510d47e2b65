"""The pack's error, and the checks on numbers that need no host."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor


class DeltaError(ValueError):
    """Bad input or a failed run: says which role, what was found and what to do."""


def require_number(name: str, value: float) -> None:
    """Raise DeltaError if the setting `name` is NaN or infinite."""
    if not math.isfinite(value):
        raise DeltaError(f"The {name} is {value}. A finite number was expected.")


def require_mask(mask: Tensor) -> None:
    """Raise DeltaError if a mask [B, H, W] is empty, or has a NaN or Inf."""
    if mask.numel() == 0:
        raise DeltaError(
            f"The mask has the shape {list(mask.shape)}: nothing in it. At least one picture was expected. Look at the "
            "node that it comes from, which found nothing or cut away all."
        )
    if bad := not_finite(mask):
        raise DeltaError(f"The mask has {bad} that are NaN or infinite. Numbers from 0 to 1 were expected.")


def step_of(sigma: float, sigmas: Tensor) -> int:
    """Return the number, from 1, of the step of the schedule `sigmas` that `sigma` is in; it may rise (unsampling)."""
    rises = sigmas[-1] > sigmas[0]
    return max(1, int((sigmas <= sigma + 1e-6 if rises else sigmas >= sigma - 1e-6).sum()))


def require_finite(predictions: Mapping[str, Tensor], result: Tensor, sigma: float, sigmas: Tensor) -> None:
    """Raise DeltaError if `result` or one of `predictions` (role -> tensor), which it was made of, has a NaN or Inf.

    The first role with such a value is named.
    """
    where = f"at step {step_of(sigma, sigmas)} of {len(sigmas) - 1} (sigma {sigma:.4g})"
    for role, prediction in predictions.items():
        if bad := not_finite(prediction):
            raise DeltaError(
                f"The {role} model returned {bad} that are NaN or infinite, {where}. "
                f"Finite numbers were expected. Run the {role} model alone in a KSampler: if that is black "
                "too, load it in a higher precision (--force-fp32, or a bf16 weight_dtype) or replace the "
                "file. If it is fine alone, lower the delta's strength."
            )
    if bad := not_finite(result):
        raise DeltaError(
            f"All models returned finite numbers, but with the delta added {bad} are NaN or infinite, {where}. "
            "Lower the delta's strength. If the delta has a bridge, try another one: a fit to more pictures, or VAEs "
            "in a higher precision (--fp32-vae)."
        )


def not_finite(values: Tensor) -> str:
    """Return how many of `values` are NaN or infinite, in words; nothing if none is."""
    bad = int((~torch.isfinite(values)).sum())
    return f"{bad} values of {values.numel()}" if bad else ""
