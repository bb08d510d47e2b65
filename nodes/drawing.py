"""The report of a run as a picture: size, direction and place of each delta."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..sampling.errors import DeltaError
from ..sampling.trace import Trace


def draw(traces: Sequence[Trace], width: int = 1200) -> Tensor:
    """Return the report of `traces` as an image [1, H, W, 3] in 0..1, a row for each.

    Raises DeltaError where matplotlib is missing or no delta has run.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DeltaError(
            "The report is drawn with matplotlib, which is not installed in ComfyUI's Python. Install it there: "
            "pip install matplotlib"
        ) from error
    traces = [trace for trace in traces if trace.entries]
    if not traces:
        raise DeltaError(
            "There is nothing to report: the delta has not run yet, or its strength was 0 all the time. Connect "
            "samples to the output of the sampler that used this delta, so that the report comes after it."
        )
    figure = Figure(figsize=(width / 100, 3.4 * len(traces)), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    rows = figure.subplots(len(traces), 3, squeeze=False, width_ratios=(4, 4, 3))
    for number, (trace, row) in enumerate(zip(traces, rows, strict=True), start=1):
        name = "delta" if len(traces) == 1 else f"delta {number}"
        _draw_one(trace, name, *row)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    return torch.from_numpy(pixels.astype(np.float32) / 255)[None]


def _draw_one(trace: Trace, name: str, size_axes, angle_axes, heat_axes) -> None:
    numbers = trace.numbers()
    calls = np.arange(1, len(trace.entries) + 1)
    evaluated = np.array(numbers["evaluated"])
    angles = np.degrees(np.arccos(np.clip(numbers["cosine"], -1, 1)))
    for axes, values, title in (
        (size_axes, np.array(numbers["size"]), f"{name}: size relative to the prediction"),
        (angle_axes, angles, "angle to the prediction, degrees"),
    ):
        axes.plot(calls, values, color="lightgray", zorder=1)
        axes.scatter(calls[evaluated], values[evaluated], s=22, color="tab:blue", label="evaluated", zorder=2)
        if not evaluated.all():
            axes.scatter(calls[~evaluated], values[~evaluated], s=22, color="tab:orange", label="reused", zorder=2)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("model call with the delta")
    size_axes.set_ylim(bottom=0)
    size_axes.legend(fontsize=8)
    angle_axes.set_ylim(0, 180)
    angle_axes.axhline(90, color="gray", linewidth=0.8, linestyle=":")
    heat_axes.imshow(trace.heat.float().cpu().numpy(), cmap="inferno")
    heat_axes.set_title("where it acted (mean of the batch)", fontsize=10)
    heat_axes.set_xticks([])
    heat_axes.set_yticks([])
