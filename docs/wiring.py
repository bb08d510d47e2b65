"""Draws the wiring pictures of the help pages, web/docs/<Node>.png, with ComfyUI's own front end: `make pictures`.

Each shows the node, opened, among its usual neighbours. `python -m docs.wiring DeltaPair` draws that one alone.
`python -m docs.wiring first_workflow` draws the README's graph, docs/first_workflow.png, which carries its workflow.
"""

import io
import json
import sys

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from playwright.sync_api import Page

from harness import browser, headless
from harness.host import REPOSITORY, find_host

FOLDER = REPOSITORY / "web" / "docs"
FIRST_WORKFLOW = REPOSITORY / "example_workflows" / "01 LoRA of SD1.5 on SDXL.json"
FIRST_PICTURE = REPOSITORY / "docs" / "first_workflow.png"
WIDTH, COLOURS = 900, 128  # the help panel shows about half of that width
NO_BADGES = {f"Comfy.NodeBadge.Node{kind}BadgeMode": "None" for kind in ("Source", "LifeCycle")}
BRIDGE = "source_to_target_00001_.safetensors"
FILES = [
    f"latent_bridges/{BRIDGE}",
    "checkpoints/v1-5-pruned-emaonly-fp16.safetensors",
    "checkpoints/sd_xl_base_1.0.safetensors",
    "loras/your_sd15_lora.safetensors",
]


def box(kind: str, title: str | None = None, **inputs) -> dict:
    """A node: `inputs` are titles (or kinds) of the nodes to link to them, or values of widgets."""
    return {"kind": kind, "title": title or kind, "inputs": inputs}


def model(role: str) -> dict:
    return box("CheckpointLoaderSimple", f"{role} model")


def prompts(role: str) -> list[dict | None]:
    """The prompts of a role, a row below its model."""
    return [None, *(box("CLIPTextEncode", f"{role} {part}", clip=f"{role} model") for part in ("positive", "negative"))]


def wired(role: str, prefix: str = "") -> dict:
    """The three inputs of a role."""
    return {f"{prefix}{part}": f"{role} {part}" for part in ("model", "positive", "negative")}


def sampler(delta: str) -> dict:
    return box("DeltaKSamplerAdvanced", "sampler", delta=delta)


def option(kind: str, *before: dict, **inputs) -> list[list]:
    """An option of a delta, between the pair and the sampler."""
    return [[PAIR, *before], [box(kind, delta="DeltaPair", **inputs)], [sampler(kind)]]


PAIR, LATENT = box("DeltaPair"), box("EmptyLatentImage")
TARGET, TARGET_PROMPTS = [model("target"), None, None, PAIR], prompts("target")
LORA = box("LoraLoader", "adapted model", model="source model", clip="source model")
SOURCE_AND_ADAPTED = wired("source", "source_") | wired("adapted", "adapted_")
BY_CLIPS = {
    "source_model": "source model", "source_clip": "source model",
    "adapted_model": "adapted model", "adapted_clip": "adapted model", "target_clip": "target model",
}  # fmt: skip
ONE_MODEL = dict.fromkeys(["source_model", "source_clip", "adapted_model", "adapted_clip"], "source model")
WEAK = {"weak_model": "weak model", "positive": "weak positive", "negative": "weak negative"}
VAES = [box("VAELoader", "source VAE"), box("VAELoader", "target VAE")]
BY_VAES = {"source_vae": "source VAE", "target_vae": "target VAE"}

# The columns of each picture, from left to right; None is an empty row.
PICTURES = {
    "DeltaKSampler": [
        [model("source"), None, None, model("adapted"), None, None, model("target")],
        [*prompts("source"), *prompts("adapted"), *prompts("target"), LATENT],
        [box("DeltaKSampler", **SOURCE_AND_ADAPTED, **wired("target", "target_"), latent_image="EmptyLatentImage")],
    ],
    "DeltaKSamplerAdvanced": [
        TARGET, [*TARGET_PROMPTS, None, LATENT],
        [box("DeltaKSamplerAdvanced", **wired("target"), delta="DeltaPair", latent_image="EmptyLatentImage")],
    ],
    "DeltaModel": [
        [model("target"), PAIR],
        [box("DeltaModel", model="target model", delta="DeltaPair"), *prompts("target")[1:]],
        [None, None, box("KSampler", "any sampler", **(wired("target") | {"model": "DeltaModel"}))],
    ],
    "DeltaGuider": [
        TARGET, TARGET_PROMPTS, [box("DeltaGuider", **wired("target"), delta="DeltaPair")],
        [box("SamplerCustomAdvanced", "custom sampler", guider="DeltaGuider")],
    ],
    "DeltaPair": [
        [model("source"), None, None, LORA], [*prompts("source"), *prompts("adapted")],
        [box("DeltaPair", **SOURCE_AND_ADAPTED)],
    ],
    "DeltaPairText": [
        [model("target"), model("source"), None, LORA],
        [None, box("DeltaPairText", **BY_CLIPS, trigger_words="inkstyle")],
        [box("DeltaModel", model="target model", delta="DeltaPairText")],
        [
            None, None,
            box("KSampler", "any sampler", model="DeltaModel", positive="DeltaPairText", negative="DeltaPairText"),
        ],
    ],
    "DeltaControlNet": [
        [model("source")],
        [
            box("DeltaPairText", **ONE_MODEL), box("ControlNetLoader", "source's ControlNet"),
            box("LoadImage", "edges or a pose"),
        ],
        [
            box(
                "DeltaControlNet", delta="DeltaPairText", control_net="source's ControlNet", image="edges or a pose",
            ),
        ],
        [box("DeltaModel", delta="DeltaControlNet")],
    ],
    "DeltaSchedule": option("DeltaSchedule", end_percent=0.6),
    "DeltaMask": option("DeltaMask", box("LoadImageMask", "mask"), mask="mask"),
    "DeltaLimits": option("DeltaLimits", parallel=0.5),
    "DeltaReuse": option("DeltaReuse", every=2),
    "DeltaFast": option("DeltaFast"),
    "DeltaResolution": option("DeltaResolution", scale=0.5),
    "DeltaBridge": option("DeltaBridge", box("LatentBridgeLoad"), bridge="LatentBridgeLoad"),
    "DeltaCombine": [
        [box("DeltaPair", "Delta Pair: style"), box("DeltaPair", "Delta Pair: person")],
        [box("DeltaCombine", delta_a="Delta Pair: style", delta_b="Delta Pair: person")], [sampler("DeltaCombine")],
    ],
    "DeltaAutoguidance": [
        [model("weak")], prompts("weak"), [box("DeltaAutoguidance", **WEAK, strength=0.5)],
        [sampler("DeltaAutoguidance")],
    ],
    "DeltaColorGuidance": [
        [model("target"), PAIR, box("LoadImage", "colours wanted")],
        [box("DeltaModel", model="target model", delta="DeltaPair")],
        [box("DeltaColorGuidance", model="DeltaModel", reference="colours wanted", vae="target model")],
        [box("KSampler", "any sampler", model="DeltaColorGuidance")],
    ],
    "DeltaReport": [
        [PAIR], [None, sampler("DeltaPair")], [box("DeltaReport", delta="DeltaPair", samples="sampler")],
        [box("PreviewImage", images="DeltaReport")],
    ],
    "LatentBridgeFit": [
        [box("LoadImageDataSetFromFolder", "Load Images"), *VAES],
        [box("LatentBridgeFit", images="Load Images", **BY_VAES)],
        [box("LatentBridgeSave", bridge="LatentBridgeFit"), box("DeltaBridge", bridge="LatentBridgeFit")],
    ],
    "LatentBridgeVAE": [VAES, [box("LatentBridgeVAE", **BY_VAES)], [box("DeltaBridge", bridge="LatentBridgeVAE")]],
    "LatentBridgeSave": [
        [box("LatentBridgeFit")], [box("LatentBridgeSave", bridge="LatentBridgeFit")],
        [box("DeltaBridge", bridge="LatentBridgeSave")],
    ],
    "LatentBridgeLoad": [
        [PAIR, box("LatentBridgeLoad", bridge_name=BRIDGE)],
        [box("DeltaBridge", delta="DeltaPair", bridge="LatentBridgeLoad")], [sampler("DeltaBridge")],
    ],
    "LatentBridgeInterposer": [
        [PAIR, box("LatentBridgeInterposer")],
        [box("DeltaBridge", delta="DeltaPair", bridge="LatentBridgeInterposer")], [sampler("DeltaBridge")],
    ],
}  # fmt: skip


def picture(page: Page, node: str) -> Image.Image:
    clip = page.evaluate((REPOSITORY / "docs" / "wiring.js").read_text(), [node, PICTURES[node], WIDTH])
    page.wait_for_timeout(500)
    return shot(page, clip)


def shot(page: Page, clip: dict) -> Image.Image:
    taken = Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")
    return taken.quantize(COLOURS, dither=Image.Dither.NONE)


def draw_first_workflow(page: Page) -> None:
    """Draw the README's graph without its note, and put the whole workflow into the picture as ComfyUI does."""
    workflow = json.loads(FIRST_WORKFLOW.read_text())
    clip = page.evaluate(
        """async workflow => {
            const margin = 12, x = 200, y = 200, [left, top, right, bottom] = [410, 0, 1590, 849], scale = 0.92;
            await app.loadGraphData(workflow);
            app.graph.nodes.filter(node => node.type === "MarkdownNote").forEach(node => app.graph.remove(node));
            app.canvas.ds.scale = scale;
            app.canvas.ds.offset = [x / scale - left + margin, y / scale - top + margin];
            app.canvas.setDirty(true, true);
            const area = app.canvas.canvas.getBoundingClientRect();
            const width = (right - left + 2 * margin) * scale, height = (bottom - top + 2 * margin) * scale;
            return { x: area.x + x, y: area.y + y, width, height };
        }""",
        workflow,
    )
    page.keyboard.press("Escape")
    page.wait_for_timeout(1000)
    information = PngInfo()
    information.add_text("workflow", json.dumps(workflow))
    shot(page, clip).save(FIRST_PICTURE, optimize=True, pnginfo=information)


def main(nodes: list[str]) -> None:
    packs = {"comfyui-delta-sampling": REPOSITORY}
    with headless.server(find_host(), packs=packs, expected=PICTURES) as server:
        server.post("/settings", NO_BADGES)
        # The front end marks a file red that the server does not list.
        for file in FILES:
            path = server.output.parent / "models" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        with browser.opened(server) as page:
            page.set_viewport_size({"width": 1600, "height": 1600})
            for node in nodes or [*PICTURES, FIRST_PICTURE.stem]:
                if node == FIRST_PICTURE.stem:
                    draw_first_workflow(page)
                else:
                    picture(page, node).save(FOLDER / f"{node}.png", optimize=True)


if __name__ == "__main__":
    main(sys.argv[1:])
