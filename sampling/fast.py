"""The preset that keeps most of a delta for a small part of its price."""

from dataclasses import replace

from .delta import Delta
from .reuse import Reuse

# Chosen on the lab's models, see benchmarks/price.md. Colours turn at high noise, details come at 3 to 0.3.
REUSE = Reuse(places=(4.0, 1.6, 0.7))


def fast(delta: Delta, keep_guidance: bool) -> Delta:
    """Return `delta` evaluated rarely, and without guidance of its pair unless `keep_guidance`.

    Beside the target's own prediction, which is guided, the source stays guided too.
    """
    if delta.adapted is not None and not keep_guidance:
        source, adapted = (replace(branch, cfg=1.0) for branch in (delta.source, delta.adapted))
        delta = replace(delta, source=source, adapted=adapted)
    return replace(delta, reuse=REUSE)
