"""The pack's own time beside the model calls it makes: python -m benchmarks.overhead

Wrappers of the host, put on each model, time every prediction. What a run spends beyond the
predictions of its three models is the pack's own: adding deltas, checking them, handing modules
over, and, once a run, opening the branches. The table goes to benchmarks/overhead.md.
"""

import os
import platform
import statistics
import time
from collections import Counter
from pathlib import Path

from lab.host import LAB, REPOSITORY, load_host

load_host(REPOSITORY, LAB)

import comfy.patcher_extension
import comfyui_version
import nodes as host_nodes
import torch

TABLE = Path(__file__).parent / "overhead.md"
RUNS, STEPS = 7, 20
WRAPPERS = comfy.patcher_extension.WrappersMP


def timed(patcher, kind, spent, name):
    """Return a clone whose wrapped calls add their time to `spent[name]`."""

    def wrapper(executor, *args, **kwargs):
        start = time.perf_counter()
        try:
            return executor(*args, **kwargs)
        finally:
            spent[name] += time.perf_counter() - start

    clone = patcher.clone()
    clone.add_wrapper(kind, wrapper)
    return clone


def with_changed_weights(patcher):
    """Return a clone that changes every weight, as the largest LoRA would."""
    clone = patcher.clone()
    weights = {key: weight for key, weight in patcher.model.state_dict().items() if weight.ndim > 1}
    clone.add_patches({key: (0.01 * torch.randn_like(weight),) for key, weight in weights.items()})
    return clone


def measure(source, adapted, target, batch: int) -> tuple[float, float, float]:
    """Return one run's time in model predictions, the pack's own per-step time and its time once a run (seconds)."""
    mapping = host_nodes.NODE_CLASS_MAPPINGS
    names = ", ".join(["circle"] * batch)
    positive, negative = (mapping["LabPrompt"].execute(names=n, copies=1).result[0] for n in (names, ""))
    latent = {"samples": torch.zeros(batch, 4, 16, 16)}
    spent = Counter()
    source = timed(source, WRAPPERS.PREDICT_NOISE, spent, "branches")
    adapted = timed(adapted, WRAPPERS.PREDICT_NOISE, spent, "branches")
    target = timed(timed(target, WRAPPERS.CALC_COND_BATCH, spent, "target"), WRAPPERS.PREDICT_NOISE, spent, "steps")

    def total(run):
        spent.clear()
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    shared = (1, STEPS, 2.0, "euler", "karras")
    plain = total(lambda: host_nodes.KSampler().sample(target, *shared, positive, negative, latent, 1.0))
    plain_around, plain_step = plain - spent["steps"], spent["steps"] - spent["target"]
    roles = (source, positive, negative, adapted, positive, negative, target, positive, negative)
    delta = total(lambda: mapping["DeltaKSampler"].execute(*roles, 1.0, *shared, latent, 1.0))
    predictions = spent["branches"] + spent["target"] + plain_step
    return predictions, spent["steps"] - predictions, delta - spent["steps"] - plain_around


def main() -> None:
    with torch.inference_mode():
        source, adapted, target = (
            host_nodes.NODE_CLASS_MAPPINGS["LabModel"].execute(name=name).result[0]
            for name in ("source", "adapted", "target")
        )
        cases = {
            "three models, 1 picture": (source, adapted, target, 1),
            "three models, 8 pictures": (source, adapted, target, 8),
            "pair on one checkpoint, every weight changed, 1 picture": (
                source, with_changed_weights(source), target, 1,
            ),
            "pair on one checkpoint, every weight changed, 8 pictures": (
                source, with_changed_weights(source), target, 8,
            ),
        }  # fmt: skip
        lines = ["| case | model predictions, ms | own per step, ms | own once a run, ms | own / predictions |"]
        lines.append("|---|---|---|---|---|")
        for case, inputs in cases.items():
            measure(*inputs)
            runs = [measure(*inputs) for _ in range(RUNS)]
            calls, steps, once = (statistics.median(column) * 1e3 for column in zip(*runs, strict=True))
            share = statistics.median((own + start) / call for call, own, start in runs)
            lines.append(f"| {case} | {calls:.0f} | {steps / STEPS:.2f} | {once:.1f} | {share:.1%} |")
    setting = (
        f"ComfyUI {comfyui_version.__version__}, torch {torch.__version__}, {platform.machine()} CPU, "
        f"{os.environ.get('OMP_NUM_THREADS', 'all')} thread(s); the lab's models at 64x64 pixels, euler, {STEPS} "
        f"steps, cfg 2, median of {RUNS} runs. Both sides of each ratio are of the same run."
    )
    text = "\n".join(["# Overhead", "", setting, "", *lines, ""])
    TABLE.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
