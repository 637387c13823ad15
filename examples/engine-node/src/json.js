// JSON and the literals of python_call, read so that the spelling of every value is kept.

/** How deep lists and objects can nest [LIM-007]. */
export const MAX_DEPTH = 64;

const SPACE = /[ \t\r\n]*/y;
const NUMBER = /-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/y;
const WORD = /[A-Za-z_][A-Za-z0-9_]*/y;
const ESCAPES = { '"': '"', '\\': '\\', '/': '/', b: '\b', f: '\f', n: '\n', r: '\r', t: '\t' };
const JSON_WORDS = { true: 'true', false: 'false', null: 'null' };
export const PYTHON_WORDS = { ...JSON_WORDS, True: 'true', False: 'false', None: 'null' };

/** A text outside the language; `at` is where. */
export class ScanError extends Error {
  constructor(message, at) {
    super(`${message} at character ${at}`);
    this.at = at;
  }
}

/**
 * Reads values off a text. A value is `{kind, json, start, end}`, with `string` (decoded), `elements` or `members`
 * (pairs of a key and a value) by its kind; `json` is its canonical spelling, numbers as they were written [CML-027].
 */
export class Scanner {
  /** `python`: also True, False, None and '…'. `characters`: half a surrogate pair is refused [CML-039]. */
  constructor(text, { python = false, characters = true } = {}) {
    this.text = text;
    this.at = 0;
    this.python = python;
    this.characters = characters;
    this.repeated = undefined; // The first key that stands twice in one object.
  }

  fail(message) {
    throw new ScanError(message, this.at);
  }

  match(pattern) {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text);
    if (found) this.at += found[0].length;
    return found?.[0];
  }

  space() {
    this.match(SPACE);
  }

  word() {
    return this.match(WORD);
  }

  get next() {
    return this.text[this.at];
  }

  take(character) {
    if (this.next !== character) return false;
    this.at += 1;
    return true;
  }

  expect(character) {
    if (!this.take(character)) this.fail(`${JSON.stringify(character)} is expected`);
  }

  atEnd() {
    return this.at === this.text.length;
  }

  get atQuote() {
    return this.next === '"' || (this.python && this.next === "'");
  }

  value(depth = 0) {
    const start = this.at;
    const value = this.#bare(depth);
    return { ...value, start, end: this.at };
  }

  #bare(depth) {
    if (this.atQuote) {
      const string = this.string();
      return { kind: 'string', string, json: JSON.stringify(string) };
    }
    if (this.next === '[' || this.next === '{') {
      if (depth === MAX_DEPTH) this.fail(`lists and objects nest more than ${MAX_DEPTH} levels deep`);
      return this.next === '[' ? this.#array(depth + 1) : this.object((key) => [key, this.value(depth + 1)]);
    }
    const number = this.match(NUMBER);
    if (number) return { kind: 'number', json: number };
    const word = this.word();
    const json = word && (this.python ? PYTHON_WORDS : JSON_WORDS)[word];
    if (json) return { kind: 'word', json };
    return this.fail('a value is expected');
  }

  #array(depth) {
    const elements = [];
    this.expect('[');
    this.space();
    if (!this.take(']')) {
      do {
        this.space();
        elements.push(this.value(depth));
        this.space();
      } while (this.take(','));
      this.expect(']');
    }
    return { kind: 'array', elements, json: `[${elements.map((value) => value.json).join(',')}]` };
  }

  /** Reads an object; `member` gets each key, reads its value and returns the pair. */
  object(member) {
    const members = [];
    const keys = new Set();
    this.expect('{');
    this.space();
    if (!this.take('}')) {
      do {
        this.space();
        if (!this.atQuote) this.fail('a key in quotes is expected');
        const key = this.string();
        if (keys.has(key)) this.repeated ??= key;
        keys.add(key);
        this.space();
        this.expect(':');
        this.space();
        members.push(member(key));
        this.space();
      } while (this.take(','));
      this.expect('}');
    }
    const json = `{${members.map(([key, value]) => `${JSON.stringify(key)}:${value.json}`).join(',')}}`;
    return { kind: 'object', members, json };
  }

  string() {
    const quote = this.text[this.at];
    this.at += 1;
    let decoded = '';
    for (;;) {
      const character = this.next;
      if (character === undefined) this.fail('a string is not closed');
      this.at += 1;
      if (character === quote) break;
      if (character < ' ') this.fail('a control character in a string');
      decoded += character === '\\' ? this.#escape(quote) : character;
    }
    if (this.characters && !decoded.isWellFormed()) this.fail('half of a surrogate pair in a string');
    return decoded;
  }

  #escape(quote) {
    const character = this.next;
    this.at += 1;
    if (character === "'" && quote === "'") return "'";
    if (character === 'u') {
      const code = this.match(/[0-9a-fA-F]{4}/y);
      if (!code) this.fail('four hexadecimal digits are expected');
      return String.fromCharCode(Number.parseInt(code, 16));
    }
    if (!Object.hasOwn(ESCAPES, character ?? '')) this.fail('an unknown escape in a string');
    return ESCAPES[character];
  }
}

/** Reads a JSON text (RFC 8259); throws ScanError if it is none. */
export function readJson(text) {
  const scanner = new Scanner(text, { characters: false });
  scanner.space();
  const value = scanner.value();
  scanner.space();
  if (!scanner.atEnd()) scanner.fail('text after the value');
  return value;
}

/** What is wrong with a JSON text from a peer, or undefined; quick enough for the largest payload. */
export function jsonFault(text) {
  try {
    JSON.parse(text);
  } catch {
    return 'is not JSON text';
  }
  return nestsTooDeep(text) ? `nests more than ${MAX_DEPTH} levels deep` : undefined;
}

/** Of a text that is JSON. */
function nestsTooDeep(text) {
  let depth = 0;
  let inString = false;
  for (let i = 0; i < text.length; i += 1) {
    const character = text[i];
    if (inString) {
      if (character === '\\') i += 1;
      else if (character === '"') inString = false;
    } else if (character === '"') inString = true;
    else if (character === '[' || character === '{') depth += 1;
    else if (character === ']' || character === '}') depth -= 1;
    if (depth > MAX_DEPTH) return true;
  }
  return false;
}

/**
 * The part of a JSON text that steps (`{name}` or `{index}`) select, in its own spelling [CALL-031] [CALL-032];
 * undefined if they select nothing. Of equal keys the last one counts.
 */
export function select(text, path) {
  let value = readJson(text);
  for (const step of path) {
    if ('index' in step) value = value.elements?.[step.index];
    else value = value.members?.findLast(([key]) => key === step.name)?.[1];
    if (value === undefined) return undefined;
  }
  return { json: text.slice(value.start, value.end), string: value.string };
}
