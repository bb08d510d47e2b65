"""A LoRA pair of SD1.5 beside SDXL at full size, on the CPU: python -m harness benchmarks.full_size

Random weights, kept in half precision and calculated with in single, as ComfyUI does with --fp16-unet. Time of a step
and peak memory go to benchmarks/full_size.md. It takes half an hour on two cores and 12 GB.
"""

import os
import resource
import time
from pathlib import Path

import comfy.model_patcher
import comfyui_version
import torch
from comfy.model_patcher import ModelPatcher

from harness.nodes import run_node, with_lora

from .architectures import ARCHITECTURES
from .large import CFG, conditioning

TABLE = Path(__file__).parent / "full_size.md"
CPU = torch.device("cpu")
SIZE, STEPS, PAIR_SIZE = 128, 1, 512


def on_cpu(name: str) -> ModelPatcher:
    """Return a full-size model with random weights."""
    family, architecture = ARCHITECTURES[name]
    config = family({**architecture, "dtype": torch.float16})
    config.set_inference_dtype(torch.float16, torch.float32)
    with torch.inference_mode(False), torch.no_grad():
        model = config.get_model({}, device=CPU)
        for weight in model.parameters():
            weight.normal_(std=0.02)
    return comfy.model_patcher.ModelPatcher(model, CPU, CPU)


def seconds_a_step(model: ModelPatcher) -> float:
    """Return what a step of a KSampler takes, the preparation of the run with it."""
    prompt = conditioning("SDXL")
    latent = {"samples": torch.zeros(1, 4, SIZE, SIZE)}
    start = time.perf_counter()
    run_node("KSampler", model=model, positive=prompt, negative=prompt, cfg=CFG, steps=STEPS, latent_image=latent)
    return (time.perf_counter() - start) / STEPS


def lora_pair(base: ModelPatcher):
    """Return the DELTA of a LoRA on all attention weights, its pair at the size that it was made for."""
    prompt, adapted = conditioning("SD1.5"), with_lora(base, 1, rank=16, size=0.01)
    roles = {"source_model": base, "adapted_model": adapted}
    roles |= {f"{role}_{kind}": prompt for role in ("source", "adapted") for kind in ("positive", "negative")}
    delta = run_node("DeltaPair", **roles, cfg=CFG)
    return run_node("DeltaResolution", delta=delta, scale=PAIR_SIZE / (8 * SIZE))


@torch.inference_mode()
def main() -> None:
    lines = [
        f"ComfyUI {comfyui_version.__version__}, torch {torch.__version__}, {os.cpu_count()} CPU cores. Random weights "
        f"in half precision; SDXL at {8 * SIZE}, guided, {STEPS} step of a KSampler.",
        "",
        "| model | seconds a step | relative | peak memory of the process, GB |",
        "|---|---|---|---|",
    ]
    target, plain = on_cpu("SDXL"), None
    for case in ("plain SDXL", f"SDXL with a Delta Model: a LoRA pair of SD1.5 at {PAIR_SIZE}"):
        model = target if plain is None else run_node("DeltaModel", model=target, delta=lora_pair(on_cpu("SD1.5")))
        seconds = seconds_a_step(model)
        plain = plain or seconds
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
        lines.append(f"| {case} | {seconds:.0f} | {seconds / plain:.2f} | {peak:.1f} |")
        print(lines[-1], flush=True)
    TABLE.write_text("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
