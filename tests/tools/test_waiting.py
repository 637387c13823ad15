"""The waiting order and the cache, against models that are plainly right."""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from asynclm.tools.cache import CacheKey, ResultCache, cache_key
from asynclm.tools.waiting import LongestFirst

OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.one_of(st.none(), st.integers(1, 4))),
        st.tuples(st.just("remove"), st.integers(0, 10)),
        st.tuples(st.just("pop"), st.none()),
    ),
    max_size=30,
)


@given(OPERATIONS)
def test_the_longest_comes_first_then_the_oldest(operations: list[tuple[str, int | None]]) -> None:
    queue: LongestFirst[int] = LongestFirst()
    model: dict[int, tuple[int, int]] = {}
    tickets: dict[int, int] = {}
    for number, (operation, argument) in enumerate(operations):
        if operation == "push":
            tickets[number] = queue.push(number, argument)
            model[number] = (-(argument or 0), number)
        elif operation == "remove" and model:
            assert argument is not None
            chosen = sorted(model)[argument % len(model)]
            del model[chosen]
            queue.remove(tickets[chosen])
        elif operation == "pop":
            expected = min(model, key=lambda n: model[n]) if model else None
            assert queue.pop() == expected
            model.pop(expected, None)  # type: ignore[arg-type]
        assert len(queue) == len(model)


KEYS = st.sampled_from("abcde")


@given(st.lists(st.tuples(KEYS, st.one_of(st.none(), st.integers(0, 12))), max_size=40), st.integers(0, 3), st.just(20))
def test_the_least_recently_used_result_goes_first(
    operations: list[tuple[str, int | None]], max_entries: int, max_chars: int
) -> None:
    cache = ResultCache(max_entries, max_chars)
    model: OrderedDict[str, str] = OrderedDict()
    for name, size in operations:
        key = CacheKey("f", name)
        if size is None:
            if name in model:
                model.move_to_end(name)
            assert cache.get(key) == model.get(name)
        else:
            cache.put(key, name * size)
            model.pop(name, None)
            model[name] = name * size
            while len(model) > max_entries or sum(map(len, model.values())) > max_chars:
                model.popitem(last=False)
        assert len(cache) == len(model)
    cache.clear()
    assert len(cache) == 0


def test_a_result_larger_than_the_cache_drops_nothing_else() -> None:
    cache = ResultCache(max_chars=5)
    cache.put(CacheKey("f", "a"), "123")
    cache.put(CacheKey("f", "b"), "123456")
    assert (cache.get(CacheKey("f", "a")), cache.get(CacheKey("f", "b"))) == ("123", None)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES, VALUES)
def test_keys_are_equal_only_for_the_same_arguments(a: Any, b: Any) -> None:
    texts = [json.dumps(value, ensure_ascii=False) for value in (a, b)]
    spaced = json.dumps(a, indent=1, sort_keys=True)
    assert cache_key("f", texts[0]) == cache_key("f", spaced)
    assert cache_key("f", texts[0]) != cache_key("g", texts[0])
    same = json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)
    assert (cache_key("f", texts[0]) == cache_key("f", texts[1])) == same


def test_numbers_count_as_spelled_and_what_is_not_json_has_no_key() -> None:
    keys = [cache_key("f", f'{{"x": {x}}}') for x in ("1", "1.0", '"1"', "1e400", "1e500", "0.10", "0.1")]
    assert len(set(keys)) == len(keys)
    assert cache_key("f", "{") is None
    assert cache_key("f", "[" * 100_000) is None
