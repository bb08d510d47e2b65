"""What a MODEL carries: deltas, in layers, one for each time that some were put on it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP

from ..delta import Branch, Delta, Deltas

KEY = "delta_sampling"

# Of each delta what a call added, its size and whether it was evaluated; None where the delta did not act.
Added = list[tuple[float, bool] | None]
Show = Callable[[Added], None]
Watch = Callable[[int], Show | None]


@dataclass(frozen=True, eq=False)
class Layer:
    """Deltas that were put on a model together: as they were `wired`, and those that act, with their bridges.

    `watch` is told the number of steps when a run starts; what it returns, if anything, is shown what each
    call has added.
    """

    wired: Deltas
    acting: Sequence[Delta]
    watch: Watch | None


@dataclass(frozen=True, eq=False)
class Carrier:
    """The wrapper of the host's sampling by which a model carries `layers`: it calls `start` in its place."""

    layers: tuple[Layer, ...]
    start: Callable

    def __call__(self, executor, *args, **kwargs) -> Any:
        return self.start(self.layers, executor, *args, **kwargs)


def carried(model: ModelPatcher) -> tuple[Layer, ...]:
    """Return the layers that `model` carries, the first that was put on it first."""
    return tuple(layer for each in model.get_wrappers(WrappersMP.OUTER_SAMPLE, KEY) for layer in each.layers)


def take_off(model: ModelPatcher) -> None:
    """Take all layers off `model`, a private clone."""
    model.remove_wrappers_with_key(WrappersMP.OUTER_SAMPLE, KEY)


def all_branches(layers: Sequence[Layer]) -> Iterator[Branch]:
    """Return the branches of the deltas in `layers`, and of those that the branches' models carry themselves."""
    for layer in layers:
        for delta in layer.acting:
            for branch in (delta.source, delta.adapted):
                if branch is not None:
                    yield branch
                    yield from all_branches(carried(branch.model))
