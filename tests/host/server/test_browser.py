"""Workflows of the method authors' node, opened in the real front end where that node is absent."""

import pytest

ROLES = {"source": "source", "adapted": "source_ink", "target": "target"}
# As saved by the node the authors published, and by the one that nine of their workflows were saved with.
PUBLISHED = [1.5, 42, "fixed", 16, 6, "euler", "normal", 1]
WITH_SCHEDULE = [1.5, 1, 0.5, "sigmoid", 42, "fixed", 16, 6, "euler", "normal", 1]
EXPECTED = {
    "delta_strength": 1.5, "seed": 42, "steps": 16, "cfg": 6, "sampler_name": "euler", "scheduler": "normal",
    "denoise": 1,
}  # fmt: skip


def workflow(widgets):
    """Return a workflow as the front end saves it: three models, two prompts, a latent, the node."""
    nodes, links = [], []

    def add(node, inputs=(), outputs=(), values=()):
        number = len(nodes) + 1
        slots = []
        for slot, (name, kind, origin) in enumerate(inputs):
            link = len(links) + 1
            links.append([link, origin, 0, number, slot, kind])
            nodes[origin - 1]["outputs"][0]["links"].append(link)
            slots.append({"name": name, "type": kind, "link": link})
        nodes.append(
            {
                "id": number,
                "type": node,
                "pos": [number * 40, number * 40],
                "size": [300, 200],
                "flags": {},
                "order": number,
                "mode": 0,
                "inputs": slots,
                "outputs": [{"name": kind, "type": kind, "links": []} for kind in outputs],
                "properties": {"Node name for S&R": node},
                "widgets_values": list(values),
            }
        )
        return number

    models = {role: add("LabModel", outputs=["MODEL"], values=[name]) for role, name in ROLES.items()}
    prompts = {
        "positive": add("LabPrompt", outputs=["CONDITIONING"], values=["airplane", 1]),
        "negative": add("LabPrompt", outputs=["CONDITIONING"], values=["", 1]),
    }
    latent = add("EmptyLatentImage", outputs=["LATENT"], values=[64, 64, 1])
    inputs = []
    for role in ROLES:
        inputs.append((f"{role}_model", "MODEL", models[role]))
        inputs += [(f"{role}_{kind}", "CONDITIONING", number) for kind, number in prompts.items()]
    inputs.append(("latent_image", "LATENT", latent))
    sampler = add("LatentDeltaKSampler", inputs, ["LATENT"], widgets)
    add("SaveLatent", [("samples", "LATENT", sampler)], values=["from_the_browser"])
    return {"last_node_id": len(nodes), "last_link_id": len(links), "nodes": nodes, "links": links, "version": 0.4}


@pytest.mark.parametrize("widgets", [PUBLISHED, WITH_SCHEDULE], ids=["8 widgets", "11 widgets"])
def test_a_workflow_of_the_authors_opens_and_runs(server, page, widgets):
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    prompt = page.evaluate(
        "async graph => { await app.loadGraphData(graph); return (await app.graphToPrompt()).output }",
        workflow(widgets),
    )
    (sampler,) = [node for node in prompt.values() if node["class_type"] == "DeltaKSampler"]
    assert {name: sampler["inputs"][name] for name in EXPECTED} == EXPECTED
    linked = {name: prompt[link[0]]["class_type"] for name, link in sampler["inputs"].items() if isinstance(link, list)}
    assert linked == {
        **{f"{role}_model": "LabModel" for role in ROLES},
        **{f"{role}_{kind}": "LabPrompt" for role in ROLES for kind in ("positive", "negative")},
        "latent_image": "EmptyLatentImage",
    }
    (saved,) = (number for number, node in prompt.items() if node["class_type"] == "SaveLatent")
    assert server.run(prompt)[saved]["latents"]
    assert problems == []
