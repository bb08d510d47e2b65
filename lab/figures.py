"""Draws lab/results.json for docs/evidence.md: python -m lab.figures

Writes docs/evidence_curves.png, and the table of docs/evidence.md between its markers.
"""

import json
import re
from collections import defaultdict

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from harness.host import REPOSITORY

from . import world

RESULTS = REPOSITORY / "lab" / "results.json"
CURVES = REPOSITORY / "docs" / "evidence_curves.png"
PAGE = REPOSITORY / "docs" / "evidence.md"
TITLES = {"trained": "names of the LoRA's training", "known": "other names, known to the source", "unknown": "unknown"}
WORLDS = {"target": "same latents, v", "flow_target": "other latents, 128x128, flow"}
LINES = {
    "delta": ("firebrick", "o", "delta, by strength"),
    "img2img": ("tab:blue", "s", "img2img by the adapted model, by denoise"),
    "img2img, target's size": ("tab:cyan", "s", "img2img at the target's size"),
    "refined by the target": ("tab:green", "^", "adapted model's image, redone by the target"),
}
POINTS = {"target": ("gray", "X"), "oracle": ("black", "*"), "adapted": ("tab:purple", "P")}

# (world, style, method, setting, group) -> (share read as the style, share read as the name, images)
Cells = dict[tuple[str, ...], tuple[float, float, int]]


def cells(records: list[dict]) -> Cells:
    """Return the means over seeds."""
    found = defaultdict(list)
    for record in records:
        found[tuple(record[key] for key in ("world", "style", "method", "setting", "group"))].append(record)
    made = {}
    for key, same in found.items():
        counts = [record["pictures"] for record in same]
        made[key] = (
            np.average([record["style_score"] for record in same], weights=counts),
            np.average([record["name_score"] for record in same], weights=counts),
            sum(counts),
        )
    return made


def interval(share: float, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share of `count` images (Wilson's)."""
    z = 1.96
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return middle - half, middle + half


def draw_cell(axes, cell: tuple, color: str, marker: str, label: str | None = None) -> None:
    style, name, count = cell
    spans = [np.abs(np.subtract(interval(share, count), share))[:, None] for share in (name, style)]
    axes.errorbar(name, style, *reversed(spans), color=color, marker=marker, markersize=6, elinewidth=0.7, label=label)


def draw(found: Cells) -> None:
    """Save the curves: share read as the name against share read as the style; a row for each world and style."""
    rows = [(target, style) for target in WORLDS for style in world.STYLES if (target, style) in {k[:2] for k in found}]
    shape = {"figsize": (12, 3.6 * len(rows)), "layout": "constrained", "sharex": True, "sharey": True}
    figure, axes = plt.subplots(len(rows), len(world.GROUPS), squeeze=False, **shape)
    for panel, group in zip(axes[0], world.GROUPS, strict=True):
        panel.set_title(TITLES[group], fontsize=10)
    for row, (target, style) in zip(axes, rows, strict=True):
        for panel, group in zip(row, world.GROUPS, strict=True):
            for method, (color, marker, label) in LINES.items():
                same = {k: cell for k, cell in found.items() if (*k[:3], k[4]) == (target, style, method, group)}
                line = {float(key[3]): cell for key, cell in same.items()}
                for number, setting in enumerate(sorted(line)):
                    style_share, name_share, _ = line[setting]
                    draw_cell(panel, line[setting], color, marker, None if number else label)
                    panel.annotate(f"{setting:g}", (name_share, style_share), fontsize=6)
                ordered = [line[setting] for setting in sorted(line)]
                panel.plot([cell[1] for cell in ordered], [cell[0] for cell in ordered], color=color, linewidth=1)
            for method, (color, marker) in POINTS.items():
                if cell := found.get((target, style, method, "", group)):
                    draw_cell(panel, cell, color, marker, method)
    for panel in axes[-1]:
        panel.set_xlabel("read as the name")
    for panel, (target, style) in zip(axes[:, 0], rows, strict=True):
        panel.set_ylabel(f"{WORLDS[target]}: {style}\nread as the style")
    legends = [panel.get_legend_handles_labels() for panel in axes.flat]
    handles = {label: handle for legend in legends for handle, label in zip(*legend, strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, fontsize=8)
    figure.savefig(CURVES, dpi=80)
    plt.close(figure)


def table(found: Cells, wanted: list[tuple[str, str, str]]) -> list[str]:
    """Return a table of style / name for (method, setting, title) by world, style and group."""
    lines = ["| target, style | method | " + " | ".join(TITLES.values()) + " |", "|---" * 5 + "|"]
    for target in WORLDS:
        for style in world.STYLES:
            for method, setting, title in wanted:
                row = [found.get((target, style, method, setting, group)) for group in world.GROUPS]
                if all(row):
                    shown = " | ".join(f"{cell[0]:.2f} / {cell[1]:.2f}" for cell in row)
                    lines.append(f"| {WORLDS[target]}, {style} | {title} | {shown} |")
    return lines


MAIN = [
    ("target", "", "target"), ("delta", "1", "target + delta"), ("oracle", "", "oracle"),
    ("adapted", "", "adapted model alone"), ("img2img", "0.6", "img2img, denoise 0.6"),
]  # fmt: skip


def main() -> None:
    found = cells(json.loads(RESULTS.read_text()))
    draw(found)
    first, last = "<!-- main -->", "<!-- end of main -->"
    made = "\n".join([first, *table(found, MAIN), last])
    PAGE.write_text(re.sub(f"{first}.*?{last}", lambda _: made, PAGE.read_text(), flags=re.S))


if __name__ == "__main__":
    main()
