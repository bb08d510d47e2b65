"""The demo's own prompt through the queue: the style arrives and names stay, for names of the LoRA's training."""

import numpy as np
import torch

from lab import demo, judge, storage, world


def test_the_style_arrives_and_the_names_stay(server):
    nodes = demo.prompt_of("ink", "target")
    rows = demo.images_of(server.run(nodes), nodes, server.output)
    assert set(rows) == set(demo.ROWS)
    shown = [name for names in demo.SHOWN.values() for name in names]
    labels = torch.tensor([world.NAMES.index(name) for name in shown])
    reads = {}
    for title, images in rows.items():
        assert np.stack(images).shape == (len(shown), 64, 64, 3)
        pixels = torch.from_numpy(np.stack(images)).movedim(-1, 1).float() / 127.5 - 1
        names, styles = judge.read(storage.load_judge(), pixels)
        reads[title] = (names == labels).float(), (styles == judge.STYLES.index("ink")).float()
    trained = slice(0, len(demo.SHOWN["trained"]))
    name, style = (part[trained].mean() for part in reads["new model + delta"])
    assert style >= 0.75 and name >= 0.75
    name, style = (part.mean() for part in reads["new model"])
    assert style == 0 and name >= 0.9
