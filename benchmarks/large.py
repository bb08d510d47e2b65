"""Full-size models with random weights: python -m harness --gpu benchmarks.large

Counts the floating-point operations of the architectures of SD1.5, SDXL and SD3.5 medium without
running them, and what a run with a delta costs relative to the plain target. Where there is an NVIDIA
GPU it also measures the time of a step and the peak memory there. Tables go to benchmarks/large.md.
"""

import platform
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import comfy.ldm.modules.attention
import comfy.model_management
import comfy.model_patcher
import comfyui_version
import torch
from comfy.model_patcher import ModelPatcher
from comfy.taesd.taesd import TAESD
from torch.utils.flop_counter import FlopCounterMode

from harness.nodes import option, run_node, with_lora

from .architectures import ARCHITECTURES, network

TABLE = Path(__file__).parent / "large.md"
RUNS, STEPS, CFG, SIZE = 3, 12, 5.0, 128
CONTEXTS = {"SD1.5": (77, 768), "SDXL": (77, 2048), "SD3.5 medium": (154, 4096)}
POOLED = {"SD1.5": None, "SDXL": 1280, "SD3.5 medium": 2048}
VECTORS = {"SD1.5": None, "SDXL": 2816, "SD3.5 medium": 2048}


def operations(name: str, size: int) -> float:
    """Return the floating-point operations (10^12) of one sample at a latent of `size` by `size`."""
    model = network(name, torch.device("meta"), torch.float32).diffusion_model
    latent = torch.zeros(1, ARCHITECTURES[name][1]["in_channels"], size, size, device="meta")
    context = torch.zeros(1, *CONTEXTS[name], device="meta")
    vector = {"y": torch.zeros(1, VECTORS[name], device="meta")} if VECTORS[name] else {}

    def plain_attention(function, *args, **kwargs):
        # The host's default for a CPU asks the device for its free memory.
        return comfy.ldm.modules.attention.attention_pytorch(*args, **kwargs)

    options = {"optimized_attention_override": plain_attention}
    with FlopCounterMode(display=False) as counter:
        model(latent, torch.zeros(1, device="meta"), context, transformer_options=options, **vector)
    return counter.get_total_flops() / 1e12


def bridge_operations() -> float:
    """Return the operations (10^12) of one call over a bridge of tiny autoencoders: SDXL at 1024, its pair at 512."""

    def of(size: int, decode: bool) -> float:
        with torch.device("meta"):
            coder = TAESD(latent_channels=4)
            given = torch.zeros(1, 4, size // 8, size // 8) if decode else torch.zeros(1, 3, size, size)
            with FlopCounterMode(display=False) as counter:
                coder.decode(given) if decode else coder.encode(given)
        return counter.get_total_flops() / 1e12

    return of(1024, True) + of(512, False) + 2 * (of(512, True) + of(1024, False))


def operations_table() -> list[str]:
    """Return the cost of a step with a delta, relative to the plain target, as markdown."""
    sizes = [("SD1.5", 64), ("SD1.5", 128), ("SDXL", 128), ("SD3.5 medium", 128)]
    counted = {key: operations(*key) for key in sizes}
    lines = [
        "| model | picture | 10^12 operations a sample |",
        "|---|---|---|",
        *(f"| {name} | {8 * size} | {found:.2f} |" for (name, size), found in counted.items()),
        "",
        "| target | pair | pair's guidance | evaluated | operations of a run, relative to the plain target |",
        "|---|---|---|---|---|",
    ]
    for target in (("SDXL", 128), ("SD3.5 medium", 128)):
        for source in (("SD1.5", 128), ("SD1.5", 64)):
            for guidance, rows in (("kept", 2), ("off", 1)):
                for every in (1, 2, 6):
                    total = 1 + 2 * rows * counted[source] / every / (2 * counted[target])
                    evaluated = "every step" if every == 1 else f"every {every} steps"
                    pair = f"{source[0]} at {8 * source[1]}"
                    lines.append(f"| {target[0]} at 1024 | {pair} | {guidance} | {evaluated} | {total:.2f} |")
    whole, step = bridge_operations(), 2 * counted["SDXL", 128]
    return [
        *lines,
        "",
        "A Latent Bridge VAE of tiny autoencoders (taesd, taesdxl): three round trips, SDXL at 1024, its pair at 512:",
        f"{whole:.2f} 10^12 operations a call, {whole / step:.2f} of SDXL's two evaluations.",
    ]


@dataclass(frozen=True)
class Case:
    """A delta on the GPU: the pair's architecture, its models, and the options of the delta by node."""

    pair: str
    source: ModelPatcher
    adapted: ModelPatcher
    options: dict


def on_gpu(name: str) -> ModelPatcher:
    """Return a full-size model with random weights, to be loaded to the GPU."""
    with torch.inference_mode(False), torch.no_grad():
        model = network(name, torch.device("cpu"), torch.float16)
        for weight in model.parameters():
            weight.normal_(std=0.02)
    device = comfy.model_management.get_torch_device()
    return comfy.model_patcher.CoreModelPatcher(model, device, torch.device("cpu"))


def conditioning(name: str) -> list:
    pooled = {"pooled_output": torch.zeros(1, POOLED[name])} if POOLED[name] else {}
    return [[0.1 * torch.randn(1, *CONTEXTS[name]), pooled]]


def run(case: Case | None, target: ModelPatcher, name: str) -> tuple[float, float]:
    """Return seconds a step and the peak of allocated GPU memory (GB) of a run; without a case the plain target's."""
    delta = ()
    if case is not None:
        prompt = conditioning(case.pair)
        roles = {"source_model": case.source, "adapted_model": case.adapted}
        roles |= {f"{role}_{kind}": prompt for role in ("source", "adapted") for kind in ("positive", "negative")}
        delta = run_node("DeltaPair", **roles, cfg=CFG)
        for name_of_option, settings in case.options.items():
            delta = option(name_of_option, delta, **settings)
    latent = {"samples": torch.zeros(1, ARCHITECTURES[name][1]["in_channels"], SIZE, SIZE)}
    own = conditioning(name)
    inputs = {"model": target, "positive": own, "negative": own, "delta": delta, "cfg": CFG, "latent_image": latent}
    seconds = []
    for steps in (2, STEPS + 2):
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
        start = time.perf_counter()
        run_node("DeltaKSamplerAdvanced", **inputs, steps=steps, scheduler="normal")
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return (seconds[1] - seconds[0]) / STEPS, torch.cuda.max_memory_allocated() / 1e9


def gpu_table() -> list[str]:
    """Return time and memory on the GPU, as markdown."""
    lines = ["| target | case | ms a step | relative to the plain target | peak memory, GB |", "|---|---|---|---|---|"]
    reuse = {"DeltaReuse": {"every": 2, "extrapolate": True}}
    native = {"DeltaResolution": {"scale": 0.5}}
    # A pair for SD3.5 has SD3.5's latents, so that no bridge comes into the figures.
    for name, pair in (("SD1.5", "SD1.5"), ("SDXL", "SD1.5"), ("SD3.5 medium", "SD3.5 medium")):
        base, target = on_gpu(pair), on_gpu(name)
        lora = with_lora(base, 1, rank=16, size=0.01)
        cases = {
            "plain target": None,
            "three models, naive": Case(pair, base, on_gpu(pair), {}),
            "shared weights": Case(pair, base, lora, {}),
            "shared weights, reuse every 2": Case(pair, base, lora, reuse),
            "shared weights, pair at half size": Case(pair, base, lora, native),
            "shared weights, pair at half size, reuse every 2": Case(pair, base, lora, native | reuse),
        }
        plain = None
        for case_name, case in cases.items():
            comfy.model_management.unload_all_models()
            found = [run(case, target, name) for _ in range(RUNS)]
            seconds, memory = statistics.median(s for s, _ in found), max(m for _, m in found)
            plain = plain or seconds
            lines.append(f"| {name} | {case_name} | {1e3 * seconds:.1f} | {seconds / plain:.2f} | {memory:.2f} |")
            print(lines[-1], flush=True)
    return lines


@torch.inference_mode()
def main() -> None:
    versions = f"ComfyUI {comfyui_version.__version__}, torch {torch.__version__}"
    how = f"{versions}. The weights are random: only costs count here, not pictures."
    lines = [how, "", "## Operations, counted", "", *operations_table(), ""]
    lines += ["## On a CPU", "", "SDXL and a pair of SD1.5 in full size, run once: [full_size.md](full_size.md).", ""]
    lines += ["## On a GPU", ""]
    if torch.cuda.is_available():
        lines += [
            f"{torch.cuda.get_device_name()}, {platform.system()}, float16, batch 1, 1024 pixels.",
            "",
            *gpu_table(),
        ]
    else:
        lines += ["Not measured: there was no NVIDIA GPU. `make bench` measures it where there is one."]
    TABLE.write_text("\n".join([*lines, ""]))
    print(TABLE.read_text())


if __name__ == "__main__":
    main()
