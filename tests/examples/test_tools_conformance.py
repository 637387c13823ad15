"""The conformance tool set is what the suite's guide says that it is."""

from __future__ import annotations

from asynclm.tools import Tool, ToolSet
from examples import tools_conformance

TOOLS = [value for value in vars(tools_conformance).values() if isinstance(value, Tool)]


def test_the_set_has_its_names_and_flags() -> None:
    specs = {spec.name: spec for spec in ToolSet(TOOLS).specs}
    assert specs.keys() == {f"conformance.{name}" for name in ("echo", "fail", "steps", "hang", "gone")}
    assert [name for name, spec in specs.items() if not spec.cancellable] == ["conformance.gone"]
    assert (specs["conformance.hang"].timeout_ms, specs["conformance.gone"].timeout_ms) == (60_000, 1_000)
