"""The texts in locales/: English word for word the nodes' own, Chinese complete."""

import json
import shutil
import sys

import folder_paths
import nodes as host_nodes
import pytest
from app.custom_node_manager import CustomNodeManager

from harness.host import REPOSITORY

LANGUAGES = ["en", "zh"]
PACK = sys.modules[host_nodes.NODE_CLASS_MAPPINGS["DeltaPair"].__module__.rpartition(".")[0]]


def locale(language, file):
    return json.loads((REPOSITORY / "locales" / language / file).read_text(encoding="utf-8"))


def english():
    """What nodeDefs.json has to say, as the schemas say it. The front end names a nameless output by its type."""
    texts = {}
    for node, kind in host_nodes.NODE_CLASS_MAPPINGS.items():
        schema = kind.GET_SCHEMA() if kind.__module__.startswith(PACK.__name__ + ".") else None
        if schema and not schema.is_deprecated:
            texts[node] = {
                "display_name": schema.display_name,
                "description": schema.description,
                "inputs": {each.id: {"name": each.id, "tooltip": each.tooltip} for each in schema.inputs},
                "outputs": {
                    str(index): ({"name": each.display_name} if each.display_name else {}) | {"tooltip": each.tooltip}
                    for index, each in enumerate(schema.outputs)
                },
            }
    return texts


def flat(texts, path=()):
    for key, value in texts.items():
        yield from flat(value, (*path, key)) if isinstance(value, dict) else [((*path, key), value)]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_text_has_its_place(language):
    texts = locale(language, "nodeDefs.json")
    assert len(texts) > 10
    for node, parts in texts.items():
        assert list(parts["inputs"]) == [each.id for each in host_nodes.NODE_CLASS_MAPPINGS[node].GET_SCHEMA().inputs]
    assert {path for path, _ in flat(texts)} == {path for path, _ in flat(english())}


def test_english_is_what_the_nodes_say():
    assert dict(flat(locale("en", "nodeDefs.json"))) == dict(flat(english()))


def test_chinese_is_translated():
    original = dict(flat(english()))
    for path, text in flat(locale("zh", "nodeDefs.json")):
        assert text.strip(), path
        if path[-1] != "name":
            assert text != original[path], path
            assert any("\u4e00" <= letter <= "\u9fff" for letter in text), path
        if path[-1] in ("description", "tooltip"):
            assert text.endswith("。"), path


def test_alike_in_english_alike_in_chinese():
    """One English text has one translation, wherever it stands."""
    chinese, seen = dict(flat(locale("zh", "nodeDefs.json"))), {}
    for path, text in flat(english()):
        assert seen.setdefault(text, chinese[path]) == chinese[path], path


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_front_end_shows_them_as_they_are(language):
    """These letters have a meaning in vue-i18n's messages."""
    for file in ("nodeDefs.json", "main.json"):
        for path, text in flat(locale(language, file)):
            assert not set(text) & set("{}@|$"), path


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_category_is_named(language):
    category = host_nodes.NODE_CLASS_MAPPINGS["DeltaPair"].GET_SCHEMA().category.rpartition("/")[2]
    name = locale(language, "main.json")["nodeCategories"][category]
    assert name == category if language == "en" else name not in ("", category)


def test_the_host_serves_them(monkeypatch, tmp_path):
    shutil.copytree(REPOSITORY / "locales", tmp_path / "pack" / "locales")
    monkeypatch.setattr(folder_paths, "get_folder_paths", lambda kind: [str(tmp_path)])
    assert CustomNodeManager().build_translations() == {
        language: locale(language, "main.json") | {"nodeDefs": locale(language, "nodeDefs.json")}
        for language in LANGUAGES
    }
