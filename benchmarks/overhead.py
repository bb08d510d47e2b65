"""The pack's own time beside the model calls it makes: python -m harness benchmarks.overhead

Wrappers of the host, put on each model, time every call of a model and every step. What a run
spends beyond its model calls and beyond what a plain KSampler spends around its own is the pack's:
adding deltas, checking them, handing modules over, swapping weights, and, once a run, opening the
branches and working out changed weights. The table goes to benchmarks/overhead.md.
"""

import os
import platform
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import comfy.model_patcher
import comfy.patcher_extension
import comfyui_version
import torch

from harness.nodes import run_node

from .architectures import network

TABLE = Path(__file__).parent / "overhead.md"
RUNS, STEPS = 7, 20
LARGE_RUNS, LARGE_STEPS = 2, 3
CPU = torch.device("cpu")
WRAPPERS = comfy.patcher_extension.WrappersMP


class Clock:
    """Collects, for each step of a run, how long it took and how long its model calls took (seconds)."""

    def __init__(self):
        self._reset()

    def _reset(self):
        self.steps, self.calls, self.in_models = [], [], 0.0

    def on_model(self, patcher):
        return self._wrapped(patcher, WRAPPERS.APPLY_MODEL, self._add_call)

    def on_target(self, patcher):
        return self._wrapped(self.on_model(patcher), WRAPPERS.PREDICT_NOISE, self._end_step)

    def _add_call(self, seconds):
        self.in_models += seconds

    def _end_step(self, seconds):
        self.steps.append(seconds)
        self.calls.append(self.in_models)
        self.in_models = 0.0

    def _wrapped(self, patcher, kind, note):
        def wrapper(executor, *args, **kwargs):
            start = time.perf_counter()
            try:
                return executor(*args, **kwargs)
            finally:
                note(time.perf_counter() - start)

        clone = patcher.clone()
        clone.add_wrapper(kind, wrapper)
        return clone

    def run(self, act) -> float:
        """Run `act` and return how long it took."""
        self._reset()
        start = time.perf_counter()
        act()
        return time.perf_counter() - start


def with_changed_weights(patcher, part):
    """Return a clone that changes every weight with `part` in its name, as a LoRA on all of them would."""
    clone = patcher.clone()
    weights = {key: weight for key, weight in patcher.model.state_dict().items() if weight.ndim > 1 and part in key}
    clone.add_patches({key: (0.01 * torch.randn_like(weight),) for key, weight in weights.items()})
    return clone


def large_model(seed):
    """Return a model of SD1.5's architecture and size, with random weights."""
    model = network("SD1.5", CPU, torch.float32)
    generator = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        weight.normal_(std=0.02, generator=generator)
    return comfy.model_patcher.ModelPatcher(model, CPU, CPU)


def measure(source, adapted, target, positive, negative, latent, steps) -> tuple[float, float, float]:
    """Return the seconds of a step's model calls, the pack's own in a step, and its own once a run."""
    clock = Clock()
    source, adapted, target = clock.on_model(source), clock.on_model(adapted), clock.on_target(target)
    shared = dict(seed=1, steps=steps, cfg=2.0, scheduler="karras", latent_image=latent)
    prompts = dict(positive=positive, negative=negative)

    plain = clock.run(lambda: run_node("KSampler", model=target, **prompts, **shared))
    around_run = plain - sum(clock.steps)
    around_call = statistics.median(step - calls for step, calls in zip(clock.steps, clock.calls, strict=True))

    models = dict(source=source, adapted=adapted, target=target)
    roles = {f"{role}_model": model for role, model in models.items()}
    roles |= {f"{role}_{kind}": said for role in models for kind, said in prompts.items()}
    delta = clock.run(lambda: run_node("DeltaKSampler", **roles, **shared))
    own = [step - calls - 3 * around_call for step, calls in zip(clock.steps, clock.calls, strict=True)]
    later = statistics.median(own[1:])
    return statistics.median(clock.calls), later, delta - sum(clock.steps) - around_run + own[0] - later


def row(case, runs, *inputs) -> str:
    """Return a table row: medians over `runs` measured runs, after one that warms up."""
    measure(*inputs)
    measured = [measure(*inputs) for _ in range(runs)]
    calls, own, once = (statistics.median(column) * 1e3 for column in zip(*measured, strict=True))
    share = statistics.median((own + once / STEPS) / calls for calls, own, once in measured)
    return f"| {case} | {calls:.1f} | {own:.2f} | {once:.1f} | {share:.1%} |"


def small_rows() -> Iterator[str]:
    source, adapted, target = (run_node("LabModel", name=name) for name in ("source", "source_ink", "target"))
    positive, negative = (run_node("LabPrompt", names=name) for name in ("airplane", ""))
    changed = with_changed_weights(source, "")
    for batch in (1, 8):
        inputs = (target, positive, negative, {"samples": torch.zeros(batch, 4, 16, 16)}, STEPS)
        yield row(f"lab, three models, batch {batch}", RUNS, source, adapted, *inputs)
        yield row(f"lab, pair on one checkpoint, every weight changed, batch {batch}", RUNS, source, changed, *inputs)


def large_rows() -> Iterator[str]:
    source, target = large_model(1), large_model(2)
    positive, negative = ([[torch.randn(1, 77, 768), {}]] for _ in range(2))
    inputs = (target, positive, negative, {"samples": torch.zeros(1, 4, 32, 32)}, LARGE_STEPS)
    yield row("SD1.5 size, three models", LARGE_RUNS, source, large_model(3), *inputs)
    for what, part in (("attention weight", "attn"), ("weight", "")):
        adapted = with_changed_weights(source, part)
        yield row(f"SD1.5 size, pair on one checkpoint, every {what} changed", LARGE_RUNS, source, adapted, *inputs)


def main() -> None:
    lines = [
        f"| case | model calls per step, ms | own per step, ms | own once a run, ms | own / calls, {STEPS} steps |"
    ]
    lines.append("|---|---|---|---|---|")
    with torch.inference_mode():
        for line in (*small_rows(), *large_rows()):
            lines.append(line)
    machine = f"{platform.machine()} CPU, {os.environ.get('OMP_NUM_THREADS', 'all')} thread(s)"
    setting = [
        f"ComfyUI {comfyui_version.__version__}, torch {torch.__version__}, {machine}; euler, cfg 2.",
        f"The lab's models: 64x64 pixels, {STEPS} steps, median of {RUNS} runs. SD1.5's architecture with random",
        f"weights: 256x256 pixels, {LARGE_STEPS} steps, median of {LARGE_RUNS}. Both sides of each ratio are of one",
        "run. A pair on one checkpoint works out the changed weights once a run and puts them in place for each call",
        "of its second model; both are counted as the pack's own.",
    ]
    text = "\n".join(["# Overhead", "", *setting, "", *lines, ""])
    TABLE.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
