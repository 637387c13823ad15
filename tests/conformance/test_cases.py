"""Files of cases: what is read, and what is refused with its place."""

from __future__ import annotations

import pytest

from asynclm.conformance.v1 import suite_pb2
from asynclm.v1 import types_pb2
from asynclm_conformance.cases.errors import CaseError
from asynclm_conformance.cases.lint import lint
from asynclm_conformance.cases.model import Case, script_steps
from asynclm_conformance.cases.reading import read_cases, read_suite
from asynclm_conformance.cases.yaml_reading import read_yaml
from asynclm_conformance.requirements import load

UNKNOWN = "-".join(("SES", "999"))  # spelled so that no search takes it for a citation
GET, LIST = "asynclm.v1.Control/GetSession", "asynclm.v1.Control/ListSessions"
HEAD = "about: Something.\ncases:\n"
GOOD = """\
- id: one
  title: Something holds
  feature: CORE
  verifies: [SES-044]
  main:
    script:
    - cml: 'Hi [CALL]a[HEAD]f()[END]'
    - end: true
    trace:
    - {after: 2, finished: {reason: STOP, stop_string: null}}
  steps:
  - grant: {rest: true}
"""


def one(text: str) -> Case:
    (case,) = read_cases(HEAD + text, "file")
    return case


def test_a_case_is_read_with_short_enums_and_what_was_given() -> None:
    case = one(GOOD)
    assert case.name == "file/one"
    assert case.level == suite_pb2.LEVEL_MUST
    (entry,) = case.sessions["main"].trace
    assert entry.kind == "finished"
    assert entry.entry.finished.reason == types_pb2.FINISH_REASON_STOP
    assert entry.given == {"reason": "FINISH_REASON_STOP", "stop_string": None}


def test_a_line_of_cml_is_cut_at_control_words_and_unescaped() -> None:
    steps = script_steps(suite_pb2.ScriptLine(cml=r"Hi [CALL]a[HEAD]f(x=\[END])[END] [TR \\[TRAP]"))
    assert [step.text or step.control for step in steps] == [
        "Hi ",
        types_pb2.CONTROL_TOKEN_CALL,
        "a",
        types_pb2.CONTROL_TOKEN_HEAD,
        "f(x=[END])",
        types_pb2.CONTROL_TOKEN_END,
        " [TR \\",
        types_pb2.CONTROL_TOKEN_TRAP,
    ]
    assert [step.text for step in script_steps(suite_pb2.ScriptLine(text="[END]"))] == ["[END]"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cases: [", ": line "),
        ("- 1", "a list of `cases`"),
        ("cases: []", "about"),
        (HEAD + "- {id: a, titel: x}", "unknown key 'titel'"),
        (HEAD + "- {id: a, id: b}", "line 3: the key 'id' is given twice"),
        (HEAD + "- {id: a, feature: CRE}", "'CRE' is no Feature; allowed: UNSPECIFIED, CORE"),
        (HEAD + "- {id: a, main: {trace: [{after: 1}]}}", "names no event"),
        (HEAD + "- {id: a, main: {trace: [{finished: {reson: STOP}}]}}", "trace[0].finished: unknown key 'reson'"),
        (HEAD + "- {id: a, steps: [{grant: 3}]}", "a mapping is expected"),
        (HEAD + "- {id: a, steps: {}}", "a list is expected"),
        (HEAD + "- {id: a, needs: [FLYING]}", "'FLYING' is no Capability"),
        (HEAD + "- {id: a, steps: [{advance: {ms: soon}}]}", "ms"),
        (HEAD + "- just words", "a mapping is expected"),
        (HEAD + "- {[a]: b}", "line 3: a key is a word; got ['a']"),
        (HEAD + "- {id: !!int x}", "is not YAML"),
        (HEAD + "- {id: a, feature: [CORE]}", "['CORE'] is no Feature"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(CaseError) as caught:
        read_cases(text, "file")
    assert message in str(caught.value)
    assert str(caught.value).startswith("file")


def test_words_that_yaml_takes_for_booleans_stay_words() -> None:
    assert read_yaml("{on: yes, a: off, b: true, c: 2026-01-02}", "x") == {
        "on": "yes",
        "a": "off",
        "b": True,
        "c": "2026-01-02",
    }


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("id: one", "id: One Two"), "id:"),
        (("title: Something holds", "title: Something holds."), "title:"),
        (("  feature: CORE\n", ""), "feature: is missing"),
        (("[SES-044]", "[]"), "verifies: names no requirement"),
        (("[SES-044]", f"[{UNKNOWN}]"), f"the specification has no {UNKNOWN}"),
        (("after: 2", "after: 3"), "the script has 2 lines"),
        (("- {after: 2, finished", "- {because: XXX-001, finished"), "the specification has no XXX-001"),
        (("grant: {rest: true}", "grant: {through: 5}"), "the script has 2 lines"),
        (("grant: {rest: true}", "{grant: {through: 1}}\n  - grant: {through: 1}"), "line 1 was granted before"),
        (("grant: {rest: true}", "{session: other, open: true}"), "no session 'other'"),
        (("  steps:", "  sessions: {other: {}}\n  steps:"), "sessions.other: no step is about it"),
        (("grant: {rest: true}", "at_once: true"), "does nothing"),
        (("grant: {rest: true}", "rpc: {method: a.B/C}"), "no method is called"),
        (("grant: {rest: true}", "rpc: {method: asynclm.v1.Control/GetSession, request: {id: 1}}"), "unknown key 'id'"),
        (("grant: {rest: true}", f"rpc: {{method: {LIST}, in_order: {{sesions: []}}}}"), "unknown key 'sesions'"),
        (("grant: {rest: true}", f"rpc: {{method: {GET}, in_order: {{session: {{}}}}}}"), "has no pages"),
        (("grant: {rest: true}", f"rpc: {{method: {GET}, present: [calls.index, calls.idx]}}"), "no 'calls.idx'"),
        (("grant: {rest: true}", f"rpc: {{method: {GET}, present: [last_event_seq.x]}}"), "no 'last_event_seq.x'"),
        (("- end: true", "- {cml: 'a [END]', masked: true}"), "is one token"),
        (("- end: true", "- masked: true"), "says nothing"),
        (("    trace:", "    watch: [trap_entered]\n    trace:"), "leaves out finished"),
        (("    trace:", "    watch: [finished, trips]\n    trace:"), "'trips' is no kind of event"),
        (("  steps:", "  live: {}\n  steps:"), "live.witness"),
    ],
)
def test_what_a_reader_of_the_yaml_can_get_wrong_is_found(change: tuple[str, str], problem: str) -> None:
    assert lint([one(GOOD)], load().keys()) == []
    assert change[0] in GOOD
    found = lint([one(GOOD.replace(*change, 1))], load().keys())
    assert any(problem in line for line in found), found


def test_the_suite_has_no_problems() -> None:
    cases = read_suite()
    assert lint(cases, load().keys()) == []
    assert len({case.name for case in cases}) == len(cases)
