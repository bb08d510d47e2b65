"""The experiments: an adaptation over a crossing, with every method that is compared on it.

Each is a function (runs) -> records, listed in EXPERIMENTS by name.
"""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch.nn import functional

from lab import adapters, autoencoder, shapes
from lab.family import STEPS

from .balance import TWO_DELTAS
from .methods import (
    APART,
    FIRST,
    ROLES,
    SAMPLES,
    SEEDS,
    SIBLING,
    SMALL,
    Roles,
    delta_methods,
    enlarged,
    refined,
    renoised,
    strong,
)
from .records import PLAIN, Methods, records
from .runs import Runs, merged, ways_apart
from .sweeps import sampler_sweep, steps_sweep, sweep


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
            yield f"img2img {denoise}, equal steps", refined(runs, roles, labels, seed, STEPS, denoise)
        if crossing == SMALL:
            for strength in (1.25, 1.5):
                delta = strong(changes[PLAIN](runs.pair(roles.source, roles.adapted, labels)), strength)
                yield f"delta, strength {strength}", runs.sample(roles.target, labels, seed, delta)
        if crossing == FIRST:
            yield "adapted alone", runs.sample(roles.adapted, labels, seed)
            for step in (8, 14):
                yield f"re-noised at step {step}", renoised(runs, roles, labels, seed, step)
        if crossing == SIBLING:
            model = merged(*(runs.model(name) for name in (roles.target, roles.source, roles.adapted)))
            yield "weights merged", runs.sample(roles.target, labels, seed, model=model)

    return records(runs, crossing, "full fine-tune", roles, Methods(made), SEEDS, SAMPLES)


def apart(runs: Runs) -> list[dict]:
    """The crossing that people want most: an old model's style on a larger one, with an autoencoder of its own."""
    roles = ROLES[APART]
    ways = ways_apart(runs, roles.source, roles.target)

    def made(labels, seed) -> Iterator:
        for name in ("target", "oracle"):
            yield name, runs.sample(getattr(roles, name), labels, seed)
        for name, way in ways.items():
            delta = way(runs.pair(roles.source, roles.adapted, labels))
            yield name, runs.sample(roles.target, labels, seed, delta)
        yield "adapted alone, enlarged", enlarged(runs, roles, runs.sample(roles.adapted, labels, seed))
        for denoise in (0.3, 0.5):
            yield f"img2img {denoise}, equal calls", refined(runs, roles, labels, seed, STEPS * 3 // 2, denoise)

    return records(runs, APART, "full fine-tune", roles, Methods(made), SEEDS[:2], SAMPLES)


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
        img2img = refined(runs, roles, labels, seed, STEPS * 3 // 2, 0.5, wanted=hint)
        yield "img2img 0.5, equal calls", img2img

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
            how = {"steps": steps, "sampler": sampler}
            yield f"delta, {sampler}", runs.sample("target", labels, seed, delta, **how)
            yield f"adapted alone, {sampler}", runs.sample("source_few_steps", labels, seed, **how)

    methods = Methods(made, look="base", colours=False)
    return records(runs, FIRST, "few-step distillation", roles, methods, SEEDS[:1], SAMPLES)


EXPERIMENTS: dict[str, Callable[[Runs], list[dict]]] = {
    **{f"full fine-tune, {crossing}": partial(fine_tune, crossing) for crossing in ROLES if crossing != APART},
    "another autoencoder": apart,
    "LoRA": lora,
    "control": control,
    "conditioning": prompt,
    "eraser": eraser,
    "slider": slider,
    "few steps": few_steps,
    **TWO_DELTAS,
    "sweep": sweep,
    **{f"steps {steps}": partial(steps_sweep, steps=steps) for steps in (8, 12, 40)},
    **{f"samplers {share + 1} of 4": partial(sampler_sweep, share=share) for share in range(4)},
}
