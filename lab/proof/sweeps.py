"""Sweeps: every option over its range, every sampler, fewer and more steps."""

from collections.abc import Iterator
from functools import partial

import numpy as np

from lab import shapes

from .methods import FIRST, SAMPLES, SEEDS, Roles, delta_methods
from .records import PLAIN, Methods, records
from .runs import SAMPLERS, Runs, option


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
            delta = runs.pair("source", "adapted", labels, cfg)
            yield f"pair at cfg {cfg}", runs.sample("target", labels, seed, delta)
        empty = np.full(len(labels), shapes.UNNAMED)
        delta = runs.pair("source", "adapted", empty)
        yield "pair with the empty prompt", runs.sample("target", labels, seed, delta)

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
