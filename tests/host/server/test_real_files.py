"""Every shipped workflow, from files of the real formats through their own loaders to a picture."""

import copy
import json
import math
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from harness import headless
from harness.host import REPOSITORY, find_host

from ..files import library

FOLDER = REPOSITORY / "example_workflows" / "api"
SIZES = ("width", "height", "x", "y")
SMALLER, STEPS = 8, 2
# What the host writes in its log where a file is not all that it should be.
COMPLAINTS = ("not loaded", "missing", "does not exist", "could not", "shape mismatch", "no match")
# Each of these in the place of a workflow's own: (folder, part of a name that it takes the place of, name).
OTHER_FORMATS = [
    ("loras", "sd15_lora", "sd15_lora_of_diffusers.safetensors"),
    ("loras", "sd15_lora", "sd15_lycoris.safetensors"),
    ("controlnet", "sd15", "control_sd15.pth"),
]
TINY = ["taesd", "taesdxl", "taesd3", "taef1"]


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


# A LoRA of Flux on Flux itself, from the files that it is published as.
MODELS = {"source": "base", "adapted": "lora", "target": "base"}
FLUX = {
    "base": node("UNETLoader", unet_name="flux1-dev.safetensors", weight_dtype="default"),
    "lora": node("LoraLoaderModelOnly", model=["base", 0], lora_name="your_flux_lora.safetensors", strength_model=1.0),
    "clip": node("DualCLIPLoader", clip_name1="clip_l.safetensors", clip_name2="t5xxl_fp16.safetensors", type="flux"),
    "vae": node("VAELoader", vae_name="ae.safetensors"),
    "prompt": node("CLIPTextEncode", clip=["clip", 0], text="a lighthouse"),
    "image": node("EmptySD3LatentImage", width=1024, height=768, batch_size=1),
    "sampler": node(
        "DeltaKSampler",
        **{f"{role}_model": [model, 0] for role, model in MODELS.items()},
        **{f"{role}_{part}": ["prompt", 0] for role in MODELS for part in ("positive", "negative")},
        **{"latent_image": ["image", 0], "delta_strength": 1.0, "seed": 0, "steps": 20, "cfg": 1.0},
        **{"sampler_name": "euler", "scheduler": "simple", "denoise": 1.0},
    ),
    "decoded": node("VAEDecode", samples=["sampler", 0], vae=["vae", 0]),
    "saved": node("SaveImage", images=["decoded", 0], filename_prefix="flux"),
}


def small(prompt):
    """Return the prompt with two steps and all its sizes an eighth, and CLIP-L where it would have T5 too."""
    prompt = copy.deepcopy(prompt)
    for node in prompt.values():
        if node["class_type"] == "DualCLIPLoader":
            (clip,) = [name for name in node["inputs"].values() if name.startswith("clip_l")]
            node |= {"class_type": "CLIPLoader", "inputs": {"clip_name": clip, "type": "stable_diffusion"}}
        for key, value in node["inputs"].items():
            if key in SIZES and isinstance(value, int):
                node["inputs"][key] = value // SMALLER
            elif key == "steps":
                node["inputs"][key] = STEPS
            elif key == "start_at_step":
                node["inputs"][key] = min(value, STEPS - 1)
    return prompt


SHIPPED = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
# As the tests run them.
PROMPTS = {name: small(prompt) for name, prompt in {**SHIPPED, "flux": FLUX}.items()}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Return the folder of models, and why there are some that it does not have: (folder, name) -> why."""
    root, unknown = tmp_path_factory.mktemp("models"), {}
    others = {(folder, name) for folder, _, name in OTHER_FORMATS}
    tiny = {("vae_approx", f"{name}_{half}.safetensors") for name in TINY for half in ("encoder", "decoder")}
    for folder, name in set().union(others, tiny, *map(library.named, PROMPTS.values())):
        try:
            library.add(root, folder, name)
        except LookupError as error:
            unknown[folder, name] = str(error)
    return root, unknown


@pytest.fixture(scope="module")
def server(models):
    """A server of its own: its models are there to be listed, and its previews are TAESD's."""
    root, _ = models
    folders = ["--extra-model-paths-config", str(library.describe(root)), "--input-directory", str(root / "input")]
    options = ["--preview-method", "taesd", "--cache-classic"]
    with headless.server(find_host(), *folders, *options, threads=1) as client:
        yield client


@pytest.fixture
def no_complaints(server):
    """Fail where the host found a part of a file missing, or did not know what it is for."""
    log = server.output.parent / "server.log"
    before = len(log.read_text())
    yield
    lines = log.read_text()[before:].splitlines()
    assert [line for line in lines if any(words in line.lower() for words in COMPLAINTS)] == []


def require(prompt, unknown):
    if lacking := [why for file, why in unknown.items() if file in library.named(prompt)]:
        pytest.skip("; ".join(lacking))


def run(server, prompt):
    """Run a prompt and return the pictures that it saves, and how many previews came."""
    previews = []
    outputs = server.run(prompt, lambda kind, data: previews.append(data) if kind == "preview" else None)
    saved = [number for number, node in prompt.items() if node["class_type"] == "SaveImage"]
    files = [file for number in saved for file in outputs[number]["images"]]
    pictures = [np.asarray(Image.open(server.output / file["subfolder"] / file["filename"])) for file in files]
    return pictures, len(previews)


def without_its_adapters(prompt):
    """Yield (what, prompt) with each strength of an adapter at zero, or an embedding's name left out, one at a time.

    Where there is none the pair differs in prompts or checkpoints: then with a delta's own strength at zero.
    """
    shown = {number: node for number, node in prompt.items() if node["class_type"] != "PreviewImage"}
    found = []
    for number, node in shown.items():
        inputs = node["inputs"]
        off = {key: 0.0 for key, value in inputs.items() if "strength" in key and not isinstance(value, list)}
        texts = {key: value for key, value in inputs.items() if library.EMBEDDING.search(str(value))}
        off |= {key: library.EMBEDDING.sub("", text) for key, text in texts.items()}
        if off:
            found.append((node["class_type"], shown | {number: node | {"inputs": inputs | off}}))
    return [each for each in found if not each[0].startswith("Delta")] or found


@pytest.mark.parametrize("name", PROMPTS)
def test_a_workflow_runs_from_its_files(server, models, no_complaints, name):
    prompt = PROMPTS[name]
    require(prompt, models[1])
    inputs = [node["inputs"] for node in prompt.values()]
    pictures, previews = run(server, prompt)
    expected = [
        (each["height"], each["width"], 3) for each in inputs if "batch_size" in each for _ in range(each["batch_size"])
    ]
    scale = math.prod(each["scale_by"] for each in inputs if "scale_by" in each)
    assert [picture.shape for picture in pictures] == [(round(h * scale), round(w * scale), c) for h, w, c in expected]
    if not pictures:
        return
    assert previews
    # Without a NaN, which the host draws black, and without one colour alone.
    assert all(picture.std() > 10 for picture in pictures)
    for what, other in without_its_adapters(prompt):
        difference = np.subtract(pictures, run(server, other)[0], dtype=float)
        assert difference.any(), f"{what} changed nothing"


@pytest.mark.parametrize(("folder", "part", "file"), OTHER_FORMATS, ids=[file for *_, file in OTHER_FORMATS])
def test_other_formats_of_an_adapter(server, models, no_complaints, folder, part, file):
    """In the first workflow that has an adapter of that kind."""
    name, own = next(
        (name, own)
        for name, prompt in PROMPTS.items()
        for own_folder, own in library.named(prompt)
        if own_folder == folder and part in own
    )
    require(PROMPTS[name], models[1])
    prompt = json.loads(json.dumps(PROMPTS[name]).replace(f'"{own}"', f'"{file}"'))
    pictures, _ = run(server, prompt)
    for what, other in without_its_adapters(prompt):
        difference = np.subtract(pictures, run(server, other)[0], dtype=float)
        assert difference.any(), f"{what} changed nothing"


def test_the_tiny_autoencoders_decode_what_the_large_ones_do(server, models):
    """As many channels as the target's latents have; in the first workflows of either kind."""
    for latents, tiny in (("EmptyLatentImage", ["taesd", "taesdxl"]), ("EmptySD3LatentImage", ["taesd3", "taef1"])):
        prompt = next(each for each in PROMPTS.values() if latents in (node["class_type"] for node in each.values()))
        require(prompt, models[1])
        (decode,) = [node for node in prompt.values() if node["class_type"] == "VAEDecode"]
        drawn = [run(server, prompt)[0]]
        for name in tiny:
            vae = {"tiny": {"class_type": "VAELoader", "inputs": {"vae_name": name}}}
            number = next(number for number, node in prompt.items() if node is decode)
            other = decode | {"inputs": decode["inputs"] | {"vae": ["tiny", 0]}}
            drawn.append(run(server, prompt | vae | {number: other})[0])
        for one, another in combinations(drawn, 2):
            assert np.subtract(one, another, dtype=float).any()
