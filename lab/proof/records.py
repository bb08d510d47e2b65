"""Records of an experiment: every method's scores and how much of the gap it closes, over seeds and groups."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from lab import judge, shapes
from lab.measures import Scores, with_closures

PLAIN = "delta"
SEEN, UNSEEN = "seen", "unseen"
# What a record tells of the classes that the source knows, by score.
OF_SEEN = {
    "closure judge": "seen_gap", "closure colour": "colour_gap", "closure detail": "noise_gap", "style": "style",
    "class": "class", "diversity": "diversity", "flat noise": "flat_noise", "bands": "bands",
}  # fmt: skip
OF_UNSEEN = {
    "closure judge": "unseen_gap", "closure colour": "unseen_colour_gap", "closure detail": "unseen_noise_gap",
    "style": "unseen_style", "class": "unseen_class", "bands": "unseen_bands",
}  # fmt: skip
# Every record has these; None where an experiment has no such number.
GAPS = ("seen_gap", "unseen_gap", "colour_gap", "noise_gap")
OF_COLOURS = ("closure colour", "closure detail")


@dataclass(frozen=True)
class Methods:
    """What an experiment compares: `made(labels, seed)` yields the name and the run of each method.

    "target" and "oracle" are among them.

    `look` is that of the pictures wanted. `asked` says which classes are wanted where it is not the labels.
    `extra` adds scores of pictures. With `goal`, a score of those, closures of the judge's gap are of that score.
    `colours` says whether target and oracle differ in colours and texture, so that these have a gap to close.
    """

    made: Callable[[np.ndarray, int], Iterator]
    look: str = "style"
    asked: Callable[[np.ndarray], np.ndarray] = np.asarray
    extra: Callable[[Tensor, np.ndarray], dict[str, float]] | None = None
    goal: str | None = None
    colours: bool = True


def records(runs, crossing, adaptation, roles, methods: Methods, seeds, samples, sampler="euler") -> list[dict]:
    """Run an experiment; a record a method, numbers are means over `seeds`, `spread` their standard deviations."""
    found: dict[str, dict[str, list]] = {}
    calls: dict[str, int] = {}
    for classes in roles.groups:
        group, names = (UNSEEN, OF_UNSEEN) if classes == shapes.UNSEEN else (SEEN, OF_SEEN)
        labels = np.resize(classes, samples)
        wanted = methods.asked(labels)
        scores = Scores(runs.family, classes, samples, methods.look, runs.net(roles.target))
        for seed in seeds:
            rows = {}
            for name, made in methods.made(labels, seed):
                pictures = runs.pictures(roles.target, made)
                rows[name] = scores.of(pictures, wanted) | (methods.extra(pictures, labels) if methods.extra else {})
                calls[name] = made.calls
            for name, row in with_closures(rows).items():
                if methods.goal:
                    ends = rows["target"][methods.goal], rows["oracle"][methods.goal]
                    row["closure judge"] = judge.gap_closure(ends[0], row[methods.goal], ends[1])
                told = {k: v for k, v in row.items() if methods.colours or k not in OF_COLOURS}
                kept = {names[score]: value for score, value in told.items() if score in names}
                kept |= {f"{methods.goal}_{group}": row[methods.goal]} if methods.goal else {}
                for score, value in kept.items():
                    found.setdefault(name, {}).setdefault(score, []).append(value)
    return [
        {
            "crossing": crossing, "adaptation": adaptation, "method": name, "sampler": sampler,
            "model_calls": calls[name], **dict.fromkeys(GAPS),
            **{score: round(float(np.mean(values)), 4) for score, values in scores_of.items()},
            "seeds": list(seeds),
            "spread": {score: round(float(np.std(values)), 4) for score, values in scores_of.items()},
        }
        for name, scores_of in found.items()
    ]  # fmt: skip
