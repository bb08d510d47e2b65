"""The demo's own prompt through the queue: the style arrives and names stay, for names of the LoRA's training."""

import numpy as np
import torch

from lab import demo, judge, storage, world


def test_the_style_arrives_and_the_names_stay(server, monkeypatch):
    shown = world.TRAINED[::2]
    monkeypatch.setattr(demo, "SHOWN", {"trained": shown})
    nodes = demo.prompt_of("ink", "target")
    rows = demo.images_of(server.run(nodes), nodes, server.output)
    assert set(rows) == set(demo.ROWS)
    labels = torch.tensor(world.labels(shown))
    reads = {}
    for title, images in rows.items():
        assert np.stack(images).shape == (len(shown), 64, 64, 3)
        pixels = torch.from_numpy(np.stack(images)).movedim(-1, 1).float() / 127.5 - 1
        names, styles = judge.read(storage.load_judge(), pixels)
        reads[title] = [(styles == judge.STYLES.index("ink")).float().mean(), (names == labels).float().mean()]
    # Over 288 images lab/results.json has 0.76 and 0.75.
    assert min(reads["new model + delta"]) >= 0.5, reads
    assert reads["new model"][0] == 0 and reads["new model"][1] >= 0.8, reads
    assert min(reads["new model + its own LoRA"]) >= 0.5, reads
