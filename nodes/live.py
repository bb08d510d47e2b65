"""Tells the browser that queued a run what the deltas add, call by call, for the chart on the node.

The front end's side is `web/live_chart.js`.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any

from comfy_execution.progress import get_progress_state
from comfy_execution.utils import get_executing_context
from server import PromptServer

EVENT = "delta_sampling.call"


def chart() -> Callable | None:
    """Return what `with_deltas` takes as `watch`: it draws the chart on the node that is executing now.

    The runs may come later and, where the host has kept the node's output, for other clients.
    """
    context = get_executing_context()
    if context is None:
        return None
    # A loop runs copies of a node, which have ids of their own.
    shown = get_progress_state().dynprompt.get_display_node_id(context.node_id)

    def watch(steps: int) -> Callable | None:
        server: Any = getattr(PromptServer, "instance", None)
        client = getattr(server, "client_id", None)
        # Without a client a message would go to everyone.
        if client is None:
            return None
        calls = itertools.count(1)

        def show(added) -> None:
            # JSON knows no infinity.
            deltas = [
                None if each is None or not math.isfinite(each[0]) else {"size": each[0], "evaluated": each[1]}
                for each in added
            ]
            about = {"node": shown, "call": next(calls), "steps": steps, "deltas": deltas}
            server.send_sync(EVENT, about, client)

        return show

    return watch
