"""The service of scripted models: load a script, move a manual clock, start over."""

from __future__ import annotations

import asyncio

import grpc

from asynclm.conformance.v1 import scripted_model_pb2, scripted_model_pb2_grpc
from asynclm.engine.loop import SessionNotFoundError
from asynclm.engine.script import ScriptError
from asynclm.server.context import Context
from asynclm.server.hub import SessionHub
from asynclm.wire.errors import FieldError, StatusError, abort, field_fault, session_not_found
from asynclm.wire.scripts import script_from_pb


class ScriptedModelService(scripted_model_pb2_grpc.ScriptedModelServicer):
    """Scripted models over the hub."""

    def __init__(self, hub: SessionHub) -> None:
        self._hub = hub

    async def LoadScript(  # noqa: N802
        self, request: scripted_model_pb2.LoadScriptRequest, context: Context
    ) -> scripted_model_pb2.LoadScriptResponse:
        """Loads a script, or replaces it for sessions that start later."""
        most = self._hub.options.limits.max_script_steps
        try:
            if len(request.steps) > most:
                raise FieldError("steps", f"has {len(request.steps)} entries; at most {most} are allowed")
            script = script_from_pb(request)
            units = await self._hub.load(script)
        except FieldError as error:
            await abort(context, field_fault(error))
        except ScriptError as error:
            await abort(context, StatusError(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error), "TOO_MANY_SCRIPTS"))
        return scripted_model_pb2.LoadScriptResponse(ids_per_step=units)

    async def Advance(  # noqa: N802
        self, request: scripted_model_pb2.AdvanceRequest, context: Context
    ) -> scripted_model_pb2.AdvanceResponse:
        """Moves one session's clock; what was due has happened and is in its stream when this returns."""
        if request.ms < 0:
            await abort(context, field_fault(FieldError("ms", f"is {request.ms}; it must be 0 or more")))
        record = self._hub.registry.get(request.session_id)
        if record is None:
            await abort(context, session_not_found(request.session_id))
        try:
            now_ms = await asyncio.wrap_future(self._hub.loop.advance(request.session_id, request.ms))
        except SessionNotFoundError:
            fault = StatusError(
                grpc.StatusCode.FAILED_PRECONDITION, f"session {request.session_id} has finished", "FINISHED"
            )
            await abort(context, fault)
        except ValueError as error:
            await abort(context, StatusError(grpc.StatusCode.FAILED_PRECONDITION, str(error), "WALL_CLOCK"))
        return scripted_model_pb2.AdvanceResponse(now_ms=now_ms, last_event_seq=record.stream.last_sequence)

    async def Reset(  # noqa: N802
        self, request: scripted_model_pb2.ResetRequest, context: Context
    ) -> scripted_model_pb2.ResetResponse:
        """Ends every session on a script and forgets every script."""
        await self._hub.reset_scripts()
        return scripted_model_pb2.ResetResponse()
