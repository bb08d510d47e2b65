"""The report of a run as a picture: size, direction and place of each delta."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..sampling.errors import DeltaError
from ..sampling.trace import Trace
from .charts import Box, Canvas, heat_map, legend, line_chart, nice_step

WIDTH, ROW = 1200, 340


def draw(traces: Sequence[Trace]) -> Tensor:
    """Return the report of `traces` as an image [1, H, W, 3] in 0..1, a row for each.

    Raises DeltaError where no delta has run.
    """
    traces = [trace for trace in traces if trace.entries]
    if not traces:
        raise DeltaError(
            "There is nothing to report: the delta has not run yet, or its strength was 0 all the time. Connect "
            "samples to the output of the sampler that used this delta, so that the report comes after it."
        )
    canvas = Canvas(WIDTH, ROW * len(traces))
    for row, trace in enumerate(traces):
        _draw_one(canvas, row * ROW, trace, "delta" if len(traces) == 1 else f"delta {row + 1}")
    return torch.from_numpy(np.array(canvas.picture(), dtype=np.float32) / 255)[None]


def _draw_one(canvas: Canvas, top: int, trace: Trace, name: str) -> None:
    numbers = trace.numbers()
    evaluated, sizes = numbers["evaluated"], np.array(numbers["size"])
    angles = np.degrees(np.arccos(np.clip(numbers["cosine"], -1, 1)))
    largest = 1.08 * max((size for size in sizes if np.isfinite(size)), default=0) or 1
    left, middle, right = (Box(a, top + 34, b, top + 276) for a, b in ((58, 448), (508, 898), (932, 1182)))
    line_chart(
        canvas, left, f"{name}: size relative to the prediction", sizes, evaluated, largest, nice_step(largest, 7)
    )
    legend(canvas, left, not all(evaluated))
    line_chart(canvas, middle, "angle to the prediction, degrees", angles, evaluated, 180, 30, stressed=90)
    heat_map(canvas, right, "where it acted (mean of the batch)", trace.heat.float().nan_to_num().cpu().numpy())
