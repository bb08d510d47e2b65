"""Samples the lab's crossings and measures them: python -m lab.evaluate

Prints tables in markdown and writes them to lab/results.md. All columns of a crossing use the
same starting noise, sampler, steps and guidance.
"""

import argparse
import pathlib

import numpy as np
import torch

from . import autoencoder, judge, shapes
from .crossings import CROSSINGS
from .family import CFG, COLUMNS, DELTAS, FIRST, SAME_DETAIL, STEPS, Family

RESULTS = pathlib.Path(__file__).parent / "results.md"
GROUPS = {shapes.SEEN: "classes that the source knows", shapes.UNSEEN: "names that the source does not know"}
DISTANCES = ("judge", "colour", "detail")


class Scores:
    """Scores of pictures against styled pictures of some classes that no training saw."""

    def __init__(self, family, classes, n):
        self.judge = family.judge
        self.reference = held_out(family, classes, max(n, 512))

    def of(self, pictures, labels):
        """One row: {score: number}."""
        return {
            "style": judge.style_score(self.judge, pictures),
            "class": judge.class_score(self.judge, pictures, labels),
            "judge": judge.judge_distance(self.judge, pictures, self.reference),
            "colour": judge.colour_distance(pictures, self.reference),
            "detail": judge.detail_distance(pictures, self.reference),
            "flat noise": judge.flat_noise(pictures),
        }


def held_out(family, classes, n, seed=1000):
    """Styled pictures that no training saw, passed through the autoencoder as every sample is."""
    drawn = shapes.draw(np.random.default_rng(seed), np.resize(classes, n), "style")
    with torch.no_grad():
        latents = (family.coder.encode(part) for part in autoencoder.to_model(drawn).split(64))
        return torch.cat([family.coder.decode(latent) for latent in latents]).clamp(-1, 1)


def with_closures(rows):
    """The rows with, for each distance, how much of the way from the target to the oracle they go."""
    ends = rows["target"], rows["oracle"]
    return {
        name: row | {f"closure {d}": judge.gap_closure(ends[0][d], row[d], ends[1][d]) for d in DISTANCES}
        for name, row in rows.items()
    }


def measure(family, crossing, classes, n, seed):
    """Rows of scores for one crossing and one group of classes: {column: {score: number}}."""
    labels, scores = np.resize(classes, n), Scores(family, classes, n)
    # Where latents are the same, so is what is seen of them.
    columns = COLUMNS if crossing == FIRST else (*COLUMNS, SAME_DETAIL)
    rows = with_closures(
        {column: scores.of(family.sample(column, labels, seed, crossing=crossing), labels) for column in columns}
    )
    # Another draw of styled pictures: what a perfect sampler would get.
    return rows | {"real styled": scores.of(held_out(family, classes, n, seed=2000), labels)}


def table(rows):
    """Rows of scores as markdown lines."""
    scores = list(next(iter(rows.values())))
    lines = ["| | " + " | ".join(scores) + " |", "|---" * (len(scores) + 1) + "|"]
    for name, row in rows.items():
        cells = [f"{row[s]:.2f}" if abs(row.get(s, 0)) >= 0.1 else f"{row[s]:.3f}" if s in row else "" for s in scores]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=96, help="pictures per column and group")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    family = Family()
    summary, details = {}, []
    for crossing, roles in CROSSINGS.items():
        for classes in roles.groups:
            rows = measure(family, crossing, classes, arguments.samples, arguments.seed)
            title = f"{crossing}: {GROUPS[classes]}"
            for column in DELTAS:
                if column in rows:
                    shown = title if column == "target + delta" else f"{title}; same detail"
                    summary[shown] = {k: v for k, v in rows[column].items() if k.startswith("closure")} | {
                        "style": rows[column]["style"],
                        "class": rows[column]["class"],
                        "class of the plain target": rows["target"]["class"],
                    }
            details += [f"**{title}** ({', '.join(shapes.CLASSES[k] for k in classes)})", "", *table(rows), ""]
            print("\n".join(details[-len(rows) - 5 :]), flush=True)
    how = (
        f"{arguments.samples} samples per row, Euler, {STEPS} Karras steps, guidance {CFG}, strength 1, "
        f"seed {arguments.seed}."
    )
    text = "\n".join([how, "", "**Target + delta, every crossing**", "", *table(summary), "", *details])
    RESULTS.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
