"""`AsyncLM`: a server, from Python."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar, Unpack

import grpc

from asynclm.client.connection import MAX_MESSAGE_BYTES, ConnectionOptions
from asynclm.client.errors import ProtocolError
from asynclm.client.line import Line
from asynclm.client.options import AnyTool, Prompt, SessionOptions, split_tools, start_request
from asynclm.client.session import Session
from asynclm.client.stream import EventStream, Generation
from asynclm.cml.codec import EOS, EndOfSequence
from asynclm.cml.control import Control
from asynclm.conformance.v1 import scripted_model_pb2, scripted_model_pb2_grpc
from asynclm.engine.script import ScriptControl, ScriptEnd, ScriptStep, ScriptText
from asynclm.v1 import control_pb2, control_pb2_grpc, inference_pb2, inference_pb2_grpc
from asynclm.wire import (
    ServerInfo,
    SessionDetail,
    SessionSummary,
    WireError,
    script_to_pb,
    server_info_from_pb,
    session_detail_from_pb,
    start_to_pb,
    summary_from_pb,
)

R = TypeVar("R")
V = TypeVar("V")

AnyStep = ScriptStep | str | Control | EndOfSequence
"""A step of a script; a text, a control token and end of sequence may stand for themselves."""

PAGE = 1000


class AsyncLM:
    """A client of one server.

        async with AsyncLM("localhost:50151") as llm:
            async for event in llm.session("What is on at the cinema tonight?", tools=[programme]):
                ...

    Belongs to one event loop. Sessions that are open when the client is closed are ended.

    Args:
        target: `host:port`, `grpc://host:port`, or `grpcs://host:port` for TLS.
        token: bearer token, sent with every rpc; over plaintext to loopback only.
        tls: whether to use TLS.
        ca_file: the authority that signed the server's certificate, PEM; the system's if left out. Implies `tls`.
        certificate_file: the client's own certificate, PEM, for mTLS. Implies `tls`.
        key_file: its key.
        allow_plaintext_token: send the token over plaintext beyond loopback.
        max_message_bytes: size of one message to the server; the server's may have any.
        timeout: seconds for each rpc but sessions.

    Raises:
        ValueError: the target is not one, half a key pair, or a token that would travel in plaintext.
    """

    def __init__(
        self,
        target: str,
        *,
        token: str | None = None,
        tls: bool = False,
        ca_file: str | os.PathLike[str] | None = None,
        certificate_file: str | os.PathLike[str] | None = None,
        key_file: str | os.PathLike[str] | None = None,
        allow_plaintext_token: bool = False,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        timeout: float = 30.0,
    ) -> None:
        self._connection = ConnectionOptions(
            target=target,
            token=token,
            tls=tls,
            ca_file=None if ca_file is None else Path(ca_file),
            certificate_file=None if certificate_file is None else Path(certificate_file),
            key_file=None if key_file is None else Path(key_file),
            allow_plaintext_token=allow_plaintext_token,
            max_message_bytes=max_message_bytes,
        )
        self._timeout = timeout
        self._channel: grpc.aio.Channel | None = None
        self._streams: set[EventStream] = set()

    @property
    def target(self) -> str:
        """The server's host and port."""
        return self._connection.address

    # --- sessions --------------------------------------------------------------------------------------------

    def session(
        self,
        prompt: Prompt | None = None,
        *,
        tools: Iterable[AnyTool] = (),
        max_concurrency: int = 16,
        **options: Unpack[SessionOptions],
    ) -> Session:
        """A session; it is opened by `async with`, by iteration, or by the first thing that is said to it.

        Args:
            prompt: the user's message, or the conversation; None with `prompt_ids`.
            tools: tools that this client runs: `Tool`s, typed functions, or bare `ToolSpec`s whose calls the caller
                answers with `Session.answer`.
            max_concurrency: tools of this session that run at once.
            options: see `SessionOptions`.

        Raises:
            ValueError: an option is not one of the allowed values, or two tools have one name.
            TypeError: an unknown option, or a message that is none.
        """
        specs, runnable = split_tools(tools)
        request = start_request(prompt, specs, options)
        line = Line(lambda: self._call("Session"), lambda: self._call("Resume"))
        return Session(self._connection, self._streams, line, request, runnable, max_concurrency)

    def generate(self, prompt: Prompt | None = None, **options: Unpack[SessionOptions]) -> Generation:
        """A session without a way back, with the server's own tools only: iterate over it, or await it for the result.

        Args:
            prompt: the user's message, or the conversation; None with `prompt_ids`.
            options: see `SessionOptions`.

        Raises:
            ValueError: an option is not one of the allowed values.
            TypeError: an unknown option, or a message that is none.
        """
        request = inference_pb2.GenerateRequest(start=start_to_pb(start_request(prompt, (), options)))

        def start() -> Any:
            return inference_pb2_grpc.InferenceStub(self._open()).Generate(request, metadata=self._connection.metadata)

        return Generation(self._connection, self._streams, start)

    # --- control ---------------------------------------------------------------------------------------------

    async def server_info(self) -> ServerInfo:
        """What the server is and can do.

        Raises:
            AsyncLMError: the server cannot be reached, or refused.
        """
        stub = control_pb2_grpc.ControlStub(self._open())
        return await self._rpc(stub.GetServerInfo, control_pb2.GetServerInfoRequest(), server_info_from_pb)

    async def sessions(self) -> list[SessionSummary]:
        """The sessions that are running or kept, oldest first.

        Raises:
            AsyncLMError: the server cannot be reached, or refused.
        """
        stub = control_pb2_grpc.ControlStub(self._open())
        found: list[SessionSummary] = []
        token: str | None = None
        while True:
            request = control_pb2.ListSessionsRequest(page_size=PAGE, page_token=token)
            page, token = await self._rpc(stub.ListSessions, request, _page)
            found += page
            if token is None:
                return found

    async def get_session(self, session_id: str) -> SessionDetail:
        """State and ledger of one session, running or kept.

        Raises:
            NotFoundError: no such session, or no longer kept.
            AsyncLMError: the server cannot be reached, or refused.
        """
        stub = control_pb2_grpc.ControlStub(self._open())
        request = control_pb2.GetSessionRequest(session_id=session_id)
        return await self._rpc(stub.GetSession, request, session_detail_from_pb)

    async def abort(self, session_ids: str | Sequence[str], *, reason: str | None = None) -> list[str]:
        """Ends sessions; unknown and finished ones are no error.

        Args:
            session_ids: one or several.
            reason: said in the sessions' `Finished.message`.

        Returns:
            The ids of those that this call ended.

        Raises:
            AsyncLMError: the server cannot be reached, or refused.
        """
        ids = [session_ids] if isinstance(session_ids, str) else list(session_ids)
        stub = control_pb2_grpc.ControlStub(self._open())
        request = control_pb2.AbortSessionsRequest(session_ids=ids, reason=reason)
        return await self._rpc(stub.AbortSessions, request, lambda response: list(response.aborted))

    # --- scripted models -------------------------------------------------------------------------------------

    async def load_script(self, id: str, steps: Iterable[AnyStep], *, model: str | None = None) -> list[int]:
        """Loads a script, for sessions with `model="script:<id>"` or `model="script:<id>+weights"`.

        Args:
            id: its name.
            steps: what the model is to want; see `asynclm.engine.script` for steps beyond text and control tokens.
            model: the model whose tokenizer encodes it; the server's first if left out.

        Returns:
            The number of ids of each step.

        Raises:
            UnsupportedError: the server has no scripted models.
            AsyncLMError: the script is refused, or the server cannot be reached.
        """
        stub = scripted_model_pb2_grpc.ScriptedModelStub(self._open())
        request = script_to_pb(id, [_step(step) for step in steps], model)
        return await self._rpc(stub.LoadScript, request, lambda response: list(response.ids_per_step))

    async def advance(self, session: Session | str, ms: int) -> int:
        """Moves the clock of a session on a scripted model; due timers have fired when it returns.

        Returns:
            The session's clock now, in milliseconds.

        Raises:
            InvalidRequestError: the session runs on the wall clock.
            AsyncLMError: the server cannot be reached, or refused.
        """
        session_id = session if isinstance(session, str) else session.session_id
        stub = scripted_model_pb2_grpc.ScriptedModelStub(self._open())
        request = scripted_model_pb2.AdvanceRequest(session_id=session_id, ms=ms)
        return await self._rpc(stub.Advance, request, lambda response: int(response.now_ms))

    async def reset_scripts(self) -> None:
        """Ends every session on a script and forgets every script.

        Raises:
            AsyncLMError: the server cannot be reached, or refused.
        """
        stub = scripted_model_pb2_grpc.ScriptedModelStub(self._open())
        await self._rpc(stub.Reset, scripted_model_pb2.ResetRequest(), lambda response: None)

    # --- the connection --------------------------------------------------------------------------------------

    async def aclose(self) -> None:
        """Ends the sessions that are open, and the connection."""
        for stream in list(self._streams):
            await stream.aclose()
        if self._channel is not None:
            await self._channel.close(None)
            self._channel = None

    async def __aenter__(self) -> AsyncLM:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    def _open(self) -> grpc.aio.Channel:
        if self._channel is None:
            self._channel = self._connection.channel()
        return self._channel

    def _call(self, rpc: str) -> Any:
        # Without an iterator of requests, a call is written to; the stubs know only the other way.
        stub: Any = inference_pb2_grpc.InferenceStub(self._open())
        return getattr(stub, rpc)(metadata=self._connection.metadata)

    async def _rpc(self, method: Callable[..., Awaitable[R]], request: Any, read: Callable[[R], V]) -> V:
        try:
            return read(await method(request, timeout=self._timeout, metadata=self._connection.metadata))
        except grpc.aio.AioRpcError as error:
            raise self._connection.error(error) from None
        except WireError as error:
            raise ProtocolError(f"{self.target}: {error}") from None


def _page(response: control_pb2.ListSessionsResponse) -> tuple[list[SessionSummary], str | None]:
    token = response.next_page_token if response.HasField("next_page_token") else None
    return [summary_from_pb(summary) for summary in response.sessions], token


def _step(step: AnyStep) -> ScriptStep:
    if isinstance(step, str):
        return ScriptText(step)
    if isinstance(step, Control):
        return ScriptControl(step)
    return ScriptEnd() if step is EOS else step
