"""The preset that keeps most of a delta for a small part of its price."""

from dataclasses import replace

from .delta import Delta
from .reuse import Reuse
from .schedule import Schedule

# Chosen on the lab's models, see benchmarks/options.md. In the first steps there is nothing but noise yet.
REUSE, WINDOW = Reuse(every=6, extrapolate=True), Schedule(start_percent=0.04)


def fast(delta: Delta, keep_guidance: bool) -> Delta:
    """Return `delta` evaluated rarely, and without guidance of its pair unless `keep_guidance`.

    Beside the target's own prediction, which is guided, the source stays guided too.
    """
    if delta.adapted is not None and not keep_guidance:
        source, adapted = (replace(branch, cfg=1.0) for branch in (delta.source, delta.adapted))
        delta = replace(delta, source=source, adapted=adapted)
    return replace(delta, reuse=REUSE, schedules=(*delta.schedules, WINDOW))
