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
from collections.abc import Iterator
from pathlib import Path

from lab.host import LAB, REPOSITORY, load_host

load_host(REPOSITORY, LAB)

import comfy.model_base
import comfy.model_patcher
import comfy.patcher_extension
import comfy.supported_models
import comfyui_version
import nodes as host_nodes
import torch

TABLE = Path(__file__).parent / "overhead.md"
RUNS, STEPS = 7, 20
LARGE_RUNS, LARGE_STEPS = 3, 2
CPU = torch.device("cpu")
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


def with_changed_weights(patcher, part):
    """Return a clone that changes every weight with `part` in its name, as a LoRA on all of them would."""
    clone = patcher.clone()
    weights = {key: weight for key, weight in patcher.model.state_dict().items() if weight.ndim > 1 and part in key}
    clone.add_patches({key: (0.01 * torch.randn_like(weight),) for key, weight in weights.items()})
    return clone


def large_model(seed):
    """Return a model of SD1.5's architecture and size, with random weights."""
    unet = {
        "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 320, "num_res_blocks": [2, 2, 2, 2],
        "channel_mult": [1, 2, 4, 4], "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
        "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0], "transformer_depth_middle": 1,
        "context_dim": 768, "num_heads": 8, "num_head_channels": -1, "use_spatial_transformer": True,
        "use_linear_in_transformer": False, "legacy": False, "adm_in_channels": None, "dtype": torch.float32,
    }  # fmt: skip
    model = comfy.model_base.BaseModel(comfy.supported_models.SD15(unet), device=CPU)
    generator = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        weight.normal_(std=0.02, generator=generator)
    return comfy.model_patcher.ModelPatcher(model, CPU, CPU)


def measure(source, adapted, target, positive, negative, latent, steps) -> tuple[float, float, float]:
    """Return one run's time in model predictions, the pack's own per-step time and its time once a run (seconds)."""
    spent = Counter()
    source = timed(source, WRAPPERS.PREDICT_NOISE, spent, "branches")
    adapted = timed(adapted, WRAPPERS.PREDICT_NOISE, spent, "branches")
    target = timed(timed(target, WRAPPERS.CALC_COND_BATCH, spent, "target"), WRAPPERS.PREDICT_NOISE, spent, "steps")

    def total(run):
        spent.clear()
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    shared = (1, steps, 2.0, "euler", "karras")
    plain = total(lambda: host_nodes.KSampler().sample(target, *shared, positive, negative, latent, 1.0))
    plain_around, plain_step = plain - spent["steps"], spent["steps"] - spent["target"]
    roles = (source, positive, negative, adapted, positive, negative, target, positive, negative)
    node = host_nodes.NODE_CLASS_MAPPINGS["DeltaKSampler"]
    delta = total(lambda: node.execute(*roles, 1.0, *shared, latent, 1.0))
    predictions = spent["branches"] + spent["target"] + plain_step
    return predictions, spent["steps"] - predictions, delta - spent["steps"] - plain_around


def row(case, runs, *inputs) -> str:
    """Return a table row: medians over `runs` measured runs, after one that warms up."""
    measure(*inputs)
    measured = [measure(*inputs) for _ in range(runs)]
    steps = inputs[-1]
    predictions, own, once = (statistics.median(column) * 1e3 for column in zip(*measured, strict=True))
    share = statistics.median((own_steps + start) / calls for calls, own_steps, start in measured)
    return f"| {case} | {predictions:.0f} | {own / steps:.2f} | {once:.1f} | {share:.1%} |"


def small_rows() -> Iterator[str]:
    nodes = host_nodes.NODE_CLASS_MAPPINGS
    source, adapted, target = (nodes["LabModel"].execute(name).result[0] for name in ("source", "adapted", "target"))
    positive, negative = (nodes["LabPrompt"].execute(name, 1).result[0] for name in ("circle", ""))
    changed = with_changed_weights(source, "")
    for batch in (1, 8):
        inputs = (target, positive, negative, {"samples": torch.zeros(batch, 4, 16, 16)}, STEPS)
        yield row(f"lab, three models, batch {batch}", RUNS, source, adapted, *inputs)
        yield row(f"lab, pair on one checkpoint, every weight changed, batch {batch}", RUNS, source, changed, *inputs)


def large_rows() -> Iterator[str]:
    source, target = large_model(1), large_model(2)
    positive, negative = ([[torch.randn(1, 77, 768), {}]] for _ in range(2))
    inputs = (target, positive, negative, {"samples": torch.zeros(1, 4, 32, 32)}, LARGE_STEPS)
    for what, part in (("attention weight", "attn"), ("weight", "")):
        adapted = with_changed_weights(source, part)
        yield row(f"SD1.5 size, pair on one checkpoint, every {what} changed", LARGE_RUNS, source, adapted, *inputs)


def main() -> None:
    lines = ["| case | model predictions, ms | own per step, ms | own once a run, ms | own / predictions |"]
    lines.append("|---|---|---|---|---|")
    with torch.inference_mode():
        for line in (*small_rows(), *large_rows()):
            lines.append(line)
    setting = (
        f"ComfyUI {comfyui_version.__version__}, torch {torch.__version__}, {platform.machine()} CPU, "
        f"{os.environ.get('OMP_NUM_THREADS', 'all')} thread(s). The lab's models at 64x64 pixels, {STEPS} steps, median "
        f"of {RUNS} runs; SD1.5's architecture with random weights at 256x256 pixels, {LARGE_STEPS} steps, median of "
        f"{LARGE_RUNS}; euler, cfg 2. Both sides of each ratio are of the same run. The swap of weights for a pair on "
        "one checkpoint is the host's work, and counted as the pack's own."
    )
    text = "\n".join(["# Overhead", "", setting, "", *lines, ""])
    TABLE.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
