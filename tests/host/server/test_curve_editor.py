"""The curve on a Delta Schedule: drawn as the pack computes it, changed with the mouse, kept with the workflow."""

import pytest

from sampling.schedule import CURVES, Schedule

from .front_end import PACK, look_at, no_problems, open_prompt, set_renderer, widgets
from .prompts import Prompt

SETTINGS = {"start_percent": 0.2, "end_percent": 0.8, "curve": "sigmoid", "strength_start": 1.0, "strength_end": 0.5}
BOTH = pytest.mark.parametrize("nodes_2", [False, True], ids=["classic", "nodes 2"])


def open_schedule(page, nodes_2=False, **changed):
    prompt = Prompt()
    links = {name: value if not callable(value) else value(prompt) for name, value in changed.items()}
    schedule = prompt.add("DeltaSchedule", delta=prompt.delta_pair(), **{**SETTINGS, **links})
    set_renderer(page, nodes_2)
    open_prompt(page, prompt.nodes, schedule[0])
    # The second handle is drawn last.
    page.locator("svg .handle.end").wait_for()
    page.wait_for_timeout(300)
    return schedule[0]


def label(page):
    return page.locator("svg[role=img]").get_attribute("aria-label")


def centre(page, which):
    box = page.locator(f"svg .handle.{which}").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def drag(page, which, right, down):
    x, y = centre(page, which)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + right / 2, y + down / 2)
    page.mouse.move(x + right, y + down)
    page.mouse.up()


def test_the_curves_are_those_of_the_pack(page):
    percents = [k / 97 for k in range(98)] + [0.2, 0.8, 1.0]
    schedules = [
        {"start_percent": start, "end_percent": end, "curve": curve, "strength_start": 1.5, "strength_end": -0.5}
        for curve in CURVES
        for start, end in ((0.0, 1.0), (0.2, 0.8), (0.5, 0.5))
    ]
    names, factors = page.evaluate(
        """async ([module, schedules, percents]) => {
            const { CURVES, factor } = await import(module);
            return [Object.keys(CURVES), schedules.map(s => percents.map(p => factor(s, p)))];
        }""",
        [PACK + "curves.js", schedules, percents],
    )
    assert names == list(CURVES)
    for schedule, found in zip(schedules, factors, strict=True):
        assert found == pytest.approx([Schedule(**schedule).factor(percent) for percent in percents], abs=1e-12)


@BOTH
def test_the_handles_set_the_widgets(page, nodes_2):
    number = open_schedule(page, nodes_2)
    with no_problems(page):
        (start_x, start_y), (end_x, end_y) = centre(page, "start"), centre(page, "end")
        wide, high = (end_x - start_x) / 0.6, (end_y - start_y) / 0.5
        drag(page, "start", 0.1 * wide, 0.25 * high)
        found = widgets(page, number)
        assert found["start_percent"] == pytest.approx(0.3, abs=0.01)
        assert found["strength_start"] == pytest.approx(0.75, abs=0.051)
        assert (found["end_percent"], found["strength_end"]) == (0.8, 0.5)
        assert found["strength_start"] == round(round(found["strength_start"] / 0.05) * 0.05, 2)
        assert found["start_percent"] == round(found["start_percent"], 3)
        # Past the other handle and far out of the plot: clamped.
        drag(page, "end", -wide, 0)
        assert widgets(page, number)["end_percent"] == found["start_percent"]
        drag(page, "end", 3 * wide, -40 * high)
        found = widgets(page, number)
        assert (found["end_percent"], found["strength_end"]) == (1.0, 10.0)
        assert label(page).endswith(f"{found['strength_start']:g} at {found['start_percent']:g}, 10 at 1")


@BOTH
def test_the_editor_follows_the_widgets_and_the_workflow_keeps_them(page, nodes_2):
    number = open_schedule(page, nodes_2)
    with no_problems(page):
        if nodes_2:
            field = page.locator(f"[data-node-id='{number}'] input[role=spinbutton]").nth(1)
            field.fill("0.6")
            field.press("Enter")
            expected = "0.5 at 0.6"
        else:
            # The arrow to the left of end_percent.
            x, y = page.evaluate(
                """number => {
                    const node = app.graph.getNodeById(number);
                    const widget = node.widgets.find(each => each.name === "end_percent");
                    const [x, y] = app.canvas.ds.convertOffsetToCanvas([node.pos[0] + 22, node.pos[1] + widget.y + 10]);
                    const box = app.canvas.canvas.getBoundingClientRect();
                    return [x + box.left, y + box.top];
                }""",
                number,
            )
            page.mouse.click(x, y)
            expected = "0.5 at 0.799"
        page.wait_for_function("end => document.querySelector('svg[role=img]').ariaLabel.endsWith(end)", arg=expected)
        drawn, values = label(page), widgets(page, number)
        saved = page.evaluate("app.graph.serialize()")
        (node,) = (each for each in saved["nodes"] if each["type"] == "DeltaSchedule")
        assert node["widgets_values"] == list(values.values())
        assert list(values) == list(SETTINGS)
        page.evaluate("graph => app.loadGraphData(graph)", saved)
        look_at(page, number)
        page.wait_for_function("text => document.querySelector('svg[role=img]')?.ariaLabel === text", arg=drawn)
        again = page.evaluate("app.graph.serialize().nodes.map(node => [node.type, node.widgets_values])")
        assert again == [[each["type"], each.get("widgets_values")] for each in saved["nodes"]]


@BOTH
def test_a_linked_widget_is_left_alone(page, nodes_2):
    number = open_schedule(page, nodes_2, strength_start=lambda prompt: prompt.add("PrimitiveFloat", value=2.0))
    with no_problems(page):
        assert label(page).endswith("Set by links: strength_start")
        before = widgets(page, number)
        drag(page, "start", 30, 30)
        after = widgets(page, number)
        assert after["start_percent"] > before["start_percent"]
        assert after["strength_start"] == before["strength_start"]


def test_a_constant_curve_has_one_strength(page):
    number = open_schedule(page, curve="constant")
    with no_problems(page):
        drag(page, "end", -30, -30)
    found = widgets(page, number)
    assert found["end_percent"] < 0.8 and found["strength_end"] == 0.5
