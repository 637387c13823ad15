// The text of a stream: what became readable, what is held back, and where a word or a sentence ends.

import { StopMatcher } from './stops.js';
import { Utf8Decoder } from './utf8.js';

const IN_WORD = /[\p{L}\p{N}\p{M}]$/u;
const SENTENCE_END = /[.!?\n]/;

export class StreamText {
  #decoder = new Utf8Decoder();
  #stops;
  #last = ''; // The last character.
  #lastInk = ''; // The last one that is no space.
  #atBoundary = true; // Nothing sampled since a commit, the start or an end of sequence; or a block has just closed.

  constructor(stops) {
    this.#stops = new StopMatcher(stops);
  }

  /** Whether a text sequence is unfinished: no safe point [INT-004]. */
  get unfinished() {
    return this.#decoder.pending || this.#stops.pending;
  }

  /** A sampled byte outside blocks. Returns the text that is decided, and the stop string that it completes. */
  outside(byte) {
    const decoded = this.#decoder.push(byte);
    const { text, stop } = this.#stops.push(decoded);
    this.#follow(text);
    return { text, stop };
  }

  /** A sampled byte inside a block: no stop strings there [SES-104]. */
  inside(byte) {
    return this.#decoder.push(byte);
  }

  /** Gives up what is held back: a control token or an end follows it [SES-013] [SES-101]. */
  flush() {
    const text = this.#stops.flush() + this.#decoder.flush();
    this.#follow(text);
    return text;
  }

  /** From here on an interrupt can be committed whatever the text before it. */
  boundary() {
    this.#atBoundary = true;
  }

  /** Whether the granularity holds a safe point back here [INT-050] [INT-051]. */
  holds(granularity) {
    if (this.#atBoundary || granularity === 'TOKEN') return false;
    return granularity === 'WORD' ? IN_WORD.test(this.#last) : !SENTENCE_END.test(this.#lastInk);
  }

  #follow(text) {
    if (text === '') return;
    this.#atBoundary = false;
    const characters = [...text];
    this.#last = characters.at(-1);
    this.#lastInk = characters.findLast((character) => character !== ' ') ?? this.#lastInk;
  }
}
