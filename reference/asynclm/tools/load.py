"""Finds tools by what a command line says: `package.module`, `package.module:name`, `path/to/file.py:name`."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from asynclm.tools.tool import Tool, tool
from asynclm.tools.toolset import ToolSet

_FORMS = "give package.module, package.module:name or path/to/file.py:name"


class ToolLoadError(ValueError):
    """Tools could not be loaded; the message names the target and what is allowed."""


def load_tools(target: str) -> ToolSet:
    """Loads tools.

    Args:
        target: a module or a file, then, after a colon, a name in it. The name may be a tool, a typed function, a
            `ToolSet` or any collection of these; without one, every public tool of the module is taken, in order.

    Raises:
        ToolLoadError: there is no such module or name, it fails to import, or it holds no tools.
    """
    place, name = _split(target)
    module = _import_file(target, Path(place)) if place.endswith(".py") else _import_module(target, place)
    if name:
        value: object = module
        for step in name.split("."):
            value = getattr(value, step, None)
        if value is None:
            raise ToolLoadError(f"tools {target!r}: {place} has no {name!r}; it has {_names(_public(module))}")
        return _collect(target, value)
    found = _public(module)
    if not found:
        raise ToolLoadError(f"tools {target!r}: {place} declares no tools; mark functions with @tool")
    return ToolSet(found)


def _split(target: str) -> tuple[str, str]:
    place, _, name = target.rpartition(":")
    # A drive letter (C:\tools.py) is not a separator, nor is a colon before a path.
    if not place or len(place) == 1 or "/" in name or "\\" in name:
        place, name = target, ""
    if not place or (place.startswith(".") and not place.endswith(".py")):
        raise ToolLoadError(f"tools {target!r}: {_FORMS}")
    return place, name


def _import_module(target: str, place: str) -> ModuleType:
    if str(Path.cwd()) not in sys.path:
        # A console script has its own folder on the path, not the one that it is started in.
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name and (place == error.name or place.startswith(error.name + ".")):
            raise ToolLoadError(f"tools {target!r}: there is no module {error.name!r}; {_FORMS}") from None
        raise ToolLoadError(f"tools {target!r}: {place} imports {error.name!r}, which is not installed") from error
    except Exception as error:
        raise ToolLoadError(f"tools {target!r}: {place} fails to import: {type(error).__name__}: {error}") from error


def _import_file(target: str, path: Path) -> ModuleType:
    if not path.is_file():
        raise ToolLoadError(f"tools {target!r}: there is no file {path}; {_FORMS}")
    name = f"asynclm_tools_{path.stem}_{abs(hash(path.resolve())):x}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ToolLoadError(f"tools {target!r}: {path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # annotations are looked up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ToolLoadError(f"tools {target!r}: {path} fails to import: {type(error).__name__}: {error}") from error
    return module


def _public(module: ModuleType) -> list[Tool]:
    names = getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]
    values = [getattr(module, name, None) for name in names]
    return list(dict.fromkeys(value for value in values if isinstance(value, Tool)))


def _collect(target: str, value: object) -> ToolSet:
    if isinstance(value, ToolSet):
        return value
    if isinstance(value, Tool):
        return ToolSet([value])
    try:
        if callable(value):
            return ToolSet([tool(value)])
        if isinstance(value, Iterable):
            return ToolSet(value)
    except (TypeError, ValueError) as error:
        raise ToolLoadError(f"tools {target!r}: {error}") from error
    raise ToolLoadError(f"tools {target!r}: a {type(value).__name__} is not a tool, a function or a set of these")


def _names(tools: list[Tool]) -> str:
    names = [item.__name__ if hasattr(item, "__name__") else item.name for item in tools]
    return ", ".join(names[:10]) if names else "no tools"
