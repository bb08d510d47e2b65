"""How often a call moves between the pack's files: python -m harness benchmarks.moves

Counts calls from one file of `sampling` into another, and returns, in one step of a run on the lab's models: a measure
of how many rooms a reader has to visit. Files are those of the pack as ComfyUI loaded it.
"""

import sys
from collections.abc import Callable
from functools import partial

import torch

from harness.host import REPOSITORY
from lab.runs import Runs, bridges, chained, option

NAMES = ["airplane"]
ENGINE = str(REPOSITORY / "sampling")


def counted(act: Callable) -> int:
    """Return how often `act` moves between files of the engine."""
    moves = 0

    def note(frame, event, _):
        nonlocal moves
        if event in ("call", "return") and frame.f_back is not None:
            here, there = frame.f_code.co_filename, frame.f_back.f_code.co_filename
            moves += here != there and here.startswith(ENGINE) and there.startswith(ENGINE)

    sys.setprofile(note)
    try:
        act()
    finally:
        sys.setprofile(None)
    return moves


def of_a_step(runs: Runs, target: str, delta) -> int:
    """Return the moves of one step: those of a run of four steps less those of one of three."""
    run = partial(runs.sample, target, NAMES, 1, [delta])
    run(steps=3)
    return counted(lambda: run(steps=4)) - counted(lambda: run(steps=3))


def main() -> None:
    runs = Runs()
    lora = runs.pair(NAMES, "source_ink")
    options = chained(
        bridges()["fitted"],
        option("DeltaLimits", band="low", parallel=0.5, norm_limit=1.0),
        option("DeltaMask", mask=torch.ones(1, 64, 64)),
        option("DeltaSchedule", curve="linear", strength_end=0.5),
    )
    print("a LoRA pair, the same latents:", of_a_step(runs, "target", lora))
    print("every option:", of_a_step(runs, "flow_target", options(lora)))


if __name__ == "__main__":
    main()
