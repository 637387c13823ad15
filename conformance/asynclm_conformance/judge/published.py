"""What a session tells of its model, held against what the server has published of its models."""

from __future__ import annotations

from asynclm.v1 import control_pb2, session_pb2
from asynclm_conformance.cases.mapping import to_dict
from asynclm_conformance.judge.matching import Difference, difference


def published_difference(info: control_pb2.GetServerInfoResponse, started: session_pb2.Started) -> Difference | None:
    """Where the binding of `Started` is not the one in `GetServerInfo` [BIND-005].

    A session on a script may have the binding of any model: what it is called is the server's affair.
    """
    named = [model for model in info.models if model.name == started.model] or list(info.models)
    if any(model.binding == started.binding for model in named):
        return None
    if not named:
        return "GetServerInfo.models", "the model of the session", "none"
    wrong = difference(to_dict(named[0].binding), to_dict(started.binding), "Started.binding")
    return wrong or ("Started.binding", str(named[0].binding), str(started.binding))
