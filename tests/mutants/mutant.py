"""A mutant: the reference with one deliberate fault. The suite has to find it, and for the reason that it declares."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from asynclm.session.effects import Effect
from asynclm.session.outbox import Outbox, Phase


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
    """

    name: str
    about: str
    violates: tuple[str, ...]
    patch: Callable[[], None]
    also: Mapping[str, str]


MUTANTS: dict[str, Mutant] = {}
"""Every mutant, by name."""


def mutant(
    *, violates: Sequence[str], also: Mapping[str, str] | None = None
) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Registers a mutant: the function brings the fault about, its docstring says what it is.

    Args:
        violates: the requirements that it breaks.
        also: reasons by names or patterns of cases, several of them separated by spaces.
    """
    patterns = {pattern: reason for key, reason in (also or {}).items() for pattern in key.split()}

    def register(patch: Callable[[], None]) -> Callable[[], None]:
        name = patch.__name__
        if name in MUTANTS:
            raise ValueError(f"two mutants are called {name}")
        about = inspect.getdoc(patch)
        if not about or not violates:
            raise ValueError(f"mutant {name}: says not what it does, or not what it breaks")
        MUTANTS[name] = Mutant(name, about, tuple(violates), patch, patterns)
        return patch

    return register


def replaces(owner: Any, name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Puts a function in the place of a method or of a module's function; its first argument is the original."""
    if name not in vars(owner):
        raise AttributeError(f"{owner} has no {name} of its own, so that nothing would be changed")
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


def puts(owner: Any, name: str, value: Any) -> None:
    """Puts a value in the place of an attribute, which has to be there."""
    if name not in vars(owner):
        raise AttributeError(f"{owner} has no {name} of its own, so that nothing would be changed")
    setattr(owner, name, value)


def reports(kind: type[Effect]) -> Callable[[Callable[[Any], Sequence[Effect]]], Callable[[Any], Sequence[Effect]]]:
    """What the machine reports is changed: the function gives what is told in place of each report of a kind."""

    def install(change: Callable[[Any], Sequence[Effect]]) -> Callable[[Any], Sequence[Effect]]:
        @replaces(Outbox, "add")
        def _(original: Callable[..., None], self: Outbox, phase: Phase, effect: Effect) -> None:
            for told in change(effect) if isinstance(effect, kind) else (effect,):
                original(self, phase, told)

        return change

    return install
