"""The preset that keeps most of a delta for a small part of its price."""

import math
from dataclasses import replace

from .delta import Delta
from .reuse import Reuse

# How the pair is guided.
AUTO, OFF, KEPT = "auto", "off", "kept"

# Noise-to-signal ratios: colors are settled at high noise, details from 3 to 0.3. Chosen by trial (docs/evidence.md).
REUSE = Reuse(places=(math.inf, 4.0, 1.6, 0.7))
GUIDED = 2.5, 6.0  # around the second place alone


def fast(delta: Delta, guidance: str) -> Delta:
    """Return `delta` evaluated rarely; its pair's guidance is `KEPT`, `OFF`, or `AUTO`: asked at the second place.

    Beside the target's own prediction, which is guided, the source stays guided too.
    """
    if delta.adapted is not None and guidance != KEPT:
        change = {"guided": GUIDED} if guidance == AUTO else {"cfg": 1.0}
        source, adapted = (replace(branch, **change) for branch in (delta.source, delta.adapted))
        delta = replace(delta, source=source, adapted=adapted)
    return replace(delta, reuse=REUSE)
