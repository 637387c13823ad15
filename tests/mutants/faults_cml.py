"""Faults of the language, of bindings and of what keeps text apart from control tokens."""

from __future__ import annotations

import dataclasses
import json
import re

from tests.mutants.mutant import mutant, puts, replaces

from asynclm.cml import binding, bodies, ids, literals, parser, traps
from asynclm.cml.binding import TokenCodec
from asynclm.cml.blocks import Argument, CmlError, CmlErrorCode, Literal, Text
from asynclm.cml.control import BodyLanguage, Control
from asynclm.cml.parser import BlockParser
from asynclm.cml.references import parse_reference
from asynclm.cml.text_form import escape
from asynclm.prompt import encode
from asynclm.server import describe, hub, preparation
from asynclm.session.stream import Stream

# --- blocks ------------------------------------------------------------------------------------------------------


@mutant(
    violates=["CML-063", "WIRE-053"],
    also={
        "blocks/interrupt-by-the-model": "the rest of a forged block is stray tokens",
        "prompts/text-parts-are-literal": "notices of stray tokens show that the script has them",
        "scripts/masked-costs-nothing": "a stray token is what costs a unit",
    },
)
def stray_tokens_are_dropped_untold():
    """[END] and [HEAD] outside a block are dropped without a notice."""

    @replaces(Stream, "_apply")
    def _(original, self, parsed):
        if not isinstance(parsed, parser.Dropped):
            original(self, parsed)


@mutant(violates=["CML-061", "CALL-001", "CALL-006", "WIRE-055", "CML-067", "SES-066"])
def opening_tokens_inside_blocks_are_skipped():
    """An opening control token inside a block is passed over."""

    @replaces(BlockParser, "feed")
    def _(original, self, item):
        if self.open_block is not None and item in (Control.CALL, Control.TRAP):
            return ()
        return original(self, item)


@mutant(
    violates=["CML-062", "CML-067", "CALL-005", "CALL-007", "CML-073"],
    also={"session-basics/malformed-stays-at-home": "its malformed block has two heads"},
)
def second_heads_are_skipped():
    """A second [HEAD] is passed over."""

    @replaces(BlockParser, "_take_head")
    def _(original, self, opened):
        if self._head is None and opened is not Control.TRAP:
            original(self, opened)


@mutant(
    violates=["CML-065", "ERR-021", "CML-067", "CALL-006", "SES-066", "CML-073"],
    also={"bindings/five-tokens masks/none-masks-nothing-else": "they end within a block"},
)
def truncated_blocks_are_forgotten():
    """A block that is open at end of sequence is dropped."""

    @replaces(BlockParser, "finish")
    def _(original, self):
        original(self)
        return ()


@mutant(violates=["CML-004"], also={"*": "most calls are written with white space around their bodies"})
def bodies_begin_at_once():
    """White space around a call's body is a syntax error."""

    @replaces(parser, "parse_body")
    def _(original, language, text):
        if text != text.strip():
            raise CmlError("body: white space around it", code=CmlErrorCode.BAD_BODY)
        return original(language, text)


# --- names -------------------------------------------------------------------------------------------------------


@mutant(violates=["CML-010", "CALL-005"])
def ids_of_any_letters():
    """An id may have letters of any script."""
    puts(ids, "NAME", re.compile(r"[^\W\d]\w{0,63}"))


@mutant(violates=["CML-010", "CALL-005"])
def ids_of_any_length():
    """An id may be longer than 64 characters."""
    puts(ids, "NAME", re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII))


@mutant(violates=["CML-012", "CALL-005", "CML-067", "CML-016", "CML-031", "CML-073"])
def reserved_words_are_ids():
    """A reserved word is taken as the id of a call."""
    puts(ids, "RESERVED_IDS", frozenset())


# --- bodies ------------------------------------------------------------------------------------------------------


@mutant(violates=["CML-022"], also={"*": "a call is written with single quotes"})
def single_quotes_are_refused():
    """A string in single quotes is a syntax error."""

    @replaces(literals, "scan_string")
    def _(original, text, at, *, python):
        return original(text, at, python=False)


@mutant(violates=["CML-022", "CML-032"])
def python_words_are_refused():
    """True, False and None are not read as literals."""
    puts(bodies, "_WORD_LITERALS", {word: Literal(word) for word in ("true", "false", "null")})


@mutant(violates=["CML-023"])
def trailing_commas_are_taken():
    """A comma may stand before the closing bracket of a call."""

    @replaces(bodies, "_parse_python")
    def _(original, text):
        return original(re.sub(r",\s*\)\s*$", ")", text))


@mutant(violates=["CML-024"])
def positional_arguments_stand_anywhere():
    """A positional argument may follow a named one."""

    @replaces(bodies, "_parse_python")
    def _(original, text):
        try:
            return original(text)
        except CmlError as error:
            if "positional" not in str(error):
                raise
            return original(text[: error.offset].rstrip(" ,") + ")")


@mutant(violates=["CML-026", "CML-028", "CML-023"])
def last_key_wins():
    """Of a key that stands twice in an object, the last counts."""
    puts(literals, "_DECODER", json.JSONDecoder(parse_int=literals._int, parse_float=literals._float))


@mutant(violates=["CML-026", "CALL-007", "CML-073"])
def last_argument_wins():
    """Of an argument that is given twice, the last counts."""

    @replaces(bodies, "_parse_python")
    def _(original, text):
        try:
            return original(text)
        except CmlError as error:
            if error.code is not CmlErrorCode.REPEATED_ARGUMENT or "argument" not in str(error):
                raise
            return original(text[: text.index("(") + 1] + text[error.offset :])


@mutant(violates=["CML-025"])
def positional_arguments_are_bound_backwards():
    """Positional arguments are bound to the last parameters first."""
    from asynclm.session import desk

    @replaces(desk, "bind_positional")
    def _(original, invocation, order):
        return original(invocation, order[::-1])


@mutant(
    violates=["CML-028"],
    also={
        "json-bodies/given-twice": "a member that the language does not have is what it gives twice",
        "json-bodies/number-spelling": "its second call is refused for such a member",
    },
)
def json_calls_take_any_member():
    """A json_call may have members that the language does not know."""

    @replaces(bodies, "_parse_json_fast")
    def _(original, text):
        try:
            body = json.loads(text)
            text = json.dumps({key: body[key] for key in ("name", "arguments", "refs") if key in body})
        except (ValueError, TypeError):
            pass
        return original(text)


@mutant(violates=["CML-029"])
def json_references_win():
    """Where a parameter stands both in arguments and in refs, the reference counts."""

    @replaces(bodies, "_parse_json_fast")
    def _(original, text):
        try:
            body = json.loads(text)
            for name in body["refs"]:
                body["arguments"].pop(name, None)
            text = json.dumps(body)
        except (ValueError, TypeError, KeyError):
            pass
        return original(text)


@mutant(violates=["CML-030", "CML-015"])
def json_strings_can_be_references():
    """A string in arguments that looks like a reference with steps is one."""

    @replaces(parser, "parse_body")
    def _(original, language, text):
        invocation = original(language, text)
        if language is not BodyLanguage.JSON:
            return invocation
        return dataclasses.replace(invocation, arguments=tuple(map(_read, invocation.arguments)))

    def _read(argument):
        value = json.loads(argument.value.json) if isinstance(argument.value, Literal) else None
        if isinstance(value, str):
            try:
                return Argument(argument.name, parse_reference(value))
            except CmlError:
                pass
        return argument


# --- traps -------------------------------------------------------------------------------------------------------


@mutant(violates=["CML-034", "TRAP-001"])
def seconds_are_whole():
    """The part of `within` behind the point is not read."""

    @replaces(traps, "_milliseconds")
    def _(original, whole, fraction):
        return original(whole, None)


@mutant(violates=["CML-035"])
def trap_words_in_capitals():
    """ALL, ANY and WITHIN are words of a trap's condition, too."""

    @replaces(parser, "parse_trap")
    def _(original, text):
        return original(re.sub(r"\b(?:ALL|ANY|WITHIN)\b", lambda word: word.group().lower(), text))


# --- the token form ----------------------------------------------------------------------------------------------


@mutant(violates=["CML-052", "SEC-001", "BIND-020", "ERR-031", "SCR-004"])
def spellings_become_special_tokens():
    """Text that spells a special token of the vocabulary is encoded as that token."""
    spelled = re.compile(r"(<\|[a-z_]+\|>)")

    @replaces(TokenCodec, "encode_text")
    def _(original, self, text):
        found = []
        for piece in spelled.split(text):
            special = self.tokenizer.special_id(piece)
            found += original(self, piece) if special is None else [special]
        return found


@mutant(violates=["CML-052", "SEC-001", "SEC-003", "BIND-020", "ERR-031", "CML-054", "CML-051", "SCR-004"])
def control_words_become_control_tokens():
    """Text that spells a control word is encoded as the control token."""
    spelled = re.compile(r"(\[(?:CALL|INTR|TRAP|END|HEAD)\])")

    @replaces(TokenCodec, "encode_text")
    def _(original, self, text):
        found = []
        for piece in spelled.split(text):
            is_word = spelled.fullmatch(piece) is not None
            found += [self.control_ids[Control(piece)]] if is_word else original(self, piece)
        return found


@mutant(violates=["CML-053", "CML-054", "ERR-031"])
def payloads_are_escaped():
    """Control words in a payload are escaped, in the token form too."""

    @replaces(binding, "interrupt_parts")
    def _(original, source, payload):
        return original(source, escape(payload))


@mutant(violates=["CML-054", "CML-038"])
def payloads_are_stripped():
    """White space around a payload is taken away."""

    @replaces(binding, "interrupt_parts")
    def _(original, source, payload):
        return original(source, payload.strip())


@mutant(violates=["CML-054", "CML-037"])
def status_ok_is_written():
    """The status ok is written into the frame."""

    @replaces(binding, "interrupt_parts")
    def _(original, source, payload):
        return original(source if ":" in source else f"{source}:ok", payload)


@mutant(violates=["CML-067", "CALL-020"])
def bodies_are_judged_before_ids():
    """A block with a bad id and a bad body is named by its body."""

    @replaces(BlockParser, "_judge")
    def _(original, self, opened):
        if opened is Control.CALL and self._bad_head is None and isinstance(self._id, CmlError):
            try:
                parser.parse_body(self._language, "".join(self._pieces))
            except CmlError:
                self._id = None
        return original(self, opened)


# --- prompts -----------------------------------------------------------------------------------------------------


@mutant(violates=["CML-073", "ERR-023", "CML-040"])
def bad_cml_parts_are_text():
    """A cml part that is not well formed is taken as text."""
    puts(preparation, "check_cml", lambda start: None)

    @replaces(encode, "parse")
    def _(original, text, language):
        try:
            return original(text, language)
        except CmlError:
            return (Text(text),)


# --- bindings ----------------------------------------------------------------------------------------------------


def _binds(change):
    """Changes the binding that GetServerInfo and Started publish."""

    @replaces(describe, "binding_of")
    def _(original, *args):
        return change(original(*args))


@mutant(violates=["BIND-005", "CML-051", "CML-054", "INT-043", "WIRE-055"])
def published_ids_are_swapped():
    """The published ids of [END] and [HEAD] are those of each other."""

    @_binds
    def _(bound):
        by_control = {token.control: token for token in bound.tokens}
        other = {Control.END: Control.HEAD, Control.HEAD: Control.END}
        tokens = (
            dataclasses.replace(token, id=by_control[other.get(token.control, token.control)].id)
            for token in bound.tokens
        )
        return dataclasses.replace(bound, tokens=tuple(tokens))


@mutant(violates=["BIND-001", "BIND-005", "CML-051", "CML-054", "INT-043"])
def one_id_for_two_tokens():
    """The binding has one id for [END] and [HEAD]."""

    @_binds
    def _(bound):
        ids_of = {token.control: token.id for token in bound.tokens}
        tokens = (
            dataclasses.replace(token, id=ids_of[Control.HEAD]) if token.control is Control.END else token
            for token in bound.tokens
        )
        return dataclasses.replace(bound, tokens=tuple(tokens))


@mutant(violates=["BIND-007"])
def no_fingerprint_is_published():
    """The binding has no fingerprint of the tokenizer."""

    @_binds
    def _(bound):
        return dataclasses.replace(bound, tokenizer_fingerprint="")


@mutant(violates=["BIND-005"])
def started_has_another_binding():
    """The binding in Started is not the one in GetServerInfo."""

    @replaces(hub.SessionHub, "_started")
    def _(original, self, record, start, ready):
        started = original(self, record, start, ready)
        return dataclasses.replace(started, binding=dataclasses.replace(started.binding, name="other"))
