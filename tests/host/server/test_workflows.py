"""The shipped workflows, opened in the real front end and checked against the live nodes, and how they are offered."""

import json
import urllib.request
from itertools import combinations
from urllib.parse import quote

import pytest
from PIL import Image

from harness.host import REPOSITORY

FOLDER = REPOSITORY / "example_workflows"
FIRST_PICTURE = REPOSITORY / "docs" / "first_workflow.png"
WORKFLOWS = sorted(FOLDER.glob("*.json"))
NAMES = [path.stem for path in WORKFLOWS]
# As the tests' server has it: custom_nodes/<this>.
PACK = "comfyui-delta-sampling"
TITLE = 30
# Beyond this the browser opens a workflow too small to read.
WIDTH, HEIGHT = 2500, 1370
LARGEST_PICTURE = 25_000
# Each needs another pack: the one for its networks, the other instead of it.
IN_NO_WORKFLOW = {"LatentBridgeInterposer", "LatentDeltaKSampler"}
# Inputs that may be left open where a workflow has nothing for them: node -> inputs.
MAY_BE_OPEN = {
    "DeltaPair": {"delta"},
    "DeltaPairText": {"delta", "target_clip"},
    "DeltaControlNet": {"vae"},
    "MaskComposite": {"mask"},
}
GROUPS = ("Source", "Target")


@pytest.mark.parametrize("path", WORKFLOWS, ids=NAMES)
def test_a_workflow_opens_and_fits_the_nodes(server, page, path):
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    workflow = json.loads(path.read_text())
    prompt = page.evaluate(
        "async graph => { await app.loadGraphData(graph); return (await app.graphToPrompt()).output }", workflow
    )
    assert problems == []
    known = server.get("/object_info")
    assert len(prompt) == len([node for node in workflow["nodes"] if node["type"] != "MarkdownNote"])
    assert any(node["type"] == "MarkdownNote" for node in workflow["nodes"])
    for node in prompt.values():
        inputs = known[node["class_type"]]["input"]
        assert inputs.get("required", {}).keys() <= node["inputs"].keys()
        assert node["inputs"].keys() <= {**inputs.get("required", {}), **inputs.get("optional", {})}.keys()
    shipped = json.loads((FOLDER / "api" / path.name).read_text())
    for number, node in prompt.items():
        assert shipped[number]["class_type"] == node["class_type"]
        assert shipped[number]["inputs"] == node["inputs"], f"{path.stem} node {number} {node['class_type']}"
    assert shipped.keys() == prompt.keys()


@pytest.mark.parametrize("path", WORKFLOWS, ids=NAMES)
def test_a_workflow_is_tidy(path):
    workflow = json.loads(path.read_text())
    nodes = workflow["nodes"]
    for a, b in combinations(nodes, 2):
        beside = a["pos"][0] + a["size"][0] <= b["pos"][0] or b["pos"][0] + b["size"][0] <= a["pos"][0]
        below = a["pos"][1] + a["size"][1] <= b["pos"][1] - TITLE or b["pos"][1] + b["size"][1] <= a["pos"][1] - TITLE
        assert beside or below, f"{a['type']} {a['id']} and {b['type']} {b['id']} overlap"
    boxes = [(*node["pos"], *node["size"], TITLE) for node in nodes]
    boxes += [(*group["bounding"], 0) for group in workflow["groups"]]
    left, top = min(x for x, *_ in boxes), min(y - title for _, y, _, _, title in boxes)
    assert max(x + width for x, _, width, _, _ in boxes) - left <= WIDTH
    assert max(y + height for _, y, _, height, _ in boxes) - top <= HEIGHT
    titles = [group["title"] for group in workflow["groups"]]
    assert all(any(title.startswith(role) for title in titles) for role in GROUPS)
    # What the front end offers for download is what the node loads.
    for node in nodes:
        for model in node["properties"].get("models", []):
            assert model["name"] in node["widgets_values"]
            assert model.keys() == {"name", "url", "directory"}


@pytest.mark.parametrize("path", WORKFLOWS, ids=NAMES)
def test_nothing_is_left_open(path):
    for node in json.loads(path.read_text())["nodes"]:
        open_inputs = {given["name"] for given in node["inputs"] if given["link"] is None}
        assert open_inputs <= MAY_BE_OPEN.get(node["type"], set()), f"{node['type']} {node['id']}"


@pytest.mark.parametrize("path", WORKFLOWS, ids=NAMES)
def test_a_note_can_be_read_in_both_renderers(path):
    (note,) = (node for node in json.loads(path.read_text())["nodes"] if node["type"] == "MarkdownNote")
    (text,) = note["widgets_values"]
    assert text.startswith(f"# {path.stem.split(' ', 1)[1]}\n")
    # Nodes 2.0 draws code in blue on the note's brown.
    assert "`" not in text
    for node in json.loads(path.read_text())["nodes"]:
        for model in node["properties"].get("models", []):
            assert model["url"] in text


def test_every_node_of_the_pack_is_in_a_workflow(server):
    known = server.get("/object_info").items()
    nodes = {name for name, node in known if node["python_module"] == f"custom_nodes.{PACK}"}
    used = {node["type"] for path in WORKFLOWS for node in json.loads(path.read_text())["nodes"]}
    assert nodes - used == IN_NO_WORKFLOW & nodes
    assert used & IN_NO_WORKFLOW == set()


def test_the_prompt_is_typed_once_and_the_first_is_small():
    first = json.loads(WORKFLOWS[0].read_text())["nodes"]
    assert len([node for node in first if node["type"] != "MarkdownNote"]) == 9
    for path in WORKFLOWS:
        typed = [value for node in json.loads(path.read_text())["nodes"] for value in node["widgets_values"]]
        # One that a second box repeats in part is the other end of a slider.
        assert sum(isinstance(value, str) and value.startswith("a lighthouse") for value in typed) <= 1


def test_every_workflow_has_a_twin_and_a_picture(server):
    assert sorted(path.stem for path in (FOLDER / "api").glob("*.json")) == NAMES
    assert sorted(path.stem for path in FOLDER.glob("*.jpg")) == NAMES
    assert sorted(server.get("/workflow_templates")[PACK]) == NAMES
    for name in NAMES:
        with urllib.request.urlopen(
            f"http://{server.address}/api/workflow_templates/{PACK}/{quote(name)}.jpg"
        ) as reply:
            assert reply.headers["Content-Type"] == "image/jpeg"
            assert len(reply.read()) < LARGEST_PICTURE


def test_the_template_browser_lists_them(page):
    page.evaluate("app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    page.get_by_role("dialog").get_by_text(PACK).click()
    for name in NAMES:
        page.get_by_role("heading", name=name, exact=True).wait_for()
    page.keyboard.press("Escape")


def test_the_readmes_picture_is_the_first_workflow_to_drop_on_the_canvas(page):
    carried = json.loads(Image.open(FIRST_PICTURE).text["workflow"])
    first = json.loads(WORKFLOWS[0].read_text())
    assert carried == first, "python -m docs.wiring first_workflow draws it anew"
    page.evaluate(
        """async bytes => {
            const options = { type: "image/png" };
            await app.handleFile(new File([new Uint8Array(bytes)], "first_workflow.png", options));
        }""",
        list(FIRST_PICTURE.read_bytes()),
    )
    page.wait_for_function("count => app.graph.nodes.length === count", arg=len(first["nodes"]))
    kinds = page.evaluate("app.graph.nodes.map(node => node.type)")
    assert sorted(kinds) == sorted(node["type"] for node in first["nodes"])
