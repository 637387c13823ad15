"""A mutant: the reference with one deliberate fault. The suite has to find it, and for the reason that it declares."""

from __future__ import annotations

import enum
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from asynclm.server import control, inference
from asynclm.session.effects import Effect
from asynclm.session.outbox import Outbox, Phase


class Served(enum.Enum):
    """What stands behind the server that a fault is put into; the value is its name on the command line."""

    SCRIPTED = "scripted"
    """The scripted engine, where all can be seen that needs no model."""

    TORCH = "torch"
    """The torch engine on the embedded model."""

    HOSTED = "hosted"
    """The adapter for chat APIs, before an endpoint that plays scripts."""


@dataclass(frozen=True)
class Mutant:
    """One fault.

    Attributes:
        name: what it is called.
        about: the fault, in one sentence.
        violates: the requirements that it breaks.
        patch: brings it about in this process.
        also: cases that fail too although they verify none of these, by name or pattern, and why. `*` stands in it for
            faults in what most cases only make use of.
        served: what it is served on.
        options: what `asynclm serve` is given besides.
    """

    name: str
    about: str
    violates: tuple[str, ...]
    patch: Callable[[], None]
    also: Mapping[str, str]
    served: Served = Served.SCRIPTED
    options: tuple[str, ...] = ()


MUTANTS: dict[str, Mutant] = {}
"""Every mutant, by name."""


def mutant(
    *,
    violates: Sequence[str],
    also: Mapping[str, str] | None = None,
    served: Served = Served.SCRIPTED,
    options: Sequence[str] = (),
) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Registers a mutant: the function brings the fault about, its docstring says what it is.

    Args:
        violates: the requirements that it breaks.
        also: reasons by names or patterns of cases, several of them separated by spaces.
        served: what it is served on.
        options: what `asynclm serve` is given besides.
    """
    patterns = {pattern: reason for key, reason in (also or {}).items() for pattern in key.split()}

    def register(patch: Callable[[], None]) -> Callable[[], None]:
        name = patch.__name__
        if name in MUTANTS:
            raise ValueError(f"two mutants are called {name}")
        about = inspect.getdoc(patch)
        if not about or not violates:
            raise ValueError(f"mutant {name}: says not what it does, or not what it breaks")
        MUTANTS[name] = Mutant(name, about, tuple(violates), patch, patterns, served, tuple(options))
        return patch

    return register


def replaces(owner: Any, name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Puts a function in the place of a method or of a module's function; its first argument is the original."""
    _has(owner, name)
    original = getattr(owner, name)

    def install(patched: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(original):

            @functools.wraps(original)
            async def replacement(*args: Any, **kwargs: Any) -> Any:
                return await patched(original, *args, **kwargs)

        else:

            @functools.wraps(original)
            def replacement(*args: Any, **kwargs: Any) -> Any:
                return patched(original, *args, **kwargs)

        setattr(owner, name, replacement)
        return patched

    return install


def _has(owner: Any, name: str) -> None:
    if name not in vars(owner):
        raise AttributeError(f"{owner} has no {name} of its own, so that nothing would be changed")


def puts(owner: Any, name: str, value: Any) -> None:
    """Puts a value in the place of an attribute, which has to be there."""
    _has(owner, name)
    setattr(owner, name, value)


def sends(kind: str) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """What is sent is changed: the function is given the body of each event of a kind, and changes it."""

    def install(change: Callable[[Any], None]) -> Callable[[Any], None]:
        @replaces(inference, "to_server_event")
        def _(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            event = original(*args, **kwargs)
            if event.HasField(kind):
                change(getattr(event, kind))
            return event

        return change

    return install


def answers(writer: str) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """What `Control` answers is changed: the function is given what one of its writers has written, and changes it."""

    def install(change: Callable[[Any], None]) -> Callable[[Any], None]:
        @replaces(control, writer)
        def _(original: Callable[..., Any], *args: Any) -> Any:
            answer = original(*args)
            change(answer)
            return answer

        return change

    return install


def reports(kind: type[Effect]) -> Callable[[Callable[[Any], Sequence[Effect]]], Callable[[Any], Sequence[Effect]]]:
    """What the machine reports is changed: the function gives what is told in place of each report of a kind."""

    def install(change: Callable[[Any], Sequence[Effect]]) -> Callable[[Any], Sequence[Effect]]:
        @replaces(Outbox, "add")
        def _(original: Callable[..., None], self: Outbox, phase: Phase, effect: Effect) -> None:
            for told in change(effect) if isinstance(effect, kind) else (effect,):
                original(self, phase, told)

        return change

    return install
