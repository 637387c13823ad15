"""Computes a step's masks: few of them beside its forward pass, on a thread of their own; many right after it.

A pass drives all that a mask needs out of the processor's caches: the first mask after it takes about 130 µs, each
other a fifth of that. For one that is made beside the pass 9 µs are waited. But both take turns with Python's lock,
which torch leaves in its products and llguidance in its masks, and on two cores that torch has both of they also
take turns with those. With one sequence the thread was ahead in each of three runs; with sixteen it was behind in
most, by less than the runs differ. On a GPU, after the pass means while it runs: its products have been handed
over, and nobody has waited for them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import TypeAlias

from asynclm.engine.base import Bits, EngineError, StepRequest
from asynclm.engine.torch.sampler import MaskError, check_mask

Made: TypeAlias = "Bits | Exception"

BESIDE = 2
"""So many masks, or fewer, are computed beside the pass."""

_KEPT = 64
"""So many looked-up masks are remembered as sound; a codec has a handful."""


class MaskMaker:
    """Makes the masks of one step at a time: `start`, then whatever takes long, then `finish`.

    Args:
        vocab_size: ids that a mask speaks of.
    """

    def __init__(self, vocab_size: int) -> None:
        self._vocab_size = vocab_size
        self._asked: SimpleQueue[list[Callable[[], Bits]] | None] = SimpleQueue()
        self._made: SimpleQueue[list[Made]] = SimpleQueue()
        self._requests: Sequence[StepRequest] = ()
        self._thread: threading.Thread | None = None
        self._busy = False
        self._left: list[Callable[[], Bits]] = []
        self._sound: dict[int, Bits] = {}

    def start(self, requests: Sequence[StepRequest]) -> None:
        """Begins with the masks of these requests; `finish` has to follow."""
        self._requests = requests
        sources = [request.mask for request in requests if callable(request.mask)]
        self._left = sources if len(sources) > BESIDE else []
        if not sources or self._left:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="asynclm-masks", daemon=True)
            self._thread.start()
        self._asked.put(sources)
        self._busy = True

    def wait(self) -> list[Made]:
        """Returns when nothing is being computed any more, with what has been."""
        if not self._busy:
            return []
        self._busy = False
        return self._made.get()

    def finish(self) -> list[Bits | None]:
        """The masks, in the order of the requests; waits for those that are not ready.

        Raises:
            EngineError: one of them cannot be computed, has a wrong size or allows nothing; with `sequence` set.
        """
        made = iter(self.wait() + [self._make(source) for source in self._left])
        return [self._found(r, next(made)) if callable(r.mask) else self._looked_up(r) for r in self._requests]

    def close(self) -> None:
        """Ends the thread."""
        if self._thread is not None:
            self._asked.put(None)
            self._thread.join()
            self._thread = None

    def _found(self, request: StepRequest, made: Made) -> Bits:
        """What was made, if it is a mask; else raises, for its own sequence."""
        if isinstance(made, MaskError):
            raise EngineError(str(made), sequence=request.sequence) from None
        if isinstance(made, Exception):
            raise EngineError("its mask cannot be computed", sequence=request.sequence) from made
        return made

    def _looked_up(self, request: StepRequest) -> Bits | None:
        """A request's mask that is there already. What cannot change is checked once."""
        mask = request.mask
        assert not callable(mask)
        if mask is None or self._sound.get(id(mask)) is mask:
            return mask
        try:
            check_mask(mask, self._vocab_size)
        except MaskError as error:
            raise EngineError(str(error), sequence=request.sequence) from None
        if not mask.flags.writeable:
            if len(self._sound) == _KEPT:
                self._sound.clear()
            self._sound[id(mask)] = mask
        return mask

    def _work(self) -> None:
        while (sources := self._asked.get()) is not None:
            self._made.put([self._make(source) for source in sources])

    def _make(self, source: Callable[[], Bits]) -> Made:
        """Computes and checks a mask; what is wrong with it is told where it is asked for."""
        try:
            mask = source()
            check_mask(mask, self._vocab_size)
        except Exception as error:
            return error
        return mask
