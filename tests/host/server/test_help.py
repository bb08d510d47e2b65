"""The help pages: each says all of its node, and the front end shows it with its picture."""

import ast
import re
import urllib.request

import nodes as host_nodes
import pytest
from comfy_api.latest import io
from PIL import Image

from harness.host import REPOSITORY

DOCS = REPOSITORY / "web" / "docs"
SERVED = "/extensions/comfyui-delta-sampling/docs"
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("*.md"))}
HEADINGS = ["## Inputs", "## Typical values", "## What goes wrong"]
# Lists that the host or a folder fills.
LISTS = ("sampler_name", "scheduler", "bridge_name")
ROLES = r"\.\.\.|\b(?:source|adapted|weak|target)\b"


def ours():
    module = host_nodes.NODE_CLASS_MAPPINGS["DeltaPair"].__module__.rpartition(".")[0]
    found = {name: node for name, node in host_nodes.NODE_CLASS_MAPPINGS.items() if node.__module__.startswith(module)}
    return {name: node for name, node in found.items() if not node.GET_SCHEMA().is_deprecated}


def inputs_section(text):
    return text.partition("## Inputs")[2].partition("## Typical values")[0]


def test_every_node_has_a_page_and_a_picture():
    pictures = sorted(DOCS.glob("*.png"))
    assert PAGES.keys() == ours().keys() == {path.stem for path in pictures}
    assert sum(path.stat().st_size for path in pictures) < 700_000
    for path in pictures:
        with Image.open(path) as picture:
            assert 800 <= picture.width <= 1000


@pytest.mark.parametrize("name", PAGES)
def test_a_page_says_what_its_node_has(name):
    schema, text = ours()[name].GET_SCHEMA(), PAGES[name]
    title, purpose, *_ = re.split(r"\n\n", text)
    assert title == f"# {schema.display_name}" and not purpose.startswith(("#", "!"))
    assert [line for line in text.splitlines() if line in HEADINGS] == HEADINGS
    assert f"]({name}.png)" in text.partition("## Inputs")[0]
    assert re.findall(r"\*\*(.+?)\*\*", inputs_section(text)) == [each.id for each in schema.inputs]
    flat = " ".join(text.split())
    for each in schema.inputs:
        if isinstance(each, io.Combo.Input) and each.id not in LISTS:
            assert [option for option in each.options if f"*{option}*" not in flat] == []


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    """The front end finds pictures beside the page, but opens links from the root of the server."""
    for picture, address in re.findall(r"(!?)\[[^]]*\]\((.+?)\)", PAGES[name]):
        assert (DOCS / address).is_file() if picture else re.fullmatch(r"https://arxiv\.org/abs/\d{4}\.\d{5}", address)


def test_messages_are_quoted_as_they_are_raised():
    sources = [path for folder in ("nodes", "sampling") for path in (REPOSITORY / folder).rglob("*.py")]
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in sources]
    texts = [node.value for tree in trees for node in ast.walk(tree) if isinstance(getattr(node, "value", None), str)]
    quoted = [(name, quote) for name, text in PAGES.items() for quote in re.findall(r'^- "(.+?)"', text, re.M | re.S)]
    assert len(quoted) > 20
    for name, quote in quoted:
        for part in re.split(ROLES, " ".join(quote.split())):
            assert any(part.strip() in text for text in texts), f"{name}: {quote}"


def test_the_front_end_shows_every_page_with_its_picture(server, page):
    for name in PAGES:
        with urllib.request.urlopen(f"http://{server.address}{SERVED}/{name}.png", timeout=30) as reply:
            assert reply.headers["Content-Type"] == "image/png"
            assert reply.read() == (DOCS / f"{name}.png").read_bytes()
    for name in PAGES:
        page.evaluate(
            """name => {
                app.canvas.deselectAll();
                app.graph.clear();
                const node = LiteGraph.createNode(name);
                node.pos = [300, 300];
                app.graph.add(node);
                app.canvas.ds.reset();
                app.canvas.selectNode(node);
            }""",
            name,
        )
        page.get_by_test_id("info-button").click()
        picture = page.locator(f"img[src='{SERVED}/{name}.png']")
        picture.wait_for()
        page.wait_for_function("picture => picture.naturalWidth > 0", arg=picture.element_handle())
        assert page.get_by_role("heading", name="What goes wrong").is_visible()
