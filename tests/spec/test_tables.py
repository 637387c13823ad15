"""The tables and examples of the specification agree with the code, the protos and the grammar."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from dataclasses import fields
from enum import StrEnum

import pytest

from asynclm.cml.binding import BINDINGS, bind
from asynclm.cml.blocks import CmlError, CmlErrorCode
from asynclm.cml.byte_tokenizer import ByteTokenizer
from asynclm.cml.control import NAME, RESERVED_IDS, BodyLanguage, Control, Status
from asynclm.cml.literals import MAX_DEPTH
from asynclm.cml.text_form import parse
from asynclm.conformance.v1 import scripted_model_pb2
from asynclm.session import diagram
from asynclm.session.config import Limits, OnEnd
from asynclm.session.state import CancelOutcome, ErrorType, FinishReason, RejectReason, Scheduling, State
from asynclm.v1 import control_pb2, executor_pb2, inference_pb2, session_pb2
from tools import spec_lint


def rows(text: str, heading: str) -> list[list[str]]:
    """The cells of a page's table whose heading row begins with `heading`, without the heading."""
    lines = text.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith(f"| {heading} |"))
    body = lines[at + 2 :]
    end = next((i for i, line in enumerate(body) if not line.startswith("|")), len(body))
    return [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in body[:end]]


def first_words(text: str, heading: str) -> list[str]:
    """What stands in code, or bare, in the first cells of a table; several in one cell count as several."""
    cells = [row[0] for row in rows(text, heading)]
    return [word.strip("` ") for cell in cells for word in cell.split(",") if word.strip()]


def names(kinds: Iterable[StrEnum]) -> set[str]:
    return {kind.name for kind in kinds}


def requirement(defined: list[spec_lint.Requirement], name: str) -> str:
    return next(r.sentence for r in defined if r.id == name)


def in_code(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


# --- tables and lists against enums ------------------------------------------------------------------------------


def test_error_classes(pages: dict[str, str]) -> None:
    assert first_words(pages["cml.md"], "class") == [code.value for code in CmlErrorCode]


def test_reserved_ids(defined: list[spec_lint.Requirement]) -> None:
    assert set(in_code(requirement(defined, "CML-012"))) == RESERVED_IDS


def test_name_pattern(pages: dict[str, str], defined: list[spec_lint.Requirement]) -> None:
    assert NAME.pattern in in_code(requirement(defined, "CML-010"))
    assert f"NAME      := {NAME.pattern}" in pages["cml.md"]


def test_bindings(pages: dict[str, str]) -> None:
    order = [Control.CALL, Control.INTR, Control.TRAP, Control.END, Control.HEAD]
    written = [[cell.strip("`") for cell in row] for row in rows(pages["bindings.md"], "binding")]
    assert written == [[name, *(b.tokens[c] for c in order)] for name, b in BINDINGS.items()]


def test_states(pages: dict[str, str]) -> None:
    assert first_words(pages["sessions.md"], "state") == [state.name for state in State]


def test_ends(pages: dict[str, str]) -> None:
    assert first_words(pages["sessions.md"], "`on_end`") == ["WAIT (default)", "DETACH", "CANCEL", "KEEP"]
    assert {end.name for end in OnEnd} == {"WAIT", "DETACH", "CANCEL", "KEEP"}


def test_finish_reasons(pages: dict[str, str]) -> None:
    assert set(first_words(pages["sessions.md"], "reason")) == names(FinishReason)


def test_statuses(pages: dict[str, str]) -> None:
    written = [word for row in rows(pages["interrupts.md"], "status")[:3] for word in in_code(row[0])]
    assert set(written) == {status.value for status in Status}


def test_reject_reasons_in_the_order_in_which_they_are_tested(
    pages: dict[str, str], defined: list[spec_lint.Requirement]
) -> None:
    listed = first_words(pages["interrupts.md"], "reason")
    # FINISHED stands in the protos for a later revision; a finished session answers nothing [WIRE-040].
    assert set(listed) == names(RejectReason) - {"FINISHED"}
    assert re.findall(r"[A-Z]+(?:_[A-Z]+)+", requirement(defined, "INT-022")) == listed


def test_schedulings(pages: dict[str, str]) -> None:
    assert {word.split()[0] for word in first_words(pages["interrupts.md"], "scheduling")} == names(Scheduling)


def test_error_types(defined: list[spec_lint.Requirement]) -> None:
    assert set(in_code(requirement(defined, "INT-017"))) - {"type"} == {kind.value for kind in ErrorType}


def test_cancel_outcomes(defined: list[spec_lint.Requirement]) -> None:
    found = set(re.findall(r"[A-Z]+(?:_[A-Z]+)*", requirement(defined, "CALL-070")))
    assert names(CancelOutcome) <= found


def test_every_limit_is_in_the_table(pages: dict[str, str]) -> None:
    listed = set(first_words(pages["errors.md"], "limit"))
    server = {field.name for field in control_pb2.ServerLimits.DESCRIPTOR.fields}
    assert listed == {field.name for field in fields(Limits)} | server


def test_nesting_limit(defined: list[spec_lint.Requirement]) -> None:
    assert f"deeper than {MAX_DEPTH} levels" in requirement(defined, "LIM-007")


# --- the wire ----------------------------------------------------------------------------------------------------


def messages_of(message: type, oneof: str = "event") -> set[str]:
    return {field.message_type.name for field in message.DESCRIPTOR.oneofs_by_name[oneof].fields}


def test_client_events(pages: dict[str, str]) -> None:
    listed = set(first_words(pages["protocol.md"], "event"))
    assert listed == messages_of(session_pb2.ClientEvent) - {"ResumeRequest"}


def test_server_events(pages: dict[str, str]) -> None:
    text = pages["protocol.md"]
    table = text[text.index("## 4. Server events") :]
    listed = {word.strip("` ") for row in rows(table, "event") for word in row[0].split(",")}
    assert listed == messages_of(session_pb2.ServerEvent)


def test_services(pages: dict[str, str]) -> None:
    listed: dict[str, set[str]] = {}
    service = ""
    for row in rows(pages["protocol.md"], "service"):
        service = row[0].strip("`") or service
        listed.setdefault(service, set()).update(in_code(row[1]))
    offered = {
        service.name if service.full_name.startswith("asynclm.v1.") else service.full_name: {
            method.name for method in service.methods
        }
        for file in (inference_pb2, control_pb2, executor_pb2, scripted_model_pb2)
        for service in file.DESCRIPTOR.services_by_name.values()
    }
    assert {name: methods for name, methods in listed.items() if methods} == offered


def reasons_in_code() -> set[str]:
    """The ErrorInfo reasons that the code gives: the third argument of StatusError and FieldError, or a constant."""
    found = set()
    for folder in ("wire", "server"):
        for path in (spec_lint.ROOT / "reference" / "asynclm" / folder).glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Name)
                    and node.func.id == "StatusError"
                    and len(node.args) > 2
                    and isinstance(node.args[2], ast.Constant)
                ):
                    found.add(node.args[2].value)
                if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
                    name = getattr(node.targets[0], "id", "")
                    if name.isupper() and name == node.value.value:
                        found.add(name)
    return found


def test_reasons(pages: dict[str, str]) -> None:
    listed = {row[1] for row in rows(pages["errors.md"], "status")}
    assert {"BAD_FIELD", "UNKNOWN_MODEL"} <= reasons_in_code()
    assert reasons_in_code() - listed == set()


# --- examples and the diagram ------------------------------------------------------------------------------------


def examples() -> list[tuple[str, int, str]]:
    found = []
    for page in spec_lint.draft_pages():
        text = page.read_text(encoding="utf-8")
        found += [(page.name, line, cml) for line, cml in spec_lint.cml_examples(text)]
    return found


@pytest.mark.parametrize(("page", "line", "cml"), examples())
def test_every_cml_example_is_well_formed(page: str, line: int, cml: str) -> None:
    try:
        parse(cml, BodyLanguage.PYTHON)
    except CmlError as error:
        pytest.fail(f"{page}:{line}: {error}")


def test_there_are_cml_examples() -> None:
    assert {page for page, _, _ in examples()} >= {"overview.md"}
    assert list(spec_lint.cml_examples("a\n\n```cml\n[TRAP] [END]\n```\n\n```\nno\n```\n")) == [(4, "[TRAP] [END]")]


def test_the_token_form_example(pages: dict[str, str]) -> None:
    codec = bind(ByteTokenizer(), BINDINGS["bytes"])
    written = {
        row[0].strip("`"): [int(word) for word in row[1].split()] for row in rows(pages["overview.md"], "text form")
    }
    control = codec.control_ids
    assert written == {
        "[CALL] a [HEAD] f() [END]": [control[Control.CALL], 97, control[Control.HEAD], *b"f()", control[Control.END]],
        "[INTR] a [HEAD] 7 [END]": codec.frame("a", Status.OK, "7"),
        '[INTR] a [HEAD] "\\[END]" [END]': codec.frame("a", Status.OK, '"[END]"'),
        "[TRAP] a [END]": [control[Control.TRAP], 97, control[Control.END]],
    }


def test_the_state_diagram_is_up_to_date(pages: dict[str, str]) -> None:
    assert diagram.insert(pages["sessions.md"]) == pages["sessions.md"]
