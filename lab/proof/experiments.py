"""The experiments: which networks, which adaptation, and every method that is compared on them.

Each is a function (runs) -> records, listed in EXPERIMENTS by name.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch.nn import functional

from lab import adapters, autoencoder, shapes
from lab.crossings import CROSSINGS
from lab.denoisers import SmallNet
from lab.family import CFG, STEPS

from .records import Methods, records
from .runs import SAMPLERS, Runs, chained, late_sigmas, merged, option, over_a_bridge

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


def fine_tune(crossing: str, runs: Runs) -> list[dict]:
    """A full fine-tune over one crossing, beside what people do today."""
    roles = ROLES[crossing]
    changes = delta_methods(runs, crossing)

    def made(labels, seed) -> Iterator:
        for name in ("target", "oracle"):
            yield name, runs.sample(getattr(roles, name), labels, seed)
        for name, change in changes.items():
            delta = change(runs.pair(roles.source, roles.adapted, labels))
            yield name, runs.sample(roles.target, labels, seed, delta)
        for denoise in (0.3, 0.5, 0.7) if crossing == FIRST else (0.3,):
            # A delta evaluates three models a step: half as many more steps in each of two.
            yield f"img2img {denoise}, equal calls", refined(runs, roles, labels, seed, STEPS * 3 // 2, denoise)
        if crossing == SMALL:
            for strength in (1.25, 1.5):
                delta = strong(changes[PLAIN](runs.pair(roles.source, roles.adapted, labels)), strength)
                yield f"delta, strength {strength}", runs.sample(roles.target, labels, seed, delta)
        if crossing == FIRST:
            for denoise in (0.3, 0.5, 0.7):
                yield f"img2img {denoise}, equal steps", refined(runs, roles, labels, seed, STEPS, denoise)
            yield "adapted alone", runs.sample(roles.adapted, labels, seed)
            for step in (8, 14):
                yield f"re-noised at step {step}", renoised(runs, roles, labels, seed, step)
        if crossing == SIBLING:
            model = merged(*(runs.model(name) for name in (roles.target, roles.source, roles.adapted)))
            yield "weights merged", runs.sample(roles.target, labels, seed, model=model)

    return records(runs, crossing, "full fine-tune", roles, Methods(made), SEEDS, SAMPLES)


def lora(runs: Runs) -> list[dict]:
    roles = Roles("source", "source_lora", "target", "oracle")

    def made(labels, seed) -> Iterator:
        for name in ("target", "oracle", "source_lora"):
            role = {"source_lora": "adapted alone"}.get(name, name)
            yield role, runs.sample(name, labels, seed)
        for name, change in delta_methods(runs, FIRST).items():
            yield name, runs.sample("target", labels, seed, change(runs.pair("source", "source_lora", labels)))
        yield "img2img 0.5, equal calls", refined(runs, roles, labels, seed, STEPS * 3 // 2, 0.5)

    return records(runs, FIRST, "LoRA", roles, Methods(made), SEEDS, SAMPLES)


def control(runs: Runs) -> list[dict]:
    """A spatial control: how well the wanted silhouette is filled, in the base look."""
    roles = Roles("source", "source_control", "target", "target_control")
    maps = {}

    def wanted(labels):
        key = tuple(labels)
        if key not in maps:
            drawn = autoencoder.to_model(shapes.draw(np.random.default_rng(3), np.sort(labels), "base"))
            order = np.argsort(np.argsort(labels, kind="stable"), kind="stable")
            maps[key] = adapters.silhouette(drawn)[torch.as_tensor(order)]
        return maps[key]

    def overlap(pictures, labels):
        return {"overlap": adapters.overlap(pictures, wanted(labels))}

    def made(labels, seed) -> Iterator:
        hint = functional.avg_pool2d(wanted(labels), autoencoder.FACTOR)
        yield "target", runs.sample("target", labels, seed)
        yield "oracle", runs.sample("target_control", labels, seed, wanted=hint)
        yield "adapted alone", runs.sample("source_control", labels, seed, wanted=hint)
        delta = runs.pair("source", "source_control", labels, wanted=hint)
        for name, change in delta_methods(runs, FIRST).items():
            yield name, runs.sample("target", labels, seed, change(delta))
        first = runs.sample("source_control", labels, seed, wanted=hint, steps=STEPS * 3 // 2)
        start = runs.latents("target", runs.pictures("source", first))
        sigmas = late_sigmas(runs.net("target"), STEPS * 3 // 2, 0.5)
        second = runs.sample("target", labels, seed + 100, start=start, sigmas=sigmas)
        second.calls += first.calls
        yield "img2img 0.5, equal calls", second

    methods = Methods(made, look="base", extra=overlap, goal="overlap", colours=False)
    return records(runs, FIRST, "spatial control", roles, methods, SEEDS, SAMPLES)


def prompt(runs: Runs) -> list[dict]:
    """Conditioning only: the pair's two prompts turn every class into the next one."""
    roles = Roles("source", "source", "target", "target", (shapes.SEEN,))

    def following(labels):
        return (np.asarray(labels) + 1) % len(shapes.SEEN)

    def made(labels, seed) -> Iterator:
        yield "target", runs.sample("target", labels, seed)
        yield "oracle", runs.sample("target", following(labels), seed)
        yield "adapted alone", runs.sample("source", following(labels), seed)
        delta = runs.pair("source", "source", labels, adapted_positive=following(labels))
        for name, change in delta_methods(runs, FIRST).items():
            yield name, runs.sample("target", labels, seed, change(delta))
        for strength in (1.5, 2.0):
            yield f"delta, strength {strength}", runs.sample("target", labels, seed, strong(delta, strength))

    methods = Methods(made, look="base", asked=following, goal="class", colours=False)
    return records(runs, FIRST, "conditioning only", roles, methods, SEEDS, SAMPLES)


def strong(delta: tuple, strength: float) -> tuple:
    """Return the DELTA at another strength."""
    return option("DeltaSchedule", strength_start=strength)(delta)


def eraser(runs: Runs) -> list[dict]:
    """A negative delta takes the style off a target that has it."""
    roles = Roles("source", "adapted", "oracle", "target")

    def made(labels, seed) -> Iterator:
        yield "target", runs.sample("oracle", labels, seed)
        yield "oracle", runs.sample("target", labels, seed)
        for name, change in delta_methods(runs, FIRST).items():
            delta = strong(change(runs.pair("source", "adapted", labels)), -1.0)
            yield name, runs.sample("oracle", labels, seed, delta)

    return records(runs, FIRST, "eraser (strength -1)", roles, Methods(made, look="base"), SEEDS, SAMPLES)


def slider(runs: Runs) -> list[dict]:
    """A signed slider: the delta of the style at strengths from -1 to 1.5."""
    roles = Roles("source", "adapted", "target", "oracle", (shapes.SEEN,))

    def made(labels, seed) -> Iterator:
        yield "target", runs.sample("target", labels, seed)
        yield "oracle", runs.sample("oracle", labels, seed)
        delta = runs.pair("source", "adapted", labels)
        for strength in (-1.0, -0.5, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5):
            yield f"delta, strength {strength}", runs.sample("target", labels, seed, strong(delta, strength))

    return records(runs, FIRST, "slider", roles, Methods(made), SEEDS[:1], SAMPLES)


def few_steps(runs: Runs, steps: int = 4) -> list[dict]:
    """A few-step distillation (LCM-LoRA) at four steps. The source's guidance is in it, so it runs without."""
    roles = Roles("source", "source_few_steps", "target", "target", (shapes.SEEN,))

    def made(labels, seed) -> Iterator:
        yield "target", runs.sample("target", labels, seed, steps=steps)
        yield "oracle", runs.sample("target", labels, seed)
        yield "source, four steps", runs.sample("source", labels, seed, steps=steps)
        for sampler in ("euler", "lcm"):
            delta = runs.pair("source", "source_few_steps", labels, cfg=1.0)
            made = runs.sample("target", labels, seed, delta, steps=steps, sampler=sampler)
            yield f"delta, {sampler}", made
            alone = runs.sample("source_few_steps", labels, seed, steps=steps, sampler=sampler)
            yield f"adapted alone, {sampler}", alone

    methods = Methods(made, look="base", colours=False)
    return records(runs, FIRST, "few-step distillation", roles, methods, SEEDS[:1], SAMPLES)


def sweep(runs: Runs) -> list[dict]:
    """Every option of a delta over its range, one at a time."""
    roles = Roles("source", "adapted", "target", "oracle")
    same = partial(option, "DeltaSchedule")
    changes = {f"strength {s}": same(strength_start=s) for s in (0.5, 0.75, 1.0, 1.25, 1.5, 2.0)}
    windows = (0, 0.4), (0, 0.6), (0, 0.8), (0.1, 1), (0.2, 1)
    changes |= {f"window {a} to {b}": same(start_percent=a, end_percent=b) for a, b in windows}
    changes |= {f"curve {c}, 1 to 0": same(curve=c, strength_end=0.0) for c in ("linear", "cosine", "sigmoid")}
    changes |= {f"parallel {p}": option("DeltaLimits", parallel=p) for p in (0.0, 0.5)}
    changes |= {f"norm limit {n}": option("DeltaLimits", norm_limit=n) for n in (0.5, 1.0, 1.5)}
    changes |= {f"{b} band": option("DeltaLimits", band=b) for b in ("low", "high")}
    changes |= {f"trust {t}": option("DeltaTrust", limit=t) for t in (0.05, 0.1, 0.15, 0.2, 0.3, 1.0)}
    changes |= {f"reuse every {k}": option("DeltaReuse", every=k) for k in (2, 4, 6)}
    changes |= {f"reuse every {k}, extrapolated": option("DeltaReuse", every=k, extrapolate=True) for k in (2, 4, 6)}
    changes |= {"fast": option("DeltaFast"), "fast, guidance kept": option("DeltaFast", pair_guidance="kept")}

    def made(labels, seed) -> Iterator:
        yield "target", runs.sample("target", labels, seed)
        yield "oracle", runs.sample("oracle", labels, seed)
        for name, change in changes.items():
            delta = change(runs.pair("source", "adapted", labels))
            yield name, runs.sample("target", labels, seed, delta)
        for cfg in (1.0, 1.5, 3.0):
            yield f"pair at cfg {cfg}", runs.sample("target", labels, seed, runs.pair("source", "adapted", labels, cfg))
        empty = np.full(len(labels), shapes.UNNAMED)
        yield "pair with the empty prompt", runs.sample("target", labels, seed, runs.pair("source", "adapted", empty))

    return records(runs, FIRST, "sweep of options", roles, Methods(made), SEEDS[:1], SAMPLES)


def steps_sweep(runs: Runs, steps: int) -> list[dict]:
    """Fewer and more steps, each against a target and an oracle of as many."""
    roles = Roles("source", "adapted", "target", "oracle")

    def made(labels, seed) -> Iterator:
        for name in ("target", "oracle"):
            yield name, runs.sample(name, labels, seed, steps=steps)
        for name, change in delta_methods(runs, FIRST).items():
            delta = change(runs.pair("source", "adapted", labels))
            yield name, runs.sample("target", labels, seed, delta, steps=steps)

    return records(runs, FIRST, f"{steps} steps", roles, Methods(made), SEEDS[:1], SAMPLES)


def sampler_sweep(runs: Runs, share: int, shares: int = 4) -> list[dict]:
    """Every sampler of the host, each against the target and the oracle sampled by it."""
    roles = Roles("source", "adapted", "target", "oracle", (shapes.SEEN,))
    found = []
    for sampler in SAMPLERS[share::shares]:

        def made(labels, seed, sampler=sampler) -> Iterator:
            for name in ("target", "oracle"):
                yield name, runs.sample(name, labels, seed, sampler=sampler, steps=16)
            delta = runs.pair("source", "adapted", labels)
            yield PLAIN, runs.sample("target", labels, seed, delta, sampler=sampler, steps=16)

        found += records(runs, FIRST, "samplers, 16 steps", roles, Methods(made), SEEDS[:1], SAMPLES // 2, sampler)
    return found


EXPERIMENTS: dict[str, Callable[[Runs], list[dict]]] = {
    **{f"full fine-tune, {crossing}": partial(fine_tune, crossing) for crossing in ROLES},
    "LoRA": lora,
    "control": control,
    "conditioning": prompt,
    "eraser": eraser,
    "slider": slider,
    "few steps": few_steps,
    "sweep": sweep,
    **{f"steps {steps}": partial(steps_sweep, steps=steps) for steps in (8, 12, 40)},
    **{f"samplers {share + 1} of 4": partial(sampler_sweep, share=share) for share in range(4)},
}
HOW = f"{SAMPLES} pictures a seed and group, seeds {SEEDS}, Euler, {STEPS} Karras steps, guidance {CFG}, strength 1"
