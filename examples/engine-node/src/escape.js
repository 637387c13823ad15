// The layer below CML's text form: control words and their escapes.

import { CONTROLS } from './bytes.js';

const WORDS = CONTROLS.map((name) => `[${name}]`);
const WORD = /\[(CALL|INTR|TRAP|END|HEAD)\]/g;

/** Splits text into texts and control tokens (`{control}`), whatever pieces it comes in [CML-045]. */
export class Unescaper {
  #held = '';

  /** What is held back: a run of backslashes, or the beginning of a control word [CML-049]. */
  get held() {
    return this.#held;
  }

  push(piece) {
    const items = [];
    const text = this.#held + piece;
    let from = 0;
    for (const { 0: word, 1: name, index } of text.matchAll(WORD)) {
      const backslashes = runBefore(text, index, from);
      const literal = backslashes % 2 === 1; // [CML-040]
      items.push(text.slice(from, index - backslashes) + '\\'.repeat(backslashes >> 1));
      items.push(literal ? word : { control: name });
      from = index + word.length;
    }
    const decided = beginningOfUndecided(text, from);
    this.#held = text.slice(decided);
    items.push(text.slice(from, decided));
    return joined(items);
  }

  /** Gives up what is held back as text [CML-050]. */
  end() {
    const items = joined([this.#held]);
    this.#held = '';
    return items;
  }
}

/** The number of backslashes directly before a place in a text. */
function runBefore(text, index, from) {
  let at = index;
  while (at > from && text[at - 1] === '\\') at -= 1;
  return index - at;
}

function beginningOfUndecided(text, from) {
  const bracket = text.lastIndexOf('[');
  const open = bracket >= from && WORDS.some((word) => word.startsWith(text.slice(bracket)));
  const end = open ? bracket : text.length;
  return end - runBefore(text, end, from);
}

/** Items without empty texts and with neighbouring texts put together [CML-005]. */
export function joined(items) {
  const result = [];
  for (const item of items) {
    if (item === '') continue;
    if (typeof item === 'string' && typeof result.at(-1) === 'string') result[result.length - 1] += item;
    else result.push(item);
  }
  return result;
}

/** The items of a whole text. */
export function unescapeAll(text) {
  const unescaper = new Unescaper();
  return joined([...unescaper.push(text), ...unescaper.end()]);
}
