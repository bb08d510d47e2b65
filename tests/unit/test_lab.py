"""The lab's shipped models, sampled without ComfyUI through the pure engine: what the README shows is there."""

import numpy as np
import pytest
import torch

from lab import judge, shapes
from lab.family import Family

LABELS = np.repeat(shapes.SEEN, 4)


@pytest.fixture(scope="module")
def family():
    torch.set_num_threads(1)
    return Family()


def score(family, column, strength=1.0):
    pictures = family.sample(column, LABELS, seed=2, steps=12, strength=strength)
    return judge.style_score(family.judge, pictures), judge.class_score(family.judge, pictures, LABELS)


def test_the_delta_carries_the_style_and_keeps_the_class(family):
    style, kept = score(family, "target + delta")
    assert style > 0.9 and kept > 0.8


def test_the_target_itself_has_no_style(family):
    style, kept = score(family, "target")
    assert style < 0.1 and kept > 0.8


def test_strength_0_is_the_target(family):
    plain = family.sample("target", LABELS[:2], seed=2, steps=4)
    assert torch.equal(family.sample("target + delta", LABELS[:2], seed=2, steps=4, strength=0.0), plain)


def test_a_name_that_was_never_trained_is_the_empty_prompt(family):
    unseen = family.sample("source", list(shapes.UNSEEN), seed=2, steps=4)
    assert torch.equal(family.sample("source", [shapes.UNNAMED] * 2, seed=2, steps=4), unseen)
