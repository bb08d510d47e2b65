"""What each option of a delta costs and what it changes: python -m harness benchmarks.options

The lab's trained models in the host. Rows are the samples that all models of a run evaluate (a
model call with guidance has two per picture), relative to the plain target's. Time is the median of
several runs, each divided by a run of the plain target right before it. Error is the relative
distance of the latents from the full method's; closures tell how much of the gap between target and
oracle is left closed. The table goes to benchmarks/options.md, the plot to benchmarks/options.png.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import comfyui_version
import matplotlib.pyplot as plt
import numpy as np
import torch

from lab import shapes
from lab.family import CFG, STEPS
from lab.measures import Scores, table, with_closures
from lab.proof.runs import Made, Runs, option

from .points import draw_point

HERE = Path(__file__).parent
SIDES = (-20, -4), (7, -4)
FULL, HALF, TARGET, ORACLE = "full method", "half the resolution", "target", "oracle"


def variants() -> dict[str, tuple[float, Callable]]:
    """Return name -> (the pair's cfg, the change of its DELTA)."""
    return {
        FULL: (CFG, lambda delta: delta),
        "pair at cfg 1": (1.0, lambda delta: delta),
        "window 0 to 0.6": (CFG, option("DeltaSchedule", end_percent=0.6)),
        "window 0.2 to 1": (CFG, option("DeltaSchedule", start_percent=0.2)),
        "sigmoid, 1 to 0": (CFG, option("DeltaSchedule", curve="sigmoid", strength_end=0.0)),
        "reuse every 2": (CFG, option("DeltaReuse", every=2)),
        "reuse every 4": (CFG, option("DeltaReuse", every=4)),
        "reuse every 4, extrapolated": (CFG, option("DeltaReuse", every=4, extrapolate=True)),
        "reuse, threshold 0.3": (CFG, option("DeltaReuse", threshold=0.3)),
        "fast": (CFG, option("DeltaFast")),
        "fast, guidance kept": (CFG, option("DeltaFast", pair_guidance="kept")),
        "parallel 0": (CFG, option("DeltaLimits", parallel=0.0)),
        "norm limit 0.5": (CFG, option("DeltaLimits", norm_limit=0.5)),
        "low band": (CFG, option("DeltaLimits", band="low")),
        "high band": (CFG, option("DeltaLimits", band="high")),
        HALF: (CFG, option("DeltaResolution", scale=0.5)),
    }


def sampled(runs: Runs, labels, change: Callable | None = None, cfg: float = CFG, model: str = TARGET) -> Made:
    """Return one run. `change` is made to the delta of a pair at `cfg`; without it there is no delta."""
    delta = change(runs.pair("source", "adapted", labels, cfg)) if change else ()
    return runs.sample(model, labels, 5, delta)


def measure(runs: Runs, samples: int) -> dict[str, dict]:
    """Return {variant: {score: number}}: what it makes of the classes that the source knows."""
    labels = np.resize(shapes.SEEN, samples)
    scores = Scores(runs.family, shapes.SEEN, samples)
    plain = sampled(runs, labels)
    rows = {
        TARGET: scores.of(runs.pictures(TARGET, plain), labels),
        ORACLE: scores.of(runs.pictures(ORACLE, sampled(runs, labels, model=ORACLE)), labels),
    }
    full = None
    for name, (cfg, change) in variants().items():
        made = sampled(runs, labels, change, cfg)
        full = made if full is None else full
        found = scores.of(runs.pictures(TARGET, made), labels)
        error = ((made.latents - full.latents).norm() / (full.latents - plain.latents).norm()).item()
        rows[name] = {"rows": made.work / plain.work, "time": 0.0, "error": error} | found
        print(name, {key: round(value, 3) for key, value in rows[name].items()}, flush=True)
    return {name: row for name, row in with_closures(rows).items() if name not in (TARGET, ORACLE)}


def time_ratios(runs: Runs, repeats: int = 5, batch: int = 4) -> dict[str, float]:
    """Return variant -> seconds of a run over those of the plain target right before it, the median of `repeats`."""
    labels = np.resize(shapes.SEEN, batch)

    def seconds(*variant) -> float:
        start = time.perf_counter()
        sampled(runs, labels, *variant)
        return time.perf_counter() - start

    def ratio(cfg, change) -> float:
        plain = seconds()
        return seconds(change, cfg) / plain

    return {name: statistics.median(ratio(*variant) for _ in range(repeats)) for name, variant in variants().items()}


def draw(rows: dict[str, dict], path: Path) -> None:
    """Save the plot: cost against what is left of the full method's effect."""
    figure, axes = plt.subplots(figsize=(10, 6), layout="constrained")
    for number, (name, row) in enumerate(rows.items(), start=1):
        if name == HALF:
            continue
        share = row["closure judge"] / rows[FULL]["closure judge"]
        colour = "firebrick" if name.startswith("fast") else "tab:blue"
        draw_point(axes, number, row["rows"], share, name, SIDES, marker="o", color=colour)
    axes.margins(x=0.08)
    axes.axhline(0.97, color="gray", linewidth=0.8, linestyle=":")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, handlelength=1)
    axes.set_xlabel("model rows, relative to the plain target")
    axes.set_ylabel("gap closed (judge), relative to the full method")
    axes.set_title("What the options of a delta cost, and what they keep")
    figure.savefig(path, dpi=110)
    plt.close(figure)


@torch.inference_mode()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=96, help="pictures per variant")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    runs = Runs()
    rows = measure(runs, arguments.samples)
    for name, ratio in time_ratios(runs).items():
        rows[name]["time"] = ratio
    how = (
        f"ComfyUI {comfyui_version.__version__}, torch {torch.__version__}, one CPU thread. {arguments.samples} "
        f"pictures of classes that the source knows, eps -> v, Euler, {STEPS} Karras steps, cfg {CFG}, strength 1. "
        "*rows*: samples that all models evaluate, *time*: median of five runs (batch 4), both relative to the plain "
        "target. *error*: distance of the latents from the full method's, relative to what the full method changes. "
        "The other scores are the lab's. Its source knows pictures of one size only, so that at half the resolution "
        "just the cost tells something."
    )
    (HERE / "options.md").write_text("\n".join([how, "", *table(rows), "", "![The table as a plot](options.png)", ""]))
    draw(rows, HERE / "options.png")
    print((HERE / "options.md").read_text())


if __name__ == "__main__":
    main()
