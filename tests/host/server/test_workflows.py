"""The shipped workflows, opened in the real front end and checked against the live nodes."""

import json

import pytest

from lab.host import REPOSITORY

FOLDER = REPOSITORY / "example_workflows"
WORKFLOWS = sorted(FOLDER.glob("*.json"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
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
    twin = FOLDER / "api" / path.name
    if twin.exists():
        shipped = json.loads(twin.read_text())
        for number, node in prompt.items():
            assert shipped[number]["class_type"] == node["class_type"]
            assert shipped[number]["inputs"] == node["inputs"], f"{path.stem} node {number} {node['class_type']}"
        assert shipped.keys() == prompt.keys()
