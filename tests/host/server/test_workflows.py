"""The shipped workflows, opened in the real front end and checked against the live nodes, and how they are offered."""

import json
import urllib.request
from itertools import combinations

import pytest

from harness.host import REPOSITORY

FOLDER = REPOSITORY / "example_workflows"
WORKFLOWS = sorted(FOLDER.glob("*.json"))
NAMES = [path.stem for path in WORKFLOWS]
# As the tests' server has it: custom_nodes/<this>.
PACK = "comfyui-delta-sampling"
TITLE = 30
LARGEST_PICTURE = 40_000


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
    nodes = json.loads(path.read_text())["nodes"]
    for a, b in combinations(nodes, 2):
        beside = a["pos"][0] + a["size"][0] <= b["pos"][0] or b["pos"][0] + b["size"][0] <= a["pos"][0]
        below = a["pos"][1] + a["size"][1] <= b["pos"][1] - TITLE or b["pos"][1] + b["size"][1] <= a["pos"][1] - TITLE
        assert beside or below, f"{a['type']} {a['id']} and {b['type']} {b['id']} overlap"
    # What the front end offers for download is what the node loads.
    for node in nodes:
        for model in node["properties"].get("models", []):
            assert model["name"] in node["widgets_values"]
            assert model.keys() == {"name", "url", "directory"}


def test_every_workflow_has_a_twin_and_a_picture(server):
    assert sorted(path.stem for path in (FOLDER / "api").glob("*.json")) == NAMES
    assert sorted(path.stem for path in FOLDER.glob("*.jpg")) == NAMES
    assert sorted(server.get("/workflow_templates")[PACK]) == NAMES
    for name in NAMES:
        with urllib.request.urlopen(f"http://{server.address}/api/workflow_templates/{PACK}/{name}.jpg") as reply:
            assert reply.headers["Content-Type"] == "image/jpeg"
            assert len(reply.read()) < LARGEST_PICTURE


def test_the_template_browser_lists_them(page):
    page.evaluate("app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    page.get_by_role("dialog").get_by_text(PACK).click()
    for name in NAMES:
        page.get_by_role("heading", name=name, exact=True).wait_for()
    page.keyboard.press("Escape")
