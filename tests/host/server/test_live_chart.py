"""The chart of a run: in the browser that queued it, and nowhere else."""

import json
import time
from contextlib import closing

import pytest
import websocket

from .front_end import listeners, no_problems, open_prompt, set_renderer, widgets
from .prompts import Prompt

EVENT = "delta_sampling.call"
EVALUATED, REUSED = "evaluated", "reused"
EMPTY = "The sizes of the deltas show here during a run"
MARKS = """svg => {
    const marks = delta => [...delta.querySelectorAll("[class]")].map(mark => mark.getAttribute("class"));
    return [...svg.querySelectorAll(".delta")].map(marks);
}"""

TITLE_TO_LEGEND = """svg => {
    const title = [...svg.querySelectorAll("text")].find(text => text.textContent === "delta size").getBBox();
    return svg.querySelector(".legend").getBBox().x - (title.x + title.width);
}"""


def delta_ksampler(prompt, delta, seed, steps):
    latent = prompt.delta_ksampler("source", "source_ink", "target", seed=seed, steps=steps)
    return latent, latent


def delta_ksampler_advanced(prompt, delta, seed, steps):
    latent = prompt.delta_ksampler_advanced("target", delta, seed=seed, steps=steps)
    return latent, latent


def delta_guider(prompt, delta, seed, steps):
    guider = prompt.delta_guider("target", delta)
    return guider, prompt.custom_sampler("target", guider, seed, steps)


def delta_model(prompt, delta, seed, steps):
    model = prompt.add("DeltaModel", model=prompt.model("target"), delta=delta)
    return model, prompt.ksampler(model, seed=seed, steps=steps)


def build(sampler, seed, steps):
    """Return (prompt, id of the node with the chart), with a delta that is reused every second step."""
    prompt = Prompt()
    delta = prompt.add("DeltaReuse", delta=prompt.delta_pair(), every=2, threshold=0.0, extrapolate=False)
    shown, latent = sampler(prompt, delta, seed, steps)
    prompt.preview(latent)
    return prompt.nodes, shown[0]


def queue_in(page, calls):
    """Queue what is open and return the marks of each delta when the chart has come to `calls` calls."""
    page.evaluate("app.queuePrompt(0)")
    chart = page.locator(f"svg[role=img][aria-label$='model call {calls} of {calls}']")
    chart.wait_for(state="attached", timeout=60_000)
    return chart.evaluate(MARKS)


def onlooker_of(server):
    """Return a websocket of another client."""
    return closing(websocket.create_connection(f"ws://{server.address}/ws?clientId=onlooker", timeout=2))


def kinds_of_messages(onlooker):
    """Return what has come, and comes until nothing does."""
    seen = []
    with pytest.raises(websocket.WebSocketTimeoutException):
        while True:
            message = onlooker.recv()
            seen.append(json.loads(message)["type"] if isinstance(message, str) else "binary")
    return seen


def calls_of(server, nodes):
    """Queue a prompt as a client of its own and return the events of the chart that this client gets."""
    found = []
    server.run(nodes, on_message=lambda kind, data: found.append(data) if kind == EVENT else None)
    return found


@pytest.mark.parametrize("nodes_2", [False, True], ids=["classic", "nodes 2"])
@pytest.mark.parametrize("sampler", [delta_ksampler, delta_ksampler_advanced, delta_guider, delta_model])
def test_the_chart_fills_and_restarts(page, sampler, nodes_2):
    kinds = [EVALUATED, EVALUATED] if sampler is delta_ksampler else [EVALUATED, REUSED]
    nodes, shown = build(sampler, 100 + nodes_2, 6)
    set_renderer(page, nodes_2)
    with no_problems(page):
        open_prompt(page, nodes, shown)
        page.wait_for_function("text => document.querySelector('svg[role=img]')?.ariaLabel === text", arg=EMPTY)
        assert queue_in(page, 6) == [kinds * 3]
        assert page.locator("svg[role=img]").evaluate(TITLE_TO_LEGEND) > 8
        # A shorter run of the same graph, with the next seed.
        page.evaluate(
            "steps => app.graph.nodes.flatMap(node => node.widgets ?? [])"
            ".filter(widget => widget.name === 'steps').forEach(widget => { widget.value = steps })",
            4,
        )
        assert queue_in(page, 4) == [kinds * 2]
        saved = page.evaluate("number => app.graph.getNodeById(number).serialize().widgets_values", shown)
        named = widgets(page, shown)
        assert saved == list(named.values()) and "delta_chart" not in named


def test_two_deltas_are_two_series_and_a_window_leaves_a_gap(page):
    prompt = Prompt()
    window = {"start_percent": 0.0, "end_percent": 0.5, "curve": "constant", "strength_start": 1.0, "strength_end": 1.0}
    early = prompt.add("DeltaSchedule", delta=prompt.delta_pair(), **window)
    both = prompt.add("DeltaCombine", delta_a=early, delta_b=prompt.delta_pair(strength=0.5))
    shown, latent = delta_ksampler_advanced(prompt, both, 7, 8)
    prompt.preview(latent)
    set_renderer(page, False)
    with no_problems(page):
        open_prompt(page, prompt.nodes, shown[0])
        first, second = queue_in(page, 8)
    assert 0 < len(first) < 8 and len(second) == 8


def test_a_chart_within_a_subgraph(page):
    nodes, shown = build(delta_ksampler_advanced, 31, 6)
    set_renderer(page, False)
    with no_problems(page):
        open_prompt(page, nodes)
        page.evaluate(
            """number => {
                const inside = app.graph.convertToSubgraph(new Set([app.graph.getNodeById(number)]));
                app.canvas.setGraph(inside.subgraph);
            }""",
            shown,
        )
        assert queue_in(page, 6) == [[EVALUATED, REUSED] * 3]
        page.evaluate("app.canvas.setGraph(app.rootGraph)")


def build_copy(seed, steps):
    """Return what `build` does, with a Delta KSampler that runs as a copy, as in a loop."""
    prompt = Prompt()
    shown, latent = delta_ksampler(prompt, None, seed, steps)
    prompt.preview(prompt.add("RunCopy", samples=latent))
    return prompt.nodes, shown[0]


def test_a_chart_of_a_node_that_runs_as_a_copy(page):
    nodes, shown = build_copy(37, 4)
    set_renderer(page, False)
    with no_problems(page):
        open_prompt(page, nodes, shown)
        assert queue_in(page, 4) == [[EVALUATED] * 4]


def test_the_calls_of_a_copy_name_the_node_that_it_is_shown_as(server):
    nodes, shown = build_copy(38, 4)
    assert [(call["node"], call["call"]) for call in calls_of(server, nodes)] == [(shown, k) for k in (1, 2, 3, 4)]


def test_only_the_client_that_queued_sees_the_calls(server, page):
    nodes, shown = build(delta_ksampler_advanced, 41, 6)
    set_renderer(page, False)
    with no_problems(page), onlooker_of(server) as onlooker:
        open_prompt(page, nodes, shown)
        calls = calls_of(server, nodes)
        seen = kinds_of_messages(onlooker)
        page.wait_for_timeout(200)
        shows = page.locator("svg[role=img]").get_attribute("aria-label")
    assert "status" in seen and EVENT not in seen
    assert shows == EMPTY
    assert [call["call"] for call in calls] == [1, 2, 3, 4, 5, 6]
    assert {(call["node"], call["steps"]) for call in calls} == {(shown, 6)}
    assert [call["deltas"][0]["evaluated"] for call in calls] == [True, False] * 3
    assert all(0 < call["deltas"][0]["size"] < 100 for call in calls)


def test_a_prompt_without_a_client_is_shown_to_nobody(server):
    nodes, _ = build(delta_ksampler_advanced, 51, 4)
    with onlooker_of(server) as onlooker:
        number = server.post("/prompt", {"prompt": nodes})["prompt_id"]
        while not server.get(f"/history/{number}"):
            time.sleep(0.1)
        seen = kinds_of_messages(onlooker)
    assert seen and EVENT not in seen


def test_a_kept_guider_shows_its_runs_to_whoever_queues_them(server):
    """The second prompt differs in its noise alone, so the host has the guider in its cache."""
    for seed in (61, 62):
        nodes, guider = build(delta_guider, seed, 4)
        assert {call["node"] for call in calls_of(server, nodes)} == {guider}


def test_two_equal_guiders_have_a_chart_each(server):
    prompt = Prompt()
    delta = prompt.delta_pair()
    guiders = set()
    for seed in (71, 72):
        guider, latent = delta_guider(prompt, delta, seed, 4)
        guiders.add(guider[0])
        prompt.save("guiders", latent)
    assert {call["node"] for call in calls_of(server, prompt.nodes)} == guiders


def test_delta_models_behind_each_other_show_each_its_own(server):
    prompt = Prompt()
    first = prompt.add("DeltaModel", model=prompt.model("target"), delta=prompt.delta_pair())
    second = prompt.add("DeltaModel", model=first, delta=prompt.delta_pair("source", "source_outline", strength=0.5))
    prompt.save("models", prompt.ksampler(second, steps=3))
    calls = calls_of(server, prompt.nodes)
    assert [(call["node"], call["call"]) for call in calls] == [(n[0], k) for k in (1, 2, 3) for n in (first, second)]
    assert all(len(call["deltas"]) == 1 for call in calls)


@pytest.mark.parametrize("nodes_2", [False, True], ids=["classic", "nodes 2"])
def test_nodes_that_come_and_go_leave_no_listener(page, nodes_2):
    set_renderer(page, nodes_2)
    open_prompt(page, build(delta_guider, 81, 4)[0])

    def come_and_go():
        page.evaluate(
            """async () => {
                for (const type of ["DeltaKSampler", "DeltaGuider", "DeltaSchedule"]) {
                    const node = LiteGraph.createNode(type);
                    app.graph.add(node);
                    await new Promise(requestAnimationFrame);
                    app.graph.remove(node);
                }
                await new Promise(requestAnimationFrame);
            }"""
        )
        return [listeners(page, target) for target in ("comfyAPI.api.api", "window", "document")]

    come_and_go()
    with no_problems(page):
        first = come_and_go()
        for _ in range(3):
            assert come_and_go() == first
