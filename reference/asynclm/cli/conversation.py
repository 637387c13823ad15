"""One session between a person and a model: events go to the view, what is typed goes to the session."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Iterable, Iterator

from asynclm.cli.exit_codes import ExitCode
from asynclm.cli.keyboard import Keyboard
from asynclm.cli.ledger import ENDED_WELL
from asynclm.cli.line_editor import Command, Input, Submitted
from asynclm.cli.recording import Recorder
from asynclm.cli.view import View
from asynclm.client import AsyncLMError, InterruptRejectedError, Session
from asynclm.session import effects
from asynclm.session.state import State
from asynclm.wire.values import ReceivedEvent

_FRAME_S = 0.08
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Conversation:
    """Runs one session to its end.

    Args:
        session: the session, open.
        view: shows it.
        keyboard: what is typed; None for nothing.
        recorder: writes its events down, or None.
        step: tokens granted at the start and at each empty line; None for unlimited credit.
        turns: one line of input for each turn, the next when the model is idle: for conversations out of a pipe.
    """

    def __init__(
        self,
        session: Session,
        view: View,
        keyboard: Keyboard | None,
        *,
        recorder: Recorder | None = None,
        step: int | None = None,
        turns: bool = False,
    ) -> None:
        self._session = session
        self._view = view
        self._keyboard = keyboard
        self._recorder = recorder
        self._step = step
        self._credit = step or 0
        self._turns = turns
        self._began = time.monotonic()
        self._idle = asyncio.Event()
        self._held = asyncio.Event()
        self._paused = False
        self._stops = 0
        self._finished: effects.Finished | None = None
        self._dead = asyncio.Event()
        self._stopping: asyncio.Task[None] | None = None

    async def run(self) -> ExitCode:
        """Shows the session until it has finished; Ctrl-C finishes it, a second one breaks it off.

        Raises:
            AsyncLMError: the stream broke.
        """
        reading = asyncio.create_task(self._show_events())
        broken = asyncio.create_task(self._dead.wait())
        helpers = [broken, asyncio.create_task(self._draw())]
        if self._keyboard is not None:
            helpers.append(asyncio.create_task(self._type(self._keyboard)))
        try:
            with _handling(_SIGNALS, self._stop):
                await asyncio.wait([reading, broken], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (reading, *helpers):
                if not task.done():
                    task.cancel()
            await asyncio.wait([reading, *helpers])
        if self._dead.is_set():
            await self._session.detach()
        else:
            reading.result()
        return self._exit_code()

    def _exit_code(self) -> ExitCode:
        if self._stops:
            return ExitCode.INTERRUPTED
        good = self._finished is not None and self._finished.reason in ENDED_WELL
        return ExitCode.OK if good else ExitCode.FAILED

    @property
    def _at_ms(self) -> float:
        return (time.monotonic() - self._began) * 1000

    async def _show_events(self) -> None:
        async for event in self._session:
            at_ms = self._at_ms
            if self._recorder is not None:
                self._recorder.event(event, at_ms)
            self._view.event(event, at_ms)
            self._follow(event)

    def _follow(self, event: ReceivedEvent) -> None:
        report = event.report
        match report:
            case effects.StateChanged(state=State.IDLE):
                self._idle.set()
            case effects.StateChanged(state=State.DECODING):
                self._idle.clear()
            case effects.Tokens(ids=ids) if self._step is not None:
                self._credit -= len(ids)
                if self._credit <= 0:
                    self._show_hold()
            case effects.Finished():
                self._finished = report

    async def _draw(self) -> None:
        """Redraws at a steady rate, and at once when something is typed."""
        changed = self._keyboard.changed if self._keyboard is not None else asyncio.Event()
        while True:
            self._view.tick(self._at_ms)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FRAME_S):
                    await changed.wait()
            changed.clear()

    # --- the keyboard ----------------------------------------------------------------------------------------

    async def _type(self, keyboard: Keyboard) -> None:
        while True:
            item = await keyboard.inputs.get()
            # The session may end at any time; the reader of its events tells of everything that goes wrong.
            with contextlib.suppress(AsyncLMError):
                if item is Command.END_OF_INPUT:
                    await self._finish_when_stuck()
                    return
                await self._act(item)

    async def _act(self, item: Input) -> None:
        match item:
            case Command.PAUSE:
                self._paused = not self._paused
                await (self._session.pause() if self._paused else self._session.unpause())
                self._show_hold()
            case Submitted(text) if text.strip():
                await self._say(text)
            case Submitted() if self._step is not None:
                self._credit += self._step
                await self._session.grant(self._step)
                self._show_hold()

    async def _say(self, text: str) -> None:
        if self._turns:
            await self._idle.wait()
            self._idle.clear()
        with contextlib.suppress(InterruptRejectedError):  # the event says why, and the view shows it
            await self._session.interrupt(text)

    async def _finish_when_stuck(self) -> None:
        """Nothing more will be typed: the session ends as soon as it cannot go on without that."""
        stuck = [asyncio.create_task(event.wait()) for event in (self._idle, self._held)]
        try:
            await asyncio.wait(stuck, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in stuck:
                task.cancel()
        await self._session.finish()

    def _show_hold(self) -> None:
        why = None
        if self._paused:
            why = "paused, Ctrl-P goes on"
        elif self._step is not None and self._credit <= 0:
            why = f"out of credit, Enter grants {self._step} tokens"
        self._view.held(why)
        if why is None:
            self._held.clear()
        else:
            self._held.set()

    # --- the end ---------------------------------------------------------------------------------------------

    def _stop(self) -> None:
        """Ctrl-C: the first cancels the calls and finishes the session, the second breaks it off."""
        self._stops += 1
        if self._stops == 1:
            self._view.note("stopping: pending calls are cancelled; Ctrl-C again breaks off")
            self._stopping = asyncio.create_task(self._finish())
        else:
            self._dead.set()

    async def _finish(self) -> None:
        with contextlib.suppress(AsyncLMError):
            await self._session.finish(cancel_pending=True)


@contextlib.contextmanager
def _handling(signals: Iterable[signal.Signals], action: Callable[[], None]) -> Iterator[None]:
    """Calls `action` on these signals while the block runs."""
    loop = asyncio.get_running_loop()
    for number in signals:
        loop.add_signal_handler(number, action)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
