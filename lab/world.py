"""What the lab's models are about: names, the sets of drawings that show them, and which model has seen what."""

from collections.abc import Iterable
from dataclasses import dataclass

# Names that the source knows and the adapters were trained on; known to the source alone; known to the targets alone.
TRAINED = (
    "airplane", "ambulance", "anchor", "balloon", "bell", "bicycle", "bread", "cherries", "crown", "dolphin",
    "elephant", "fire", "ghost", "grapes", "guitar", "handbag", "lemon", "mushroom", "octopus", "pig-face",
    "rocket", "snail", "t-shirt", "umbrella",
)  # fmt: skip
KNOWN = (
    "alien", "bathtub", "bomb", "briefcase", "eye", "hibiscus", "lipstick", "microphone", "peach", "rabbit-face",
    "sailboat", "skull",
)  # fmt: skip
UNKNOWN = (
    "candy", "door", "helicopter", "high-heeled-shoe", "pear", "red-apple", "snowman", "spouting-whale", "sushi",
    "tomato", "trumpet", "wine-glass",
)  # fmt: skip
NAMES = TRAINED + KNOWN + UNKNOWN
GROUPS = {"trained": TRAINED, "known": KNOWN, "unknown": UNKNOWN}

# How the models are sampled.
STEPS, CFG = 20, 2.5

# Iconify's packages of the sets, in the versions that were drawn from.
SETS = {
    "noto-v1": "1.2.5", "noto": "1.2.9", "emojione": "1.2.3", "fluent-emoji": "1.2.7", "fluent-emoji-flat": "1.2.6",
    "twemoji": "1.2.5", "fluent-emoji-high-contrast": "1.2.6", "streamline-emojis": "1.2.4",
}  # fmt: skip
SOURCE_SETS = ("noto-v1", "noto", "emojione")
TARGET_SETS = ("fluent-emoji", "twemoji", "noto")
# The styles that no base model has seen: black ink without colours, and dark outlines around light colours.
STYLES = {"ink": "fluent-emoji-high-contrast", "outline": "streamline-emojis"}
# Seen by no model but the judge, which is tested on it.
HELD_BACK = "fluent-emoji-flat"


@dataclass(frozen=True)
class Base:
    """A base model's data: the names and sets that it was trained on."""

    names: tuple[str, ...]
    sets: tuple[str, ...]


BASES = {
    "source": Base(TRAINED + KNOWN, SOURCE_SETS),
    "target": Base(NAMES, TARGET_SETS),
    "flow_target": Base(NAMES, TARGET_SETS),
}
# The bases that have a control by silhouettes.
CONTROLLED = ("source", "target")


def labels(names: Iterable[str]) -> list[int]:
    """Return the numbers of names; that of an empty name, the empty prompt, is -1."""
    return [NAMES.index(name) if name else -1 for name in names]
