"""The target of a run: an address, or a command that is started for it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from asynclm.conformance.v1 import scripted_model_pb2_grpc
from asynclm.v1 import control_pb2, control_pb2_grpc, inference_pb2_grpc
from asynclm_conformance.faults import RpcFailedError, TargetGoneError, answer_of
from asynclm_conformance.names import short_name

REVISION = "draft"
"""The revision of the specification that this suite checks."""

ASK_S = 10.0
"""For how long the target is given to answer a question about itself."""

ENDS_S = 1.0
"""For how long a started target that does not answer is waited for: a process that ends lets go of its port first."""

STOP_S = 15.0
"""For how long a started target is given to end after SIGTERM."""

BREAK_OFF_S = 1.0
"""The same where the run was broken off: nobody waits for the sessions that it drains."""

_KEEPER = 'cat > /dev/null; kill -s TERM -- "-$1" && sleep 5 && kill -s KILL -- "-$1"'
"""What ends a target whose runner is gone: it reads until the runner's end of a pipe is closed, however that came."""

_OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


class TargetError(Exception):
    """The target cannot be used; the message says what to do."""


@dataclass
class Target:
    """A server that is there.

    Attributes:
        address: `host:port`.
        channel: to it.
        info: what it says of itself.
    """

    address: str
    channel: grpc.aio.Channel
    info: control_pb2.GetServerInfoResponse
    process: Started | None = None
    inference: inference_pb2_grpc.InferenceAsyncStub = field(init=False)
    control: control_pb2_grpc.ControlAsyncStub = field(init=False)
    scripts: scripted_model_pb2_grpc.ScriptedModelAsyncStub = field(init=False)

    def __post_init__(self) -> None:
        self.inference = inference_pb2_grpc.InferenceStub(self.channel)
        self.control = control_pb2_grpc.ControlStub(self.channel)
        self.scripts = scripted_model_pb2_grpc.ScriptedModelStub(self.channel)

    async def still_there(self) -> None:
        """Makes sure that it still answers.

        Raises:
            TargetGoneError: it does not.
        """
        try:
            await answer_of(self.control.GetServerInfo(control_pb2.GetServerInfoRequest(), timeout=ASK_S))
        except RpcFailedError as error:
            if self.process is not None and await self.process.ends():
                raise TargetGoneError(f"the target ended by itself, {self.process.said}") from None
            raise TargetGoneError(f"the target does not answer any more: {error.status}") from None


class Started:
    """A target that was started by a command."""

    def __init__(
        self, process: asyncio.subprocess.Process, keeper: asyncio.subprocess.Process, output: IO[bytes]
    ) -> None:
        self._process = process
        self._keeper = keeper
        self._output = output

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self._process.returncode is not None

    async def ends(self) -> bool:
        """Whether it is over, or about to be."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), ENDS_S)
        return self.ended

    @property
    def said(self) -> str:
        """How it ended and the last that it wrote."""
        with contextlib.suppress(ValueError):
            self._output.flush()
            size = Path(self._output.name).stat().st_size
            with Path(self._output.name).open("rb") as file:
                file.seek(max(0, size - 2_000))
                tail = file.read().decode("utf-8", "replace").strip()
            code = self._process.returncode
            ended = f"exit code {code}" if code is not None else "still running"
            return f"{ended}; its last output:\n{tail}" if tail else f"{ended}, without output"
        return "its output is gone"

    async def stop(self, within_s: float) -> None:
        """Asks it to end, and ends it after a while, or at once if this is cancelled, too."""
        try:
            if not self.ended:
                with contextlib.suppress(ProcessLookupError):
                    self._process.send_signal(signal.SIGTERM)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(within_s):
                        await self._process.wait()
        finally:
            for process in (self._keeper, self._process):
                with contextlib.suppress(ProcessLookupError):  # and whatever it has started
                    os.killpg(process.pid, signal.SIGKILL)
        await self._keeper.wait()
        await self._process.wait()


@contextlib.asynccontextmanager
async def connected(
    address: str, *, credentials: grpc.ChannelCredentials | None, start_s: float
) -> AsyncIterator[Target]:
    """A target that is there already.

    Raises:
        TargetError: it cannot be reached, is not healthy, or speaks another revision.
    """
    async with _channel(address, credentials) as channel:
        yield await _ready(address, channel, start_s, None)


@contextlib.asynccontextmanager
async def started(command: Sequence[str], *, start_s: float) -> AsyncIterator[Target]:
    """A target that is started, and ended when it is over.

    Args:
        command: what to start; `{port}` in it is replaced by a free port on which it has to listen, on 127.0.0.1.
        start_s: for how long it is given until it is healthy.

    Raises:
        TargetError: it cannot be started, ends, is not healthy in time, or speaks another revision.
    """
    if not any("{port}" in part for part in command):
        raise TargetError(
            f"{command[0]}: the command has no {{port}}: it has to listen on the port that is put in its place; the "
            "address of a server that runs already begins with grpc://"
        )
    port = free_port()
    arguments = [part.replace("{port}", str(port)) for part in command]
    with tempfile.NamedTemporaryFile(prefix="asynclm-target-", suffix=".log") as output:
        try:
            process = await asyncio.create_subprocess_exec(
                *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        except OSError as error:
            hint = "; a command is a list of words" if " " in arguments[0] else ""
            raise TargetError(f"{arguments[0]} cannot be started: {error.strerror or error}{hint}") from None
        try:
            keeper = await asyncio.create_subprocess_exec(
                *("sh", "-c", _KEEPER, "keeper", str(process.pid)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            raise
        running = Started(process, keeper, output)
        within_s = STOP_S
        try:
            address = f"127.0.0.1:{port}"
            async with _channel(address, None) as channel:
                yield await _ready(address, channel, start_s, running)
        except (asyncio.CancelledError, KeyboardInterrupt):
            within_s = BREAK_OFF_S
            raise
        finally:
            await running.stop(within_s)


def _channel(address: str, credentials: grpc.ChannelCredentials | None) -> grpc.aio.Channel:
    if credentials is None:
        return grpc.aio.insecure_channel(address, options=_OPTIONS)
    return grpc.aio.secure_channel(address, credentials, options=_OPTIONS)


def free_port() -> int:
    """A port on 127.0.0.1 that nobody else is given for a while, so that two runs never take each other's target.

    A connection to it is opened and closed from its side: until the system has forgotten that (a minute), it gives the
    port to nobody who asks for any, and lets listen on it who asks for this one, as servers do (SO_REUSEADDR).
    """
    with socket.socket() as listener, socket.socket() as client:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        client.connect(listener.getsockname())
        accepted, _ = listener.accept()
        accepted.close()
        return int(listener.getsockname()[1])


async def _ready(address: str, channel: grpc.aio.Channel, start_s: float, process: Started | None) -> Target:
    """Waits until the target is healthy and has said what it is."""
    health = health_pb2_grpc.HealthStub(channel)
    last = "nothing answers"
    asked = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(start_s):
            while True:
                if process is not None and process.ended:
                    raise TargetError(f"the target ended before it was healthy, {process.said}")
                asked = asyncio.get_running_loop().time()
                try:
                    answer = await answer_of(health.Check(health_pb2.HealthCheckRequest(), timeout=start_s))
                except RpcFailedError as error:
                    last, code = str(error.status), error.status.code
                    if code == "UNIMPLEMENTED":
                        raise TargetError(
                            f"{address} has no grpc.health.v1.Health, as WIRE-001 demands; is it an AsyncLM server?"
                        ) from None
                    if code == "UNAUTHENTICATED":
                        raise TargetError(f"{address} wants credentials: see --token-file") from None
                    if process is None and code == "UNAVAILABLE":
                        raise TargetError(f"{address} cannot be reached: {last}; is the server running?") from None
                    await asyncio.sleep(0.05)
                    continue
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    break
                last = f"health is {short_name(health_pb2.HealthCheckResponse.ServingStatus.DESCRIPTOR, answer.status)}"
                await asyncio.sleep(0.05)
    except TimeoutError:
        if asyncio.get_running_loop().time() - asked > ENDS_S:
            last = "Health/Check is not answered"
        where = f"; {process.said}" if process is not None else ""
        raise TargetError(
            f"{address} was not healthy within {start_s:g} s: {last}{where}\n"
            "a target that needs longer gets it with --start SECONDS"
        ) from None
    return Target(address, channel, await _info(address, channel, process), process)


async def _info(address: str, channel: grpc.aio.Channel, process: Started | None) -> control_pb2.GetServerInfoResponse:
    stub = control_pb2_grpc.ControlStub(channel)
    try:
        info = await answer_of(stub.GetServerInfo(control_pb2.GetServerInfoRequest(), timeout=ASK_S))
    except RpcFailedError as error:
        hint = ": see --token-file" if error.status.code == "UNAUTHENTICATED" else ""
        if process is not None and await process.ends():
            hint = f"; the target ended by itself, {process.said}"
        raise TargetError(f"{address} does not say what it is (GetServerInfo): {error.status}{hint}") from None
    if info.protocol_revision != REVISION:
        raise TargetError(
            f"{address} implements revision {info.protocol_revision!r} of the specification; this suite checks "
            f"{REVISION!r}"
        )
    return info
