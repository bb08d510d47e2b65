"""The demo's own prompt through the queue: the pictures have the lab's size, and show what they are for."""

import json

import numpy as np
import torch
from PIL import Image

from lab import autoencoder, demo, judge, shapes
from lab.family import Family

COPIES = 3


def test_the_style_arrives_and_known_shapes_stay(server):
    prompt = json.loads(demo.WORKFLOW.read_text())
    titles = {node["_meta"]["title"]: number for number, node in prompt.items()}
    names = np.repeat(np.arange(len(shapes.CLASSES)), COPIES)
    prompt[titles["names"]]["inputs"]["copies"] = COPIES
    prompt[titles["empty latent"]]["inputs"]["batch_size"] = len(names)
    images = server.run(prompt)[titles["save target + delta"]]["images"]
    files = [server.output / image["subfolder"] / image["filename"] for image in images]
    pictures = np.stack([np.asarray(Image.open(file)) for file in files])
    assert pictures.shape == (len(names), 64, 64, 3)
    network, made = Family().judge, autoencoder.to_model(torch.from_numpy(pictures))
    assert judge.style_score(network, made) > 0.9
    known = np.isin(names, shapes.SEEN)
    assert judge.class_score(network, made[known], names[known]) > 0.8
