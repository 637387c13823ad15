"""Random logits under the grammar, on a real vocabulary: whatever comes out is a call of a declared tool that fits."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from tests.engine.sampling import RandomLogits

from asynclm.cml.binding import TokenCodec
from asynclm.cml.blocks import Call, CmlErrorCode, Literal, Malformed, Trap
from asynclm.cml.control import BodyLanguage, Control
from asynclm.cml.grammar import llguidance_grammar
from asynclm.cml.parser import BlockClosed, BlockParser
from asynclm.cml.toolspec import ToolSpec
from asynclm.engine.constraints import Constraint, SessionConstraint
from asynclm.engine.guidance import new_matcher
from asynclm.session.mask import BlockRule, Kind, Mask

pytestmark = pytest.mark.weights

INSIDE = {
    BlockRule.CALL: frozenset({Kind.TEXT, Kind.HEAD, Kind.END}),
    BlockRule.TRAP: frozenset({Kind.TEXT, Kind.END}),
}
LONGEST = 600


def tool(name: str, required: tuple[str, ...] = (), more: dict[str, Any] | None = None, **properties: Any) -> ToolSpec:
    parameters = {"type": "object", "properties": properties, "required": list(required), **(more or {})}
    return ToolSpec(name=name, parameters={**parameters, "additionalProperties": False})


TEXT, INT = {"type": "string"}, {"type": "integer"}
POINT = {"type": "object", "properties": {"x": INT, "y": {"type": "number"}}, "required": ["x", "y"]}
TREE = {"type": "object", "properties": {"kids": {"type": "array", "items": {"$ref": "#/$defs/Tree"}, "maxItems": 2}}}
TOOL_SETS: dict[str, tuple[ToolSpec, ...]] = {
    "no-tools": (),
    "no-parameters": (tool("ping"),),
    "one-string": (tool("say", ("text",), text=TEXT),),
    "optional-only": (tool("find", a=TEXT, b=INT, c={"type": "boolean"}),),
    "dotted": (tool("mail.send", ("to",), to=TEXT), tool("mail.list")),
    "common-beginnings": (tool("get"), tool("get_all"), tool("get_all_now", n=INT)),
    "numbers": (tool("set", ("n", "x"), n={"type": "integer", "minimum": -3, "maximum": 40}, x={"type": "number"}),),
    "bounded-number": (tool("set", ("x",), x={"type": "number", "exclusiveMinimum": 0, "maximum": 1}),),
    "enumeration": (tool("paint", ("c",), c={"enum": ["red", 'a "b"', 3, None]}, d={"const": "x"}),),
    "string-length": (tool("tag", ("t",), t={"type": "string", "minLength": 2, "maxLength": 5}),),
    "pattern": (tool("code", ("c",), c={"type": "string", "pattern": "^[A-Z]{3}-[0-9]{2}$"}),),
    "formats": (tool("at", ("d",), d={"type": "string", "format": "date"}, u={"type": "string", "format": "uuid"}),),
    "array": (tool("sum", ("v",), v={"type": "array", "items": INT, "minItems": 1, "maxItems": 3}),),
    "tuple": (tool("pair", ("p",), p={"type": "array", "prefixItems": [TEXT, INT], "items": False, "minItems": 2}),),
    "object": (tool("move", ("to",), to=POINT),),
    "nested": (
        tool("draw", ("l",), l={"type": "array", "items": POINT, "maxItems": 2}, o={"type": ["string", "null"]}),
    ),
    "union": (tool("put", ("v",), v={"anyOf": [INT, POINT, {"type": "array", "items": TEXT, "maxItems": 1}]}),),
    "definitions": (tool("grow", ("t",), {"$defs": {"Tree": TREE}}, t={"$ref": "#/$defs/Tree"}),),
    "joined": (tool("cut", ("n",), n={"allOf": [INT, {"minimum": 3}, {"maximum": 9}]}),),
    "many": (
        tool("many", ("p0", "p7"), **{f"p{i}": INT for i in range(12)}),
        tool("other", ("x",), x={"type": "null"}),
    ),
}
assert len(TOOL_SETS) == 20


class Sampler(RandomLogits):
    """Writes whole blocks."""

    def block(self, session: SessionConstraint, mask: Mask) -> list[int]:
        """The ids of a block's inside, `[END]` included."""
        ids: list[int] = []
        while len(ids) < LONGEST:
            token_id = self.choose(session.bits(mask), len(ids))
            assert session.allows(mask, token_id)
            session.accept(token_id)
            ids.append(token_id)
            if token_id == self.end:
                return ids
        raise AssertionError(f"no end after {LONGEST} tokens")

    def blocks(self, constraint: Constraint, rule: BlockRule, count: int) -> Iterator[list[int]]:
        session = constraint.session()
        for number in range(count):
            yield self.block(session, Mask(INSIDE[rule], rule, number))


@pytest.fixture(scope="module")
def shared_sampler(smollm2_tokenizer: Any) -> Sampler:
    return Sampler(smollm2_tokenizer)


@pytest.fixture
def sampler(shared_sampler: Sampler, request: pytest.FixtureRequest) -> Sampler:
    """Each test has its own random numbers, whichever tests run."""
    shared_sampler.random = np.random.default_rng(zlib.crc32(request.node.name.encode()))
    return shared_sampler


def parsed(codec: TokenCodec, opened: Control, ids: list[int], language: BodyLanguage) -> Any:
    parser = BlockParser(language)
    decoder = codec.decoder()
    parser.feed(opened)
    *_, last = [event for token_id in ids for item in decoder.feed(token_id) for event in parser.feed(item)]
    assert isinstance(last, BlockClosed)
    return last.block


def check_arguments(spec: ToolSpec, call: Call) -> int:
    """Checks a call against its tool's schema; gives the number of arguments that are no references."""
    names = [argument.name for argument in call.invocation.arguments]
    assert set(spec.required) <= set(names) <= set(spec.properties), call.raw
    for argument in call.invocation.arguments:
        if isinstance(argument.value, Literal):
            schema = {**spec.properties[argument.name or ""], "$defs": spec.parameters.get("$defs", {})}
            errors = list(Draft202012Validator(schema).iter_errors(json.loads(argument.value.json)))
            assert not errors, (call.raw, errors)
    return len(call.invocation.arguments) - len(call.invocation.references)


@pytest.mark.parametrize("language", BodyLanguage)
@pytest.mark.parametrize("name", TOOL_SETS)
def test_what_comes_out_is_a_call_that_fits(name: str, language: BodyLanguage, sampler: Sampler):
    tools = {spec.name: spec for spec in TOOL_SETS[name]}
    constraint = Constraint(sampler.codec, sampler.codec.tokenizer, tuple(tools.values()), language)
    assert constraint.unenforced == ()
    written: Counter[str] = Counter()
    literals = 0
    for ids in sampler.blocks(constraint, BlockRule.CALL, 16):
        call = parsed(sampler.codec, Control.CALL, ids, language)
        assert isinstance(call, Call), call
        function = call.invocation.function
        written[function] += 1
        assert function in {*tools, "cml.cancel"}
        if function in tools:
            literals += check_arguments(tools[function], call)
    assert not tools or written.total() > written["cml.cancel"], written
    assert literals or not any(spec.required for spec in tools.values())


def test_what_comes_out_is_a_trap(sampler: Sampler):
    constraint = Constraint(sampler.codec, sampler.codec.tokenizer)
    for ids in sampler.blocks(constraint, BlockRule.TRAP, 20):
        trap = parsed(sampler.codec, Control.TRAP, ids, BodyLanguage.PYTHON)
        assert isinstance(trap, Trap), trap


@pytest.mark.parametrize("language", BodyLanguage)
def test_what_may_be_written_may_be_read(language: BodyLanguage, sampler: Sampler):
    """The constrained grammar allows nothing that the recognising one refuses."""
    codec = sampler.codec
    recogniser = new_matcher(llguidance_grammar(language, codec.control_ids), codec.tokenizer)
    constraint = Constraint(codec, codec.tokenizer, TOOL_SETS["union"] + TOOL_SETS["many"], language)
    for rule, opened in ((BlockRule.CALL, Control.CALL), (BlockRule.TRAP, Control.TRAP)):
        for ids in sampler.blocks(constraint, rule, 10):
            matcher = recogniser.deep_copy()
            assert matcher.consume_tokens([codec.control_ids[opened], *ids])
            assert matcher.is_accepting()


def test_open_objects_may_only_fail_by_a_repeated_key(sampler: Sampler):
    spec = ToolSpec(name="f", parameters={"type": "object", "properties": {"x": {"type": "object"}}, "required": ["x"]})
    constraint = Constraint(sampler.codec, sampler.codec.tokenizer, (spec,))
    assert constraint.unenforced == ("f: parameters/properties/x: unique keys",)
    for ids in sampler.blocks(constraint, BlockRule.CALL, 10):
        call = parsed(sampler.codec, Control.CALL, ids, BodyLanguage.PYTHON)
        assert isinstance(call, Call) or (isinstance(call, Malformed) and call.code is CmlErrorCode.REPEATED_ARGUMENT)
