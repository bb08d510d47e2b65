"""Tables and figures of the results: python -m lab.proof.report"""

from itertools import groupby

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Patch

from lab.measures import table

from .records import PLAIN
from .results import FOLDER, known

GAPS = ("seen_gap", "colour_gap", "noise_gap", "unseen_gap")
ENDS = ("target", "oracle")
WIDTH = 0.09  # of a bar, where crossings are 1 apart
COLUMNS = {
    "model_calls": "calls", "seen_gap": "judge", "colour_gap": "colour", "noise_gap": "noise", "class": "class",
    "style": "style", "bands": "bands", "diversity": "diversity", "unseen_gap": "judge, unseen",
    "unseen_colour_gap": "colour, unseen", "unseen_class": "class, unseen", "unseen_bands": "bands, unseen",
    "overlap_seen": "overlap",
}  # fmt: skip


def shown(value, spread) -> str:
    """Return a score as text, with its spread over seeds where there are several."""
    if isinstance(value, int):
        return str(value)
    return f"{value:.2f}" + (f" ±{spread:.2f}" if spread else "")


def tables(records: list[dict]) -> str:
    """Return a table for each crossing and adaptation, as markdown."""
    lines = []
    for (adaptation, crossing), group in groupby(records, lambda r: (r["adaptation"], r["crossing"])):
        group = list(group)
        rows = {}
        for record in group:
            name = record["method"] if record["sampler"] == "euler" else f"{record['sampler']}: {record['method']}"
            rows[name] = {
                title: shown(record[key], record["spread"].get(key, 0) if len(record["seeds"]) > 1 else 0)
                for key, title in COLUMNS.items()
                if record.get(key) is not None
            }
        lines += [f"## {adaptation}: {crossing}", "", *table(rows), ""]
    return "\n".join(lines)


def closures(records: list[dict]) -> None:
    """Draw how much of each gap the methods close, by crossing."""
    chosen = [r for r in records if r["adaptation"] == "full fine-tune" and r["method"] not in ENDS]
    crossings = list(dict.fromkeys(r["crossing"] for r in chosen))
    methods = list(dict.fromkeys(r["method"] for r in chosen if "equal steps" not in r["method"]))
    methods = [m for m in methods if not m.startswith("re-noised")]
    figure, axes = plt.subplots(2, 2, figsize=(15, 9), layout="constrained", sharey=True)
    for axis, gap in zip(axes.flat, GAPS, strict=True):
        by_crossing = {c: [r for r in chosen if r["crossing"] == c and r[gap] is not None] for c in crossings}
        for n, crossing in enumerate(crossings):
            found = [r for method in methods for r in by_crossing[crossing] if r["method"] == method]
            for k, record in enumerate(found):
                colour = methods.index(record["method"])
                axis.bar(
                    n + WIDTH * (k - (len(found) - 1) / 2), record[gap], WIDTH, yerr=record["spread"][gap],
                    color=f"C{colour % 10}", hatch="//" if colour >= 10 else None, error_kw={"elinewidth": 0.8},
                )  # fmt: skip
        axis.set_title(gap.replace("_", " "))
        axis.set_xticks(
            range(len(crossings)), [c.replace(", ", ",\n").replace(" -> ", "\n-> ") for c in crossings], fontsize=7
        )
        axis.axhline(1, color="gray", linewidth=0.8, linestyle=":")
        axis.set_ylim(-0.3, 1.15)
    handles = [Patch(facecolor=f"C{k % 10}", hatch="//" if k >= 10 else None) for k in range(len(methods))]
    figure.legend(handles, methods, loc="outside lower center", ncols=6, fontsize=8)
    figure.suptitle("How much of the gap between target and oracle is closed: full fine-tune of a style")
    figure.savefig(FOLDER / "closures.png", dpi=100)
    plt.close(figure)


def sweeps(records: list[dict]) -> None:
    """Draw every option's setting: gap closed on known and on unknown names, and colour."""
    rows = [r for r in records if r["experiment"] == "sweep" and r["method"] not in ENDS]
    figure, axis = plt.subplots(figsize=(9, 0.24 * len(rows) + 1.2), layout="constrained")
    places = np.arange(len(rows))
    for gap, marker in (("seen_gap", "o"), ("colour_gap", "s"), ("noise_gap", "^"), ("unseen_gap", "x")):
        axis.plot([r[gap] for r in rows], places, marker, label=gap.replace("_", " "), markersize=5)
    axis.set_yticks(places, [r["method"] for r in rows], fontsize=8)
    axis.invert_yaxis()
    axis.set_xlim(-0.3, 1.1)
    axis.grid(axis="both", linewidth=0.3)
    axis.legend(loc="lower left", fontsize=8)
    axis.set_title("One option at a time, eps -> v")
    figure.savefig(FOLDER / "sweeps.png", dpi=100)
    plt.close(figure)


def samplers(records: list[dict]) -> None:
    """Draw the gap closed by each sampler of the host, each against its own target and oracle."""
    rows = [r for r in records if r["adaptation"].startswith("samplers") and r["method"] == PLAIN]
    rows.sort(key=lambda r: r["seen_gap"])
    figure, axis = plt.subplots(figsize=(8, 0.22 * len(rows) + 1), layout="constrained")
    for gap, marker in (("seen_gap", "o"), ("colour_gap", "s")):
        axis.plot([r[gap] for r in rows], range(len(rows)), marker, label=gap.replace("_", " "), markersize=4)
    axis.set_yticks(range(len(rows)), [r["sampler"] for r in rows], fontsize=7)
    axis.set_xlim(min(0, *(r["seen_gap"] for r in rows)) - 0.05, 1.1)
    axis.grid(linewidth=0.3)
    axis.legend(fontsize=8)
    axis.set_title("Every sampler, 16 steps, eps -> v")
    figure.savefig(FOLDER / "samplers.png", dpi=100)
    plt.close(figure)


def slider(records: list[dict]) -> None:
    """Draw what a signed strength does."""
    rows = {r["method"]: r for r in records if r["experiment"] == "slider"}
    by_strength = {0.0: rows["target"]} | {
        float(name.split()[-1]): row for name, row in rows.items() if "strength" in name
    }
    strengths = sorted(by_strength)
    figure, axis = plt.subplots(figsize=(7, 3.6), layout="constrained")
    for score in ("style", "class", "seen_gap", "colour_gap"):
        axis.plot(strengths, [by_strength[s][score] for s in strengths], "o-", label=score.replace("_", " "))
    axis.axhline(0, color="gray", linewidth=0.8)
    axis.set_xlabel("strength of the delta")
    axis.legend(fontsize=8)
    axis.set_title("A slider")
    figure.savefig(FOLDER / "slider.png", dpi=100)
    plt.close(figure)


def main() -> None:
    records = known()
    (FOLDER / "tables.md").write_text("# Tables\n\nMade from results.json.\n\n" + tables(records))
    for draw in (closures, sweeps, samplers, slider):
        draw(records)


if __name__ == "__main__":
    main()
