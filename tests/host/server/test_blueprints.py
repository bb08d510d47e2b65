"""The blueprints of the folder subgraphs: listed, found, put on the canvas as one node, and run from files."""

import json

import numpy as np
import pytest
from PIL import Image

from harness import headless
from harness.host import REPOSITORY, find_host

from ..files import library
from .front_end import no_problems, widgets

PACK = "custom_nodes.comfyui-delta-sampling"
BLUEPRINTS = {path.stem: path.read_text() for path in sorted((REPOSITORY / "subgraphs").glob("*.json"))}
# What a node shows beside those that all have.
OWN = {
    "ControlNet of SD1.5 on SDXL": ["source_checkpoint", "control_net", "target_checkpoint"],
    "Fine-tune on a newer model": ["source_checkpoint", "fine_tune", "target_checkpoint", "trigger_words"],
    "LoRA of SD1.5 on SDXL": ["source_checkpoint", "lora", "target_checkpoint", "trigger_words"],
    "LoRA of SDXL on Flux": ["source_checkpoint", "lora", "target_model", "clip_l", "t5", "vae", "trigger_words"],
    "Style by prompt": ["source_checkpoint", "target_checkpoint", "trigger_words"],
}
# What is set from outside, and the node inside that has to get it.
PAIR, SAMPLER, LATENT = ("DeltaPairText",), ("KSampler",), ("EmptyLatentImage", "EmptySD3LatentImage")
GIVEN = {
    "prompt": ("a red house", PAIR),
    "negative": ("fog", PAIR),
    "trigger_words": ("a word", PAIR),
    "strength": (0.75, PAIR),
    "steps": (2, SAMPLER),
    "seed": (77, SAMPLER),
    "width": (128, LATENT),
    "height": (64, LATENT),
}
HINT = "hint.png"


def inside(name):
    (definition,) = json.loads(BLUEPRINTS[name])["definitions"]["subgraphs"]
    return definition["nodes"]


def named(name):
    """Return the files that a blueprint's loaders name: (folder, name)."""
    prompt = {}
    for node in inside(name):
        inputs = [slot["name"] for slot in node["inputs"] if "widget" in slot]
        values = dict(zip(inputs, node.get("widgets_values", ()), strict=False))
        prompt[node["id"]] = {"class_type": node["type"], "inputs": values}
    return library.named(prompt)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of its own, with the files that the blueprints name."""
    root = tmp_path_factory.mktemp("models")
    for folder, file in {("input", HINT)}.union(*map(named, BLUEPRINTS)):
        try:
            library.add(root, folder, file)
        except LookupError:  # listed, and not run
            (root / folder).mkdir(exist_ok=True)
            (root / folder / file).touch()
    folders = ["--extra-model-paths-config", str(library.describe(root)), "--input-directory", str(root / "input")]
    with headless.server(find_host(), *folders, threads=1) as client:
        yield client


def put(page, name):
    """Find a blueprint in the node library, drag it to an empty canvas, wire it, and return its number."""
    page.evaluate("app.graph.clear()")
    search = page.locator("input[placeholder*='Search' i]").first
    if not search.is_visible():
        page.evaluate("app.extensionManager.command.execute('Workspace.ToggleSidebarTab.node-library')")
    search.fill(name)
    page.get_by_text(name, exact=True).drag_to(page.locator("#graph-canvas"), target_position={"x": 700, "y": 200})
    page.wait_for_function("app.graph.nodes.length")
    return page.evaluate(
        """hint => {
            const { graph } = app, [node] = graph.nodes, save = LiteGraph.createNode("SaveImage");
            graph.add(save);
            node.connect(0, save, 0);
            const image = node.inputs.findIndex((input) => input.type === "IMAGE");
            if (image >= 0) {
                const load = LiteGraph.createNode("LoadImage");
                graph.add(load);
                load.widgets.find((widget) => widget.name === "image").value = hint;
                load.connect(0, node, image);
            }
            return node.id;
        }""",
        HINT,
    )


def prompt_of(page, number, **values):
    """Set widgets of a node and return the prompt that would be queued."""
    return page.evaluate(
        """async ([number, values]) => {
            for (const widget of app.graph.getNodeById(number).widgets)
                if (widget.name in values) widget.value = values[widget.name];
            return (await app.graphToPrompt()).output;
        }""",
        [number, values],
    )


def assert_fits(node, known):
    """A prompt's node has the inputs that its class asks for, and of a list what is in it."""
    groups = known[node["class_type"]]["input"]
    required, optional = groups.get("required", {}), groups.get("optional", {})
    assert required.keys() <= node["inputs"].keys() <= (required | optional).keys()
    for name, value in node["inputs"].items():
        kind, settings = ((required | optional)[name] + [{}])[:2]
        options = kind if isinstance(kind, list) else settings.get("options")
        assert isinstance(value, list) or options is None or value in options, (node["class_type"], name, value)


def test_the_server_lists_them(server):
    listed = server.get("/global_subgraphs")
    ours = {entry["name"]: key for key, entry in listed.items() if entry["info"]["node_pack"] == PACK}
    assert sorted(ours) == sorted(OWN)
    for name, key in ours.items():
        assert server.get(f"/global_subgraphs/{key}")["data"] == BLUEPRINTS[name]


@pytest.mark.parametrize("name", BLUEPRINTS)
def test_what_is_offered_for_download_is_what_a_node_loads(name):
    for node in inside(name):
        for model in node["properties"].get("models", []):
            assert model["name"] in node["widgets_values"]
            assert model.keys() == {"name", "url", "directory"}


@pytest.mark.parametrize("name", OWN)
def test_one_node_from_the_node_library(server, page, name):
    with no_problems(page):
        number = put(page, name)
        shown = widgets(page, number)
        assert sorted(shown) == sorted({*OWN[name], *GIVEN.keys() - {"trigger_words"}})
        given = {key: value for key, (value, _) in GIVEN.items() if key in shown}
        prompt = prompt_of(page, number, **given)
    known = server.get("/object_info")
    for node in prompt.values():
        assert_fits(node, known)
    classes = {node["class_type"]: node["inputs"] for node in prompt.values()}
    for key, value in given.items():
        (getting,) = (classes[kind] for kind in GIVEN[key][1] if kind in classes)
        assert getting[key] == value
    # What it was saved with comes through as well.
    assert library.named(prompt) - {("input", HINT)} == named(name)

    def title(kind, key):
        return prompt[classes[kind][key][0]]["_meta"]["title"]

    for part in ("model", "clip"):
        assert title("DeltaPairText", f"source_{part}").startswith("Source")
        assert title("DeltaPairText", f"adapted_{part}") in ("Adapted", "Source and adapted")
    assert title("DeltaModel", "model") == "Target"
    assert title("DeltaPairText", "target_clip").startswith("Target")
    assert title("VAEDecode", "vae").startswith("Target")
    assert title("KSampler", "model") == "Delta Model"


def test_a_picture(server, page):
    """The delta is in it: at strength 0 it is another one."""
    number = put(page, "LoRA of SD1.5 on SDXL")
    pictures = []
    for strength in (1.0, 0.0):
        given = {key: value for key, (value, _) in GIVEN.items()} | {"strength": strength}
        prompt = prompt_of(page, number, **given)
        (saved,) = (key for key, node in prompt.items() if node["class_type"] == "SaveImage")
        (file,) = server.run(prompt)[saved]["images"]
        pictures.append(np.asarray(Image.open(server.output / file["subfolder"] / file["filename"]), dtype=float))
    assert pictures[0].shape == (64, 128, 3)
    assert min(picture.std() for picture in pictures) > 10
    assert np.subtract(*pictures).any()
