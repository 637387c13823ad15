"""The state diagram, drawn from the transition table.

`python -m asynclm.session.diagram --write PAGE` puts it between the markers of a page of the specification; with
`--check PAGE` it only looks whether the page is up to date.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path

from asynclm.session.state import State
from asynclm.session.transitions import SESSION, Trigger

BEGIN = "<!-- generated: state diagram -->"
END = "<!-- end generated -->"


def render_diagram() -> str:
    """The session's states and transitions as a Mermaid diagram in a Markdown fence.

    FINISH, which leads from every state to FINISHED, is drawn once.
    """
    lines = ["```mermaid", "stateDiagram-v2", '    state "any state" as ANY', "    [*] --> DECODING"]
    for state, moves in SESSION.items():
        labels: defaultdict[State, list[str]] = defaultdict(list)
        for trigger, target in moves.items():
            if trigger is not Trigger.FINISH:
                labels[target].append(trigger.value)
        lines += [f"    {state.name} --> {to.name}: {' or '.join(texts)}" for to, texts in labels.items()]
    return "\n".join([*lines, f"    ANY --> FINISHED: {Trigger.FINISH.value}", "    FINISHED --> [*]", "```"])


def insert(page: str) -> str:
    """A page with the diagram between its markers.

    Raises:
        ValueError: the page does not have both markers, in order, once each.
    """
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in tail:
        raise ValueError(f"the page needs one line {BEGIN!r} and, after it, one line {END!r}")
    return f"{head}{BEGIN}\n\n{render_diagram()}\n\n{END}{tail}"


def main(arguments: list[str] | None = None) -> int:
    """Writes or checks the diagram in a page; returns the exit status, 1 if a checked page is out of date."""
    parser = argparse.ArgumentParser(prog="python -m asynclm.session.diagram", description=__doc__)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", type=Path, metavar="PAGE", help="put the diagram into this page")
    action.add_argument("--check", type=Path, metavar="PAGE", help="exit 1 if this page's diagram is out of date")
    options = parser.parse_args(arguments)
    path: Path = options.write or options.check
    before = path.read_text(encoding="utf-8")
    after = insert(before)
    if options.check:
        if before != after:
            print(f"{path}: the state diagram is out of date; run with --write", file=sys.stderr)
        return int(before != after)
    path.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
