"""Inputs that several nodes share, so that they read and behave alike."""

import inspect
from collections.abc import Callable
from functools import wraps
from numbers import Real

import comfy.samplers
import nodes as host_nodes
from comfy_api.latest import io

from ..sampling.errors import require_number

CATEGORY = f"{host_nodes.KSampler.CATEGORY}/delta sampling"

# Their values are a sampling.delta.Deltas, and a Bridge of the same module.
DeltaType = io.Custom("DELTA")
BridgeType = io.Custom("LATENT_BRIDGE")

ROLE_TOOLTIPS = {
    "source": {
        "model": "The base model that the adapter was made for, without the adapter.",
        "positive": "The prompt, encoded by the source model's own CLIP.",
        "negative": "The negative prompt, encoded by the source model's own CLIP.",
    },
    "adapted": {
        "model": "The source model with its LoRA, or a fine-tune of it. The same model as source_model if only "
        "the conditioning differs (ControlNet, another prompt).",
        "positive": "The prompt as the adapter wants it (trigger words, ControlNet applied), encoded by the adapted "
        "model's CLIP.",
        "negative": "The negative prompt, encoded by the adapted model's CLIP.",
    },
    "target": {
        "model": "The new model that makes the picture and receives the delta.",
        "positive": "The prompt, encoded by the target model's own CLIP.",
        "negative": "The negative prompt, encoded by the target model's own CLIP.",
    },
}


def with_finite_numbers(execute: Callable[..., io.NodeOutput]) -> Callable[..., io.NodeOutput]:
    """Return a node's `execute` that raises DeltaError for a number that is NaN or infinite.

    The host compares numbers with their least and their greatest, which lets NaN pass, and checks none of a script.
    """
    names = list(inspect.signature(execute).parameters)[1:]

    @wraps(execute)
    def checked(cls, *args, **inputs):
        node = cls.define_schema().display_name
        for name, given in [*zip(names, args, strict=False), *inputs.items()]:
            for value in given if isinstance(given, list) else [given]:
                if isinstance(value, Real):
                    require_number(f"{name} of the {node}", value)
        return execute(cls, *args, **inputs)

    return checked


def role_inputs(role: str, prefix: str = "") -> list[io.Input]:
    """Return the model, positive and negative inputs of a role, their names begun with `prefix`."""
    tips = ROLE_TOOLTIPS[role]
    return [
        io.Model.Input(f"{prefix}model", tooltip=tips["model"]),
        io.Conditioning.Input(f"{prefix}positive", tooltip=tips["positive"]),
        io.Conditioning.Input(f"{prefix}negative", tooltip=tips["negative"]),
    ]


STRENGTH_TOOLTIP = (
    "How much of the delta is added. 1 is the adapter's full effect, 0 none at no cost, negative values push away "
    "from it."
)


def strength_input(name: str, tooltip: str = STRENGTH_TOOLTIP) -> io.Input:
    return io.Float.Input(name, default=1.0, min=-10.0, max=10.0, step=0.05, tooltip=tooltip)


def percent_input(name: str, default: float, tooltip: str) -> io.Input:
    """Return a place in the run, as ComfyUI's ControlNet nodes count it: 0 is the start, 1 the end."""
    return io.Float.Input(name, default=default, min=0.0, max=1.0, step=0.001, tooltip=tooltip)


def window_problem(start_percent: float | None, end_percent: float | None) -> str | None:
    """Return what is wrong with a window of the run; what is connected has no value yet."""
    if start_percent is None or end_percent is None or not start_percent > end_percent:
        return None
    return (
        f"start_percent is {start_percent} and end_percent {end_percent}, so the node would never act. Set "
        "start_percent to at most end_percent."
    )


def delta_input(tooltip: str = "The delta to change, from a Delta Pair or another option.") -> io.Input:
    return DeltaType.Input("delta", tooltip=tooltip)


def delta_to_add() -> io.Input:
    return delta_input("What to add to the model's predictions, from a Delta Pair.")


def delta_output(tooltip: str = "The changed delta.") -> io.Output:
    return DeltaType.Output(display_name="delta", tooltip=tooltip)


def cfg_input(tooltip: str) -> io.Input:
    return io.Float.Input("cfg", default=7.0, min=0.0, max=100.0, step=0.1, round=0.01, tooltip=tooltip)


def seed_input(name: str) -> io.Input:
    return io.Int.Input(
        name,
        default=0,
        min=0,
        max=0xFFFFFFFFFFFFFFFF,
        control_after_generate=True,
        tooltip="The seed of the noise. The same seed gives the same picture as in a KSampler.",
    )


def steps_input() -> io.Input:
    return io.Int.Input(
        "steps",
        default=20,
        min=1,
        max=10000,
        tooltip="The number of denoising steps. Each step runs the target and the models of the delta.",
    )


def sampler_inputs() -> list[io.Input]:
    return [
        io.Combo.Input(
            "sampler_name",
            options=comfy.samplers.KSampler.SAMPLERS,
            tooltip="Any sampler of this ComfyUI. It samples the target model; the delta works with all of them.",
        ),
        io.Combo.Input(
            "scheduler",
            options=comfy.samplers.KSampler.SCHEDULERS,
            tooltip="How the noise is spread over the steps. It follows the target model.",
        ),
    ]


def latent_input() -> io.Input:
    return io.Latent.Input(
        "latent_image",
        tooltip="The latent to denoise, as for a KSampler: empty, or an encoded image, with or without a noise mask. "
        "It belongs to the target model.",
    )
