"""Makes a step's masks: those of rows that draw beside its forward pass or right after it, of others only if they must.

A row that takes its best id if it may asks its mask for that one id, once the logits are there: a grammar takes 3 to
9 µs for it, and 20 to 40 for all. The mask is computed only where the best id is refused.

For rows that draw, few masks are computed beside the pass, on a thread of their own, many right after it. A pass
drives all that a mask needs out of the processor's caches: the first mask after it takes about 130 µs, each other a
fifth of that. For one that is made beside the pass 9 µs are waited. But both take turns with Python's lock, which
torch leaves in its products and llguidance in its masks, and on two cores that torch has both of they also take turns
with those. With one sequence the thread was ahead in each of three runs; with sixteen it was behind in most, by less
than the runs differ. On a GPU, after the pass means while it runs: its products have been handed over, and nobody has
waited for them.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from queue import SimpleQueue
from typing import TypeAlias

from asynclm.engine.base import Bits, EngineError, LazyMask, SequenceId, StepRequest
from asynclm.engine.torch.sampler import MaskError, check_mask

Made: TypeAlias = "Bits | Exception"

BESIDE = 2
"""So many masks, or fewer, are computed beside the pass."""

_KEPT = 64
"""So many looked-up masks are remembered as sound; a codec has a handful."""


class MaskMaker:
    """Makes the masks of one step at a time: `start`, then what takes long, `finish`, the logits, and `settle`.

    Args:
        vocab_size: ids that a mask speaks of.
    """

    def __init__(self, vocab_size: int) -> None:
        self._vocab_size = vocab_size
        self._asked: SimpleQueue[list[LazyMask] | None] = SimpleQueue()
        self._made: SimpleQueue[list[Made]] = SimpleQueue()
        self._requests: Sequence[StepRequest] = ()
        self._plain: Collection[SequenceId] = ()
        self._masks: list[Bits | None] = []
        self._thread: threading.Thread | None = None
        self._busy = False
        self._left: list[LazyMask] = []
        self._sound: dict[int, Bits] = {}

    def start(self, requests: Sequence[StepRequest], plain: Collection[SequenceId]) -> None:
        """Begins with the masks of these requests.

        Args:
            requests: those of the step that get a token.
            plain: the sequences that take their best id if they may.
        """
        self._requests = requests
        self._plain = plain
        sources = [r.mask for r in requests if callable(r.mask) and r.sequence not in plain]
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

    def finish(self) -> None:
        """Waits for the masks that do not depend on the logits.

        Raises:
            EngineError: one of them cannot be computed, has a wrong size or allows nothing; with `sequence` set.
        """
        made = iter(self.wait() + [self._make(source) for source in self._left])
        self._masks = [self._first(request, made) for request in self._requests]

    def settle(self, best: Sequence[int]) -> list[Bits | None]:
        """The masks, in the order of the requests; None where the best id, or any, may be taken.

        Args:
            best: the ids of the highest logits; a forced id stands in for its row's.

        Raises:
            EngineError: as `finish`.
        """
        for place, request in enumerate(self._requests):
            if callable(request.mask) and request.sequence in self._plain:
                token_id = best[place] if request.forced is None else request.forced
                self._masks[place] = self._found(request, self._make_unless(request.mask, token_id))
        return self._masks

    def close(self) -> None:
        """Ends the thread."""
        if self._thread is not None:
            self._asked.put(None)
            self._thread.join()
            self._thread = None

    def _first(self, request: StepRequest, made: Iterator[Made]) -> Bits | None:
        """A request's mask, as far as it is known without the logits."""
        if not callable(request.mask):
            return self._looked_up(request, request.mask)
        return None if request.sequence in self._plain else self._found(request, next(made))

    def _found(self, request: StepRequest, made: Made | None) -> Bits | None:
        """What was made, if it is a mask; else raises, for its own sequence."""
        if isinstance(made, MaskError):
            raise EngineError(str(made), sequence=request.sequence) from None
        if isinstance(made, Exception):
            raise EngineError("its mask cannot be computed", sequence=request.sequence) from made
        return made

    def _looked_up(self, request: StepRequest, mask: Bits | None) -> Bits | None:
        """A request's mask that is there already. What cannot change is checked once."""
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

    def _make(self, mask: LazyMask) -> Made:
        """Computes and checks a mask; what is wrong with it is told where it is asked for."""
        try:
            bits = mask()
            check_mask(bits, self._vocab_size)
        except Exception as error:
            return error
        return bits

    def _make_unless(self, mask: LazyMask, token_id: int) -> Made | None:
        """A mask, or None if it allows this id."""
        try:
            if mask.allows(token_id):
                return None
        except Exception as error:
            return error
        return self._make(mask)
