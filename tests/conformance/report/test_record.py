"""Records are written line by line, read back whole, and anything else is refused with its line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.conformance.report import records

from asynclm.conformance.v1 import results_pb2
from asynclm_conformance.report import RecordError, RecordWriter, Run, read

HEADER = '{"header": {"revision": "draft"}}\n'
RESULT = '{"result": {"case": "a/b", "verdict": "VERDICT_PASS"}}\n'
FOOTER = '{"footer": {"counts": {"PASS": 1}, "claim": "conformant to draft at full"}}\n'


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    results = records.one_of_each()
    found = records.run(tmp_path / "r.jsonl", results)
    assert list(found.results) == results
    assert found.header == records.header()
    assert found.footer == records.footer(results)
    assert not found.interrupted
    assert found.counts == {"PASS": 2, "FAIL": 2, "WARN": 1, "SKIP": 2, "ERROR": 1, "XFAIL": 1, "STALE": 1}


def test_lines_are_json_objects_with_proto_names_and_readable_text(tmp_path: Path) -> None:
    path = records.write(tmp_path / "r.jsonl", [records.result("a/b", title=records.FOREIGN)])
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [next(iter(json.loads(line))) for line in lines] == ["header", "result", "footer"]
    assert "suite_version" in lines[0]
    assert records.FOREIGN in lines[1]


def test_each_line_is_there_when_it_has_been_written(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    with RecordWriter(path) as writer:
        writer.header(records.header(selected=2))
        writer.result(records.result("a/b"))
        found = read(path)
        assert [result.case for result in found.results] == ["a/b"]
        assert found.interrupted
        assert found.claim == "no claim: the run was broken off after 1 of 2 cases"
        assert found.standing == "no claim"


def test_a_writer_writes_inside_its_block_only(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path / "r.jsonl")
    with pytest.raises(ValueError, match="inside its `with` block"):
        writer.header(records.header())


def test_a_last_line_that_was_being_written_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(HEADER + RESULT + '{"result": {"case": "a/c", "verd', encoding="utf-8")
    found = read(path)
    assert found.interrupted
    assert [result.case for result in found.results] == ["a/b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty; a record begins with a header"),
        ("{", ":1: not JSON"),
        (HEADER + "nothing\n", ":2: not JSON"),
        ("[1]\n", ":1: a JSON object is expected"),
        (HEADER + "\n" + RESULT, ":2: an empty line"),
        (HEADER + "{}\n", ":2: one of header, result and footer"),
        (HEADER + '{"colour": 1}\n', ":2: not a line of a record: .*colour"),
        (
            HEADER + '{"result": {"case": "a/b", "verdict": "VERDICT_FINE"}}\n',
            ":2: not a line of a record: .*VERDICT_FINE",
        ),
        (HEADER + '{"result": {"case": "\\ud800/b"}}\n', ":2: not a line of a record"),
        (HEADER + '{"result": ' * 200_000 + "\n", ":2: not JSON"),
        (HEADER + '{"result": {"case": "a/b"}}\n', ":2: verdict: 0 of a/b; allowed: VERDICT_PASS, "),
        (HEADER + '{"result": {"case": "ab", "verdict": 1}}\n', ":2: case: FILE/ID is expected; got 'ab'"),
        (HEADER + RESULT.replace('"VERDICT_PASS"', "77"), ":2: verdict: 77 of a/b; allowed: VERDICT_PASS, "),
        (HEADER + RESULT + RESULT, ":3: a/b has its result in line 2 already"),
        (RESULT + FOOTER, ":1: a header is expected in the first line; got a result"),
        (HEADER + HEADER, ":2: a second header"),
        (HEADER + RESULT + FOOTER + FOOTER, ":4: a footer behind the footer"),
        (HEADER + FOOTER, ":2: the footer counts 1 PASS; the record has nothing"),
        (
            HEADER + RESULT + RESULT.replace("a/b", "a/c") + FOOTER,
            ":4: the footer counts 1 PASS; the record has 2 PASS",
        ),
    ],
)
def test_what_is_not_a_record_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecordError, match=message) as caught:
        read(path)
    assert len(str(caught.value)) < 600
    assert str(caught.value).startswith(str(path))


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="cannot be read: No such file"):
        read(tmp_path / "nothing.jsonl")
    path = tmp_path / "binary.jsonl"
    path.write_bytes(b'{"header": "\xff"}')
    with pytest.raises(RecordError, match="byte 12 is not UTF-8"):
        read(path)


@pytest.mark.parametrize(
    ("claim", "standing"),
    [
        ("conformant to draft at full", "conformant"),
        ("not conformant to draft at full: 1 failed", "not conformant"),
        ("no claim: nothing was run", "no claim"),
    ],
)
def test_the_standing_is_the_claim_in_short(claim: str, standing: str) -> None:
    assert Run(records.header(), (), results_pb2.Footer(claim=claim)).standing == standing


def test_the_command_that_reproduces_a_case_keeps_the_target_last(run: Run) -> None:
    wanted = "asynclm-conformance run --profile full --run alpha/fails -- './my engine' --port '{port}'"
    assert run.reproduce("alpha/fails") == wanted
    plain = Run(results_pb2.Header(target="grpc://h:1"), (), None)
    assert plain.reproduce("a/b") == "asynclm-conformance run grpc://h:1 --run a/b"
