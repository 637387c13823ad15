"""What parsing one token costs: decoding it and feeding the block parser, as a session does between decode steps.

Text, bodies and block ends are measured apart, because a block's end pays for judging the block; the token form and
the text form apart, because their decoders differ.
"""

from __future__ import annotations

import gc
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from time import perf_counter_ns

from rich.console import Console
from rich.progress import track

from asynclm.bench.record import BenchRecord, Better, Metric, metric, percentile, start
from asynclm.bench.transcripts import PieceTokenizer, cut, transcript
from asynclm.cml.binding import bind
from asynclm.cml.codec import Item
from asynclm.cml.control import BodyLanguage
from asynclm.cml.parser import BlockClosed, BlockParser
from asynclm.cml.text_form import TextFormDecoder, render

SEED = 20241209
P50_FLOOR_US = 10.0
P99_FLOOR_US = 100.0
FORMS = ("token_form", "text_form")
KINDS = ("text", "body", "block_end")
TURNS = 400
ROUNDS = 30
QUICK_ROUNDS = 5


@dataclass(frozen=True)
class Stream:
    """One session's stream in one form: its units, the kind of each, and what decodes and parses it."""

    form: str
    language: BodyLanguage
    units: Sequence[int] | Sequence[str]
    kinds: tuple[str, ...]
    decode: Callable[[], Callable[[int], tuple[Item, ...]]] | Callable[[], Callable[[str], tuple[Item, ...]]]

    def parser(self) -> BlockParser:
        """A fresh block parser for this form."""
        return BlockParser(self.language, spaced_payloads=self.form == "text_form")


@dataclass
class Costs:
    """The percentiles of one kind of token in one form, in microseconds, one for each round."""

    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    samples: int = 0

    def add(self, nanoseconds: Sequence[int]) -> None:
        """Takes a round."""
        self.p50.append(percentile(nanoseconds, 50) / 1000)
        self.p99.append(percentile(nanoseconds, 99) / 1000)
        self.samples += len(nanoseconds)


def run(*, quick: bool = False) -> BenchRecord:
    """Measures twelve metrics: p50 and p99 in microseconds a token, for three kinds of token in two forms."""
    record = start("parser")
    streams = [stream for language in BodyLanguage for stream in _streams(language)]
    rounds = QUICK_ROUNDS if quick else ROUNDS
    costs = {(form, kind): Costs() for form in FORMS for kind in KINDS}
    console = Console(stderr=True)
    for number in track(range(rounds + 1), "Parsing", console=console, transient=True):
        this_round: dict[tuple[str, str], array[int]] = {key: array("q") for key in costs}
        for stream in streams:
            for kind, nanoseconds in zip(stream.kinds, _time(stream), strict=True):
                this_round[stream.form, kind].append(nanoseconds)
        if number:  # the first warms up: it fills the codec's memory and the processor's caches
            for key, times in this_round.items():
                costs[key].add(times)
    return replace(record, metrics=tuple(m for key, of in costs.items() for m in _metrics("_".join(key), of)))


def _streams(language: BodyLanguage) -> tuple[Stream, Stream]:
    random = Random(SEED)
    document = transcript(random, language, TURNS)
    codec = bind(PieceTokenizer(random))
    ids = codec.encode(document, language)
    pieces = cut(random, render(document, language))
    return (
        _classified(Stream("token_form", language, ids, (), lambda: codec.decoder().feed)),
        _classified(Stream("text_form", language, pieces, (), lambda: TextFormDecoder().feed_text)),
    )


def _classified(stream: Stream) -> Stream:
    """The stream with the kind of each unit, found by parsing it once."""
    decode, parser = stream.decode(), stream.parser()
    kinds = []
    for unit in stream.units:
        inside = parser.open_block is not None
        events = [event for item in decode(unit) for event in parser.feed(item)]  # type: ignore[arg-type]
        if any(isinstance(event, BlockClosed) for event in events):
            kinds.append("block_end")
        else:
            kinds.append("body" if inside or parser.open_block is not None else "text")
    return replace(stream, kinds=tuple(kinds))


def _time(stream: Stream) -> array[int]:
    """Nanoseconds for each unit, the clock's own cost included; garbage is collected before, not meanwhile."""
    decode, feed = stream.decode(), stream.parser().feed
    times = array("q", bytes(8 * len(stream.units)))
    gc.collect()
    for index, unit in enumerate(stream.units):
        before = perf_counter_ns()
        for item in decode(unit):  # type: ignore[arg-type]
            feed(item)
        times[index] = perf_counter_ns() - before
    return times


def _metrics(name: str, costs: Costs) -> tuple[Metric, Metric]:
    def of(percent: int, rounds: list[float], floor: float) -> Metric:
        full_name = f"{name}_us_per_token_p{percent}"
        return metric(full_name, rounds, unit="us", better=Better.LOWER, floor=floor, samples=costs.samples)

    return of(50, costs.p50, P50_FLOOR_US), of(99, costs.p99, P99_FLOOR_US)
