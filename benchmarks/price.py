"""What a delta costs against what it keeps: python -m harness benchmarks.price [--authors delta_sampler.py]

The lab's trained models in the host, in three worlds: eps -> v over one autoencoder, to a flow of 16 channels, and to a
larger model with another autoencoder. Rows are the samples that all models of a run evaluate (a call with guidance has
two per picture), relative to the plain target's. Kept is how much of the full method's way from the plain target to the
oracle is left, by three distances, both runs with the same steps and sampler: (target - method) / (target - full). It
writes price.md and price.png beside it. The authors' own node is measured where its file is given.
"""

import argparse
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import comfyui_version
import matplotlib.pyplot as plt
import numpy as np
import torch

from lab import shapes
from lab.family import CFG, STEPS
from lab.measures import DISTANCES, Scores, table
from lab.proof.methods import SEEDS
from lab.proof.runs import Made, Runs, conditioning, option, over_a_bridge, ways_apart

from .points import draw_point

HERE = Path(__file__).parent
SAME, FLOW, APART = "eps -> v", "flow, 16 channels", "another autoencoder"
FULL, FAST, AUTHORS = "full method", "fast", "the authors' node"
FEW_TO_MANY, TWO_CALLS = (8, 12, 20, 30, 50), ("heun", "dpm_2", "dpmpp_sde")
GUIDANCE = "auto", "off", "kept"
SIDES = (6, 4), (-14, -12), (6, -12), (-14, 4), (-4, -18)
MARKERS = {"kept": "s", "auto": "^"}
COLOURS = {FAST: "firebrick", "every": "tab:blue", "pair": "tab:green", AUTHORS: "black", FULL: "gray"}


@dataclass(frozen=True)
class World:
    """A target, and the way to it: the change of a DELTA."""

    name: str
    target: str
    way: Callable


def worlds(runs: Runs) -> list[World]:
    large = World(APART, "large_target", ways_apart(runs, "source", "large_target")["both autoencoders"])
    flow = World(FLOW, "flow_target", over_a_bridge(runs, "source", "flow_target"))
    return [World(SAME, "target", lambda delta: delta), flow, large]


def settings() -> dict[str, tuple[float, Callable]]:
    """Return name -> (the pair's cfg, the change of its DELTA)."""
    reuse = partial(option, "DeltaReuse")
    return {
        "pair at cfg 1": (1.0, lambda delta: delta),
        **{f"every {k}": (CFG, reuse(every=k)) for k in (2, 4)},
        "every 6, extrapolated": (CFG, reuse(every=6, extrapolate=True)),
        "every 6, extrapolated, pair at cfg 1": (1.0, reuse(every=6, extrapolate=True)),
        **fast(),
    }


def fast() -> dict[str, tuple[float, Callable]]:
    return {f"{FAST}, {how}": (CFG, option("DeltaFast", pair_guidance=how)) for how in GUIDANCE}


def measure(runs: Runs, samples: int, authors: Path | None) -> Iterator[dict]:
    """Yield a row of the table for each run with a delta; `samples` pictures of classes that the source knows."""
    labels = np.resize(shapes.SEEN, samples)
    for world in worlds(runs):
        chosen = settings() | ({AUTHORS: (CFG, authors)} if authors and world.name == SAME else {})
        yield from compared(runs, world, labels, chosen)
        if world.name == SAME:
            for steps in FEW_TO_MANY:
                yield from compared(runs, world, labels, fast(), steps)
            for sampler in TWO_CALLS:
                yield from compared(runs, world, labels, fast(), sampler=sampler)


def compared(runs: Runs, world: World, labels, chosen: dict, steps: int = STEPS, sampler: str = "euler"):
    """Yield the full method and each of the `chosen` settings beside it, with the same steps and sampler."""
    scores = Scores(runs.family, shapes.SEEN, len(labels), net=runs.net(world.target))

    def made(cfg: float | None = None, change: Callable | Path | None = None) -> tuple[Made, dict]:
        found = []
        for seed in SEEDS:
            if isinstance(change, Path):
                run = by_authors(runs, change, labels, steps, sampler, seed)
            else:
                delta = change(world.way(runs.pair("source", "adapted", labels, cfg))) if change else ()
                run = runs.sample(world.target, labels, seed, delta, steps, sampler)
            found.append(scores.of(runs.pictures(world.target, run), labels))
        return run, {score: float(np.mean([each[score] for each in found])) for score in (*DISTANCES, "class")}

    plain, from_here = made()
    full, to_there = made(CFG, lambda delta: delta)
    for name, setting in {FULL: None, **chosen}.items():
        run, found = made(*setting) if setting else (full, to_there)
        kept = {d: (from_here[d] - found[d]) / (from_here[d] - to_there[d]) for d in DISTANCES}
        where = {"world": world.name, "steps": str(steps), "sampler": sampler, "delta": name}
        cost = {"rows": run.calls / plain.calls, "work": run.work / plain.work}
        row = where | cost | kept | {"class": found["class"]}
        print({key: value if isinstance(value, str) else round(value, 3) for key, value in row.items()}, flush=True)
        yield row


def by_authors(runs: Runs, file: Path, labels, steps: int, sampler: str, seed: int) -> Made:
    """Return what the authors' node makes with the pair of eps -> v, over the host's Karras schedule."""
    spec = importlib.util.spec_from_file_location("authors_node", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    prompts = {"positive": conditioning(labels), "negative": conditioning(np.full(len(labels), shapes.UNNAMED))}
    names = {"source": "source", "adapted": "adapted", "target": "target"}
    roles = {f"{role}_model": runs.model(name) for role, name in names.items()}
    roles |= {f"{role}_{key}": value for role in names for key, value in prompts.items()}
    latent = {"samples": torch.zeros(len(labels), 4, 16, 16)}
    how = {"seed": seed, "steps": steps, "cfg": CFG, "sampler_name": sampler, "scheduler": "karras", "denoise": 1.0}
    runs.rows = runs.elements = 0
    (out,) = module.LatentDeltaKSampler().sample(**roles, **how, delta_strength=1.0, latent_image=latent)
    return Made(out["samples"], round(runs.rows / len(labels)), runs.elements / latent["samples"].numel())


def draw(rows: list[dict], path: Path) -> None:
    """Save the picture: rows against what the judge keeps; all worlds, and Delta Fast at other steps and samplers."""
    usual = [row for row in rows if (row["steps"], row["sampler"]) == (str(STEPS), "euler")]
    panels = {world: [row for row in usual if row["world"] == world] for world in (SAME, FLOW, APART)}
    panels["Delta Fast at other steps, other samplers"] = [
        row | {"delta": f"{row['delta'].removeprefix(FAST + ', ')}, {row['sampler']}, {row['steps']} steps"}
        for row in rows
        if row not in usual and row["delta"].startswith(FAST)
    ]
    figure, axes = plt.subplots(1, len(panels), figsize=(25, 6.5), layout="constrained", sharey=True)
    for panel, (title, shown) in zip(axes, panels.items(), strict=True):
        for number, row in enumerate(shown, start=1):
            name = row["delta"]
            start = next((key for key in COLOURS if name.startswith(key)), FAST)
            marker = next((mark for key, mark in MARKERS.items() if key in name), "o")
            draw_point(panel, number, row["rows"], row["judge"], name, SIDES, marker=marker, color=COLOURS[start])
        for share in (0.98, 0.95):
            panel.axhline(share, color="gray", linewidth=0.8, linestyle=":")
        panel.set_title(title)
        panel.set_xlabel("model rows, relative to the plain target")
        panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncol=2, fontsize=8, frameon=False)
    axes[0].set_ylabel("kept of the full method's effect (judge)")
    axes[0].set_ylim(top=1.03)
    figure.suptitle("What a delta costs, and what it keeps (dotted: 2 % and 5 % lost)")
    figure.savefig(path, dpi=110)
    plt.close(figure)


@torch.inference_mode()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=24, help="pictures per run")
    parser.add_argument("--authors", type=Path, help="the file of the authors' node, which this repository has not")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = list(measure(Runs(), arguments.samples, arguments.authors))
    how = (
        f"ComfyUI {comfyui_version.__version__}, torch {torch.__version__}, one CPU thread. {arguments.samples} "
        f"pictures of classes that the source knows, {len(SEEDS)} seeds, Karras steps, cfg {CFG}, strength 1. "
        "*rows*: samples that all models evaluate, relative to the plain target; *work*: the same by their size. "
        "*judge*, *colour*, *detail*: how much of the full method's effect is kept, with the same steps and sampler. "
        "*class*: how often the judge sees what was asked for. `python -m harness benchmarks.price` writes it."
    )
    if arguments.authors:
        how += (
            " The authors' node (github.com/Zhidong-Gao/DeltaSampling, commit 0972bae) ran from a copy beside the "
            "repository: `--authors delta_sampler.py`."
        )
    lines = table({str(number): row for number, row in enumerate(rows, start=1)})
    (HERE / "price.md").write_text("\n".join([how, "", *lines, "", "![The table as a picture](price.png)", ""]))
    draw(rows, HERE / "price.png")


if __name__ == "__main__":
    main()
