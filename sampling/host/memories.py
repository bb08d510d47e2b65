"""Patches and controls that remember: guidance with momentum, caches, a ControlNet's place in the run.

One patched MODEL may serve in several branches of a run, and a LoRA loader behind a patch hands it on. The
function is then one object in all of them, and so is what it remembers from call to call. Each branch but
the first gets copies with a memory of their own, as if the patch had been put on every model apart.
"""

import itertools
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from comfy.controlnet import ControlBase
from comfy.model_patcher import ModelPatcher

PLACES = ("model_options", "object_patches", "wrappers", "callbacks")
# Classes that no patch of another pack defines: what they make is not a patch's memory.
FOREIGN = {*sys.stdlib_module_names, "torch", "numpy", "PIL", "comfy", "comfy_api", "comfy_execution"}


def remembering(patcher: ModelPatcher) -> Iterator[Any]:
    """Return the functions and function objects among the patches of `patcher` that may remember something."""
    return _remembering([getattr(patcher, place) for place in PLACES])


def controls(conds: Mapping[str, Sequence[dict]]) -> Iterator[ControlBase]:
    """Return the controls of a guider's conditionings, chained ones too."""
    for options in itertools.chain(*conds.values()):
        control = options.get("control")
        while control is not None:
            yield control
            control = control.previous_controlnet


def separate_memories(patcher: ModelPatcher, taken: set[int]) -> None:
    """Give `patcher`, a private clone, copies of its patches if one of them is in `taken`; then note there what it had.

    `taken` are the ids of what the branches before it call.
    """
    own = set(map(id, remembering(patcher)))
    if own & taken:
        copier = _Copier()
        for place in PLACES:
            setattr(patcher, place, copier.copy(getattr(patcher, place)))
    taken |= own


def with_own_controls(conditionings: Sequence[list], taken: set[int]) -> list[list]:
    """Return `conditionings` with copies of those controls that are in `taken`; then note there what they had."""
    copies: dict[ControlBase, ControlBase] = {}

    # Every control of the host has a copy(), though their base class does not say so.
    def own(control: Any) -> ControlBase | None:
        if control is None:
            return None
        if control not in copies:
            chain = own(control.previous_controlnet)
            shared = id(control) in taken or chain is not control.previous_controlnet
            copies[control] = control.copy().set_previous_controlnet(chain) if shared else control
        return copies[control]

    def with_own(options: dict) -> dict:
        return {**options, "control": own(options["control"])} if "control" in options else options

    found = [[[embedding, with_own(options)] for embedding, options in given] for given in conditionings]
    taken |= set(map(id, copies))
    return found


def _remembering(value: Any) -> Iterator[Any]:
    if isinstance(value, (dict, list, tuple)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _remembering(each)
    elif isinstance(value, types.FunctionType):
        if value.__closure__ or value.__defaults__ or value.__kwdefaults__:
            yield value
    elif isinstance(value, (types.MethodType, partial)) or _is_record(value):
        yield value


def _is_record(value: Any) -> bool:
    """Say whether `value` is a plain object of another pack, which may keep a memory in its attributes."""
    kind = type(value)
    if kind is types.SimpleNamespace:
        return True
    if isinstance(value, (type, torch.nn.Module, ModelPatcher)) or kind.__module__.partition(".")[0] in FOREIGN:
        return False
    return kind.__new__ is object.__new__ and hasattr(value, "__dict__") and not hasattr(kind, "__del__")


class _Copier:
    """Copies functions with their variables, plain containers and plain objects; all else stays the same object."""

    def __init__(self):
        # The original is kept beside its copy, so that its id stays its own.
        self._made: dict[int, tuple[Any, Any]] = {}

    def copy(self, value: Any) -> Any:
        made = self._made.get(id(value))
        return self._copy(value) if made is None else made[1]

    def _note(self, value: Any, copied: Any) -> Any:
        """Before it is filled: what refers to itself then finds the copy."""
        self._made[id(value)] = (value, copied)
        return copied

    def _copy(self, value: Any) -> Any:
        kind: Any = type(value)
        if kind is dict:
            copied = self._note(value, {})
            copied.update((key, self.copy(each)) for key, each in value.items())
        elif kind is list:
            copied = self._note(value, [])
            copied.extend(map(self.copy, value))
        elif kind is set:
            copied = self._note(value, set(value))
        elif kind is tuple:
            copied = self._note(value, tuple(map(self.copy, value)))
        elif kind is types.CellType:
            copied = self._note(value, types.CellType())
            with suppress(ValueError):  # a variable without a value yet
                copied.cell_contents = self.copy(value.cell_contents)
        elif kind is types.FunctionType:
            copied = self._function(value)
        elif kind is types.MethodType:
            copied = self._note(value, types.MethodType(value.__func__, self.copy(value.__self__)))
        elif kind is partial:
            arguments = map(self.copy, value.args)
            keywords = {name: self.copy(each) for name, each in value.keywords.items()}
            copied = self._note(value, partial(self.copy(value.func), *arguments, **keywords))
        elif _is_record(value):
            copied = self._note(value, kind.__new__(kind))
            vars(copied).update((name, self.copy(each)) for name, each in vars(value).items())
        else:
            copied = self._note(value, value)
        return copied

    def _function(self, function: types.FunctionType) -> types.FunctionType:
        cells = tuple(map(self.copy, function.__closure__ or ()))
        if id(function) in self._made:  # one of its variables is the function itself
            return self._made[id(function)][1]
        defaults = self.copy(function.__defaults__)
        copied = types.FunctionType(function.__code__, function.__globals__, function.__name__, defaults, cells or None)
        copied.__kwdefaults__ = self.copy(function.__kwdefaults__)
        vars(copied).update((name, self.copy(each)) for name, each in vars(function).items())
        return self._note(function, copied)
