"""What a session tells of its model, held against what the server has published of its models."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from asynclm.v1 import control_pb2, session_pb2
from asynclm_conformance.cases.mapping import to_dict
from asynclm_conformance.matching.values import Difference, difference
from asynclm_conformance.names import capability_name


def published_differences(
    info: control_pb2.GetServerInfoResponse, started: session_pb2.Started
) -> Iterator[tuple[str, Difference]]:
    """Where `Started` is not what `GetServerInfo` says, each with the requirement.

    A session on a script may have the binding of any model: what it is called is the server's affair.
    """
    wrong = _binding(info, started)
    if wrong is not None:
        yield "BIND-005", wrong
    for name in ("grammar_hash", "emulated", "unit"):
        published, told = getattr(info, name), getattr(started, name)
        if published != told:
            yield "WIRE-110", (f"GetServerInfo.{name}", f"{told!r}, as in Started", f"{published!r}")
    own = {tool.name for tool in started.tools if not tool.client_owned}
    declared, told_of = set(info.capabilities), set(started.capabilities)
    if declared != told_of:
        yield "WIRE-014", ("Started.capabilities", f"{_listed(declared)}, as in GetServerInfo", f"{_listed(told_of)}")
    unlisted = sorted(own - {tool.name for tool in info.tools})
    if unlisted:
        yield "WIRE-110", ("GetServerInfo.tools", f"{unlisted}, which sessions are offered", "none of these")


def _listed(capabilities: Iterable[int]) -> str:
    return ", ".join(capability_name(number) for number in sorted(capabilities)) or "none"


def _binding(info: control_pb2.GetServerInfoResponse, started: session_pb2.Started) -> Difference | None:
    """The binding is that of one of the server's models [BIND-005]."""
    named = [model for model in info.models if model.name == started.model] or list(info.models)
    if any(model.binding == started.binding for model in named):
        return None
    if not named:
        return "GetServerInfo.models", "the model of the session", "none"
    wrong = difference(to_dict(named[0].binding), to_dict(started.binding), "Started.binding")
    return wrong or ("Started.binding", str(named[0].binding), str(started.binding))
