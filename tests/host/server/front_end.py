"""The front end in the `page`: what its user sees and does on the pack's nodes."""

from contextlib import contextmanager

PACK = "/extensions/comfyui-delta-sampling/"


@contextmanager
def no_problems(page):
    """Fail where the page had an uncaught error, or the console an error or a warning that names the pack."""
    found = []

    def uncaught(error):
        found.append(str(error))

    def console(message):
        said = message.text + message.location["url"]
        if message.type in ("error", "warning") and (PACK in said or "delta_sampling" in said):
            found.append(said)

    page.on("pageerror", uncaught)
    page.on("console", console)
    try:
        yield
        assert found == []
    finally:
        page.remove_listener("pageerror", uncaught)
        page.remove_listener("console", console)


def set_renderer(page, nodes_2):
    """Draw nodes as Nodes 2.0 does, or on the canvas."""
    page.evaluate("on => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)", nodes_2)


def open_prompt(page, nodes, shown=None):
    """Open an API-format prompt as a workflow, at the node `shown`."""
    page.evaluate("prompt => app.loadApiJson(prompt, 'test')", nodes)
    if shown is not None:
        look_at(page, shown)


def look_at(page, number):
    page.evaluate(
        """number => {
            const [x, y] = app.graph.getNodeById(number).pos;
            app.canvas.ds.scale = 1;
            app.canvas.ds.offset = [150 - x, 150 - y];
            app.canvas.setDirty(true, true);
        }""",
        number,
    )


def widgets(page, number):
    """Return the values of a node's widgets by name, as the node holds them."""
    return page.evaluate(
        "number => Object.fromEntries(app.graph.getNodeById(number).widgets"
        ".filter(each => each.serialize !== false).map(each => [each.name, each.value]))",
        number,
    )


def listeners(page, target):
    """Return how many listeners the event target, a JavaScript expression, has; all of them, whoever added them."""
    session = page.context.new_cdp_session(page)
    found = session.send("Runtime.evaluate", {"expression": target})["result"]["objectId"]
    return len(session.send("DOMDebugger.getEventListeners", {"objectId": found})["listeners"])
