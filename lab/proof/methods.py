"""The crossings by role, and the methods that are compared on them."""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

from lab import shapes
from lab.denoisers import SmallNet
from lab.family import STEPS
from lab.roles import CROSSINGS, Roles

from .records import PLAIN
from .runs import Made, Runs, chained, late_sigmas, option, over_a_bridge

SEEDS = (5, 6, 7)
SAMPLES = 24
FIRST = "eps -> v"
SMALL = "eps, small -> v, large"
SIBLING = "eps -> eps, one architecture"
APART = "64 pixels, eps -> 128 pixels, v, another autoencoder"
SAME_DETAIL = f"{PLAIN}, same detail"


ROLES = CROSSINGS | {
    SMALL: Roles("small_source", "small_adapted", "target", "oracle"),
    # No sibling was fine-tuned on the style; the adapted model is of the same architecture.
    SIBLING: Roles("source", "adapted", "sibling", "adapted", (shapes.SEEN,)),
    APART: Roles("source", "adapted", "large_target", "large_oracle"),
}


def crossing_options(runs: Runs, crossing: str) -> list[Callable]:
    """Return the options that a delta needs to make a crossing at all."""
    roles = ROLES[crossing]
    if crossing == SMALL:
        return [option("DeltaResolution", scale=0.5)]
    if runs.net(roles.source).channels == runs.net(roles.target).channels:
        return []
    return [over_a_bridge(runs, roles.source, roles.target)]


def delta_methods(runs: Runs, crossing: str) -> dict[str, Callable]:
    """Return method -> the change of a plain pair's DELTA."""
    needed = crossing_options(runs, crossing)
    methods = {PLAIN: chained(*needed)}
    if crossing in (SMALL, "eps -> scaled eps"):
        scale = 0.5 if crossing == SMALL else 1.0
        methods[SAME_DETAIL] = option("DeltaResolution", scale=scale, noise_match="same detail")
    return methods


def refined(runs: Runs, roles: Roles, labels, seed: int, steps: int, denoise: float, wanted: Tensor | None = None):
    """Return the adapted model's pictures redone by the target: img2img with `steps` steps in each model.

    `wanted` are maps for an adapted model with a control.
    """
    size = 8 if isinstance(runs.net(roles.adapted), SmallNet) else 16
    first = runs.sample(roles.adapted, labels, seed, steps=steps, size=size, wanted=wanted)
    return redone(runs, roles, first, labels, seed + 100, late_sigmas(runs.net(roles.target), steps, denoise))


def renoised(runs: Runs, roles: Roles, labels, seed: int, first_step: int):
    """Return the adapted model's pictures with the run's own noise put back, denoised by the target's last steps."""
    first = runs.sample(roles.adapted, labels, seed)
    return redone(runs, roles, first, labels, seed, late_sigmas(runs.net(roles.target), STEPS, 1.0)[first_step:])


def redone(runs: Runs, roles: Roles, first: Made, labels, seed: int, sigmas: Tensor) -> Made:
    """Return what the target makes of the adapted model's run `first` from the first of `sigmas`; calls add up."""
    second = runs.sample(roles.target, labels, seed, start=enlarged(runs, roles, first).latents, sigmas=sigmas)
    second.calls += first.calls
    return second


def enlarged(runs: Runs, roles: Roles, made: Made) -> Made:
    """Return the adapted model's pictures at the target's size, in its latents."""
    size = 64 * runs.net(roles.target).fineness
    pictures = functional.interpolate(runs.pictures(roles.adapted, made), size=size, mode="bicubic", antialias=True)
    return Made(runs.latents(roles.target, pictures.clamp(-1, 1)), made.calls)


def strong(delta, strength: float):
    """Return the DELTA at another strength."""
    return option("DeltaSchedule", strength_start=strength)(delta)
