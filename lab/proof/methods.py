"""The crossings by role, and the methods that are compared on them."""

from collections.abc import Callable
from dataclasses import dataclass

from torch.nn import functional

from lab import shapes
from lab.crossings import CROSSINGS
from lab.denoisers import SmallNet
from lab.family import STEPS

from .runs import Runs, chained, late_sigmas, option, over_a_bridge

SEEDS = (5, 6, 7)
SAMPLES = 24
FIRST = "eps -> v"
SMALL = "eps, small -> v, large"
SIBLING = "eps -> eps, one architecture"
PLAIN, TRUST, SAME_DETAIL = "delta", "delta, trust", "delta, same detail"


@dataclass(frozen=True)
class Roles:
    """The networks of a crossing by name, and the classes it is measured on."""

    source: str
    adapted: str
    target: str
    oracle: str
    groups: tuple = (shapes.SEEN, shapes.UNSEEN)


ROLES = {name: Roles(r.source, r.adapted, r.target, r.oracle, r.groups) for name, r in CROSSINGS.items()} | {
    SMALL: Roles("small_source", "small_adapted", "target", "oracle"),
    # No sibling was fine-tuned on the style; the adapted model is of the same architecture.
    SIBLING: Roles("source", "adapted", "sibling", "adapted", (shapes.SEEN,)),
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
    methods = {PLAIN: chained(*needed), TRUST: chained(*needed, option("DeltaTrust"))}
    if crossing in (SMALL, "eps -> scaled eps"):
        scale = 0.5 if crossing == SMALL else 1.0
        methods[SAME_DETAIL] = option("DeltaResolution", scale=scale, noise_match="same detail")
        methods["delta, same detail, trust"] = chained(methods[SAME_DETAIL], option("DeltaTrust"))
    return methods


def refined(runs: Runs, roles: Roles, labels, seed: int, steps: int, denoise: float):
    """Return the adapted model's pictures redone by the target: img2img with `steps` steps in each model."""
    size = 8 if isinstance(runs.net(roles.adapted), SmallNet) else 16
    first = runs.sample(roles.adapted, labels, seed, steps=steps, size=size)
    pictures = functional.interpolate(runs.pictures(roles.adapted, first), size=64, mode="bilinear")
    start = runs.latents(roles.target, pictures)
    sigmas = late_sigmas(runs.net(roles.target), steps, denoise)
    second = runs.sample(roles.target, labels, seed + 100, start=start, sigmas=sigmas)
    second.calls += first.calls
    return second


def renoised(runs: Runs, roles: Roles, labels, seed: int, first_step: int):
    """Return the adapted model's pictures with the run's own noise put back, denoised by the target's last steps."""
    first = runs.sample(roles.adapted, labels, seed)
    start = runs.latents(roles.target, runs.pictures(roles.adapted, first))
    sigmas = late_sigmas(runs.net(roles.target), STEPS, 1.0)[first_step:]
    second = runs.sample(roles.target, labels, seed, start=start, sigmas=sigmas)
    second.calls += first.calls
    return second


def strong(delta: tuple, strength: float) -> tuple:
    """Return the DELTA at another strength."""
    return option("DeltaSchedule", strength_start=strength)(delta)
