"""The site: a matrix, a page for each case with its diagram, the requirements; nothing in it is active or from afar."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from bs4 import BeautifulSoup, Tag
from tests.conformance.report import records
from tests.conformance.report.records import client, failure, result, server, tokens

from asynclm.conformance.v1 import results_pb2
from asynclm.v1 import session_pb2
from asynclm_conformance.report import ReportError, Run, write
from asynclm_conformance.report.html.diagram import break_lines
from asynclm_conformance.report.html.markdown import script_line, sentence
from asynclm_conformance.report.html.rows import MOST_ROWS, rows
from asynclm_conformance.report.html.view import path_of
from asynclm_conformance.report.labels import Span


def site(folder: Path, *runs: Run) -> Path:
    write(runs, format="html", out=folder / "site")
    return folder / "site"


def page(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def text(tag: Tag | None) -> str:
    assert tag is not None
    return " ".join(tag.get_text(" ").split())


def cells(index: BeautifulSoup, title: str) -> list[str]:
    row = next(row for row in index.select(".matrix tbody tr") if title in row.get_text())
    return [text(cell) for cell in row.select(".cell")]


# --- the matrix --------------------------------------------------------------------------------------------------


def test_the_matrix_has_a_row_for_each_case_under_its_file_and_a_column_for_each_run(
    tmp_path: Path, run: Run, broken_off: Run
) -> None:
    index = page(site(tmp_path, run, broken_off) / "index.html")
    files = [text(row) for row in index.select(".matrix .file")]
    assert files == ["alpha 3", "beta 3", "gamma 4"]
    assert [text(head) for head in index.select(".matrix thead .target")] == ["engine 1.2 (1)", "engine 1.2 (2)"]
    assert cells(index, "passes-quietly") == ["PASS", "PASS"]
    assert cells(index, "A result keeps its payload") == ["FAIL", "not run"]


def test_verdicts_are_words_and_colours(tmp_path: Path, run: Run) -> None:
    index = page(site(tmp_path, run) / "index.html")
    for cell in index.select(".matrix td.cell"):
        assert text(cell).split()[0].lower() in cell["class"]
    assert {text(cell).split()[0] for cell in index.select(".matrix td.cell")} == set(run.counts)


def test_it_says_the_claim_the_totals_and_why_cases_were_skipped(tmp_path: Path, run: Run) -> None:
    index = page(site(tmp_path, run) / "index.html")
    assert text(index.select_one(".claim")) == "not conformant to draft at full: 2 failed"
    assert text(index.select_one(".totals")).startswith("10 cases 2 PASS 2 FAIL 1 WARN 2 SKIP")
    assert [text(reason) for reason in index.select(".reasons li")] == ["the target does not declare GRAMMAR"]
    assert cells(index, "skipped") == ["SKIP 1"]


def test_what_did_not_pass_comes_first_and_the_worst_of_it_before(tmp_path: Path, run: Run) -> None:
    index = page(site(tmp_path, run) / "index.html")
    listed = [text(pill) for pill in index.select(".wanting .verdict")]
    assert listed == ["FAIL", "FAIL", "STALE", "ERROR", "WARN", "XFAIL"]


def test_a_run_without_a_fault_has_no_such_list(tmp_path: Path) -> None:
    index = page(site(tmp_path, records.run(tmp_path / "r.jsonl", [result("a/b")])) / "index.html")
    assert not index.select(".wanting")
    assert index.select_one(".card.conformant")


def test_an_interrupted_run_says_so(tmp_path: Path, broken_off: Run) -> None:
    index = page(site(tmp_path, broken_off) / "index.html")
    assert "Interrupted" in text(index.select_one(".interrupted"))
    assert "broken off after 2 of 9 cases" in text(index.select_one(".claim"))


# --- pages of cases ----------------------------------------------------------------------------------------------


def test_a_case_has_its_requirements_script_failures_and_command(tmp_path: Path, run: Run) -> None:
    case = page(site(tmp_path, run) / "cases/alpha/fails.html")
    assert text(case.h1) == "A result keeps its payload"
    assert [text(chip) for chip in case.select(".chip")] == ["MUST", "interrupts"]
    requirement = case.select_one(".requirement")
    assert "MUST carry the token index" in text(requirement)
    assert "spec/draft/interrupts.md · 5. Order and batches" in text(requirement)
    assert requirement is not None
    assert [code.text for code in requirement.select("code")] == ["InterruptCommitted", "[INTR]"]
    script = case.select(".script li")
    assert [b.text for b in script[0].select(".control")] == ["[CALL]", "[HEAD]", "[END]"]
    assert not script[1].select(".control"), "literal text has no control words"
    assert (text(case.select_one(".want pre")), text(case.select_one(".got pre"))) == ('{"v": 2}', '{"v": 1}')
    assert "session main, step 3, server event 6" in text(case.select_one(".failure"))
    assert "--run alpha/fails --" in text(case.select_one(".command"))


def test_the_diagram_shows_the_wire_and_marks_the_failure_at_its_event(tmp_path: Path, run: Run) -> None:
    case = page(site(tmp_path, run) / "cases/alpha/fails.html")
    wide, narrow = case.select("svg.wire")
    for svg in (wide, narrow):
        shapes = [next(c for c in group["class"] if c in ("client", "server", "tokens", "note")) for group in svg("g")]
        assert " ".join(shapes) == "client server client tokens server client server tokens server note"
        (bad,) = svg.select("g.bad")
        assert "interrupt_committed" in text(bad)
        assert "#6 @23" in text(bad)
        assert "42 ms" in text(bad)
        for link in bad.select("a"):
            assert case.select_one(link["href"]), "the mark leads to the failure"
        assert "✗ [INT-043] interrupt_committed" in text(bad)
    assert [span.text for span in wide.select(".tokens .control")] == ["[CALL]", "[HEAD]", "[END]", "‹end of sequence›"]
    assert "#2–4 @0" in wide.get_text()
    assert len(case.select(".messages li")) == 12


def test_a_case_without_messages_says_so(tmp_path: Path, run: Run) -> None:
    case = page(site(tmp_path, run) / "cases/alpha/passes-quietly.html")
    assert not case.select("svg")
    assert "does not have its messages" in case.get_text()


def test_several_targets_stand_one_below_the_other(tmp_path: Path, run: Run, broken_off: Run) -> None:
    case = page(site(tmp_path, run, broken_off) / "cases/alpha/passes.html")
    assert [text(h2) for h2 in case.select(".outcome h2")] == ["PASS engine 1.2 (1)", "PASS engine 1.2 (2)"]


def test_several_sessions_are_told_apart_by_name_and_colour(tmp_path: Path) -> None:
    wire = [
        client(1, probe=session_pb2.Probe(nonce="1")),
        tokens(1, 0, "one"),
        tokens(1, 0, "two", session="other"),
        tokens(2, 3, "three"),
    ]
    made = result("a/b", wire=wire)
    assert [row.session for row in rows(made)] == ["main", "main", "other", "main"]
    case = page(site(tmp_path, records.run(tmp_path / "r.jsonl", [made])) / "cases/a/b.html")
    groups = case.select("svg.wide g")
    assert [text(group.select_one(".tag")) for group in groups] == ["main", "main", "other", "main"]
    assert [("s0" in group["class"], "s1" in group["class"]) for group in groups][1:3] == [(True, False), (False, True)]
    assert "quiet" in groups[0]["class"]


def test_a_live_case_says_how_often_it_was_tried_and_what_was_seen(tmp_path: Path) -> None:
    made = result("a/b", tries=3, witnessed=[1, 5])
    case = page(site(tmp_path, records.run(tmp_path / "r.jsonl", [made])) / "cases/a/b.html")
    assert "Tried 3 times on the model itself; seen: call delivered, stopped." in case.get_text()


# --- rows of diagrams --------------------------------------------------------------------------------------------


def test_tokens_at_which_something_is_wrong_are_not_drawn_with_others() -> None:
    made = result("a/b", wire=[tokens(1, 0, "a"), tokens(2, 1, "b"), tokens(3, 2, "c")], failures=[failure(sequence=2)])
    assert [(row.shape, bool(row.failures)) for row in rows(made)] == [
        ("tokens", False),
        ("server", True),
        ("tokens", False),
    ]


def test_a_failure_of_one_session_does_not_mark_the_event_of_another() -> None:
    made = result("a/b", wire=[server(6), server(6, session="other")], failures=[failure(session="other")])
    assert [bool(row.failures) for row in rows(made)] == [False, True]


def test_a_long_wire_is_drawn_at_its_ends_and_where_something_is_wrong() -> None:
    wire = [server(number, notice=session_pb2.Notice(message=str(number))) for number in range(1, 5001)]
    drawn = rows(result("a/b", wire=wire, failures=[failure(sequence=2500)]))
    assert len(drawn) <= MOST_ROWS + 2
    assert (drawn[0].numbers, drawn[-1].numbers) == ("#1 @0", "#5000 @0")
    assert [row.numbers for row in drawn if row.failures] == ["#2500 @0"]
    gaps = [row for row in drawn if row.shape == "gap"]
    assert [row.last - row.first + 1 for row in gaps] == [2407, 2408]
    assert gaps[0].spans[0].text == "… 2,407 messages are not drawn"


def test_lines_break_at_spaces_and_end_where_there_is_no_more_room() -> None:
    def broken(words: str, width: int, most: int = 9) -> list[str]:
        return ["".join(span.text for span in line) for line in break_lines([Span(words)], width, most)]

    assert broken("one two three", 8) == ["one two", "three"]
    assert broken("x" * 10, 4) == ["xxxx", "xxxx", "xx"]
    assert broken("one two three four", 7, 2) == ["one two", "three…"]
    assert broken("日本語日本語", 6) == ["日本語", "日本語"]
    assert broken("", 6) == [""]


def test_a_line_keeps_the_styles_of_its_pieces() -> None:
    (first, second) = break_lines([Span("ab", "kind"), Span("cd")], 3, 2)
    assert first == (Span("ab", "kind"), Span("c"))
    assert second == (Span("d"),)


# --- requirements ------------------------------------------------------------------------------------------------


def test_a_requirement_leads_to_the_cases_that_verify_it(tmp_path: Path, run: Run) -> None:
    folder = site(tmp_path, run)
    row = page(folder / "requirements.html").select_one("#INT-043")
    assert row is not None
    assert "MUST" in text(row.select_one(".level"))
    assert len(row.select("li")) == len(run.results)
    assert page(folder / "cases/alpha/fails.html").select_one(".requirement a")["href"] == (  # type: ignore[index]
        "../../requirements.html#INT-043"
    )


# --- hostile text, and what a site needs -------------------------------------------------------------------------


def test_nothing_that_a_target_says_is_active(tmp_path: Path, run: Run) -> None:
    folder = site(tmp_path, run)
    for path in folder.rglob("*.html"):
        parsed = page(path)
        assert not parsed(["script", "iframe", "object", "embed", "link", "img"]), path
        assert not [tag for tag in parsed(True) for name in tag.attrs if name.startswith("on")], path
        raw = path.read_text(encoding="utf-8")
        assert "<script" not in raw
        assert not {"\x1b", "\x00", "\u202e", "\u2066", "\ufffe"} & set(raw)
        assert not re.search(r"\w+://(?!127\.)", raw.replace("http://www.w3.org", "")), path
    evil = page(folder / "cases/beta/evil.html")
    assert records.SCRIPT_TAG in text(evil.h1)
    assert records.FOREIGN in evil.get_text()
    assert "␛[2J␇" in evil.get_text()


def test_very_long_text_is_cut(tmp_path: Path, run: Run) -> None:
    assert (site(tmp_path, run) / "cases/beta/evil.html").stat().st_size < 120_000


def test_every_link_leads_somewhere(tmp_path: Path, run: Run, broken_off: Run) -> None:
    folder = site(tmp_path, run, broken_off)
    pages = {path.resolve(): page(path) for path in folder.rglob("*.html")}
    for path, parsed in pages.items():
        ids = [tag["id"] for tag in parsed(id=True)]
        assert len(ids) == len(set(ids)), path
        for link in parsed("a"):
            name, _, anchor = str(link["href"]).partition("#")
            target = pages[(path.parent / name).resolve() if name else path]
            assert not anchor or target.find(id=anchor), (path, link)


@pytest.mark.parametrize("name", ["../../evil", "a/../../evil", "a/b/c", "a/.", f"a/{'x' * 5000}", "a/日本"])
def test_a_page_stays_in_the_folder_whatever_its_case_is_called(tmp_path: Path, name: str) -> None:
    path = path_of(name)
    assert re.fullmatch(r"cases/[A-Za-z0-9_-]+/[A-Za-z0-9_-]+\.html", path)
    folder = site(tmp_path, Run(records.header(), (result(name),), None))
    assert (folder / path).is_file()


def test_different_cases_have_different_pages() -> None:
    names = ["a/b", "a/b.", "a/b_", "a/B", "a_/b", "a/x2e", f"a/{'x' * 100}", f"a/{'x' * 101}"]
    assert len({path_of(name) for name in names}) == len(names)


def test_a_requirement_that_is_not_known_here_is_named_all_the_same(tmp_path: Path) -> None:
    name = "INT-" + "999"
    made = result("a/b", records.FAIL, failures=[failure(requirement=name)])
    case = page(site(tmp_path, records.run(tmp_path / "r.jsonl", [made])) / "cases/a/b.html")
    assert f"{name} not in this version of the specification" in text(case.select_one(".failure"))


def test_sentences_have_the_markdown_that_the_specification_uses() -> None:
    found = sentence("A `[CALL]` **is** <b> ([CML-040]) by [`Start`](protocol.md#start).")
    assert found == ("A <code>[CALL]</code> <strong>is</strong> &lt;b&gt; ([CML-040]) by <code>Start</code>.")


def test_escaped_control_words_of_a_script_are_text() -> None:
    assert script_line("\\[END] <b> [END]") == '\\[END] &lt;b&gt; <b class="control">[END]</b>'


def test_a_site_needs_a_run_and_a_folder(tmp_path: Path, run: Run) -> None:
    with pytest.raises(ReportError, match="no run is given"):
        write([], format="html", out=tmp_path)
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ReportError, match="html is written into a folder"):
        write([run], format="html", out=tmp_path / "file")


@pytest.mark.parametrize("form", ["text", "junit", "badge"])
def test_other_reports_are_written_into_files(tmp_path: Path, run: Run, form: str) -> None:
    write([run], format=form, out=tmp_path / "report")  # type: ignore[arg-type]
    assert "conformant" in (tmp_path / "report").read_text(encoding="utf-8")


def test_an_error_without_messages_is_shown_with_its_reason(tmp_path: Path) -> None:
    made = results_pb2.CaseResult(case="a/b", verdict=results_pb2.VERDICT_ERROR, reason="it has 4 lines")
    case = page(site(tmp_path, records.run(tmp_path / "r.jsonl", [made])) / "cases/a/b.html")
    assert "it has 4 lines" in text(case.select_one(".outcome"))
