// The parser of CML: texts and control tokens in, blocks out. It is total: every input has a reading [CML-060].

import { BodyError, NAME, isReserved, parseBody } from './body.js';
import { cut } from './cut.js';

const SPACE = ' \t\r\n';
const NAMED = '[A-Za-z_][A-Za-z0-9_]{0,63}';
const STATUS = 'ok|error|partial|progress|cancelled|timeout';
const SOURCE = new RegExp(`^(@user|@system|@runtime|@agent\\.${NAMED}|${NAMED})(?::(${STATUS}))?$`);
const OPENING = { CALL: 'call', INTR: 'interrupt', TRAP: 'trap' };

/** White space taken away where CML ignores it [CML-004]. */
export function trim(text) {
  let [start, end] = [0, text.length];
  while (start < end && SPACE.includes(text[start])) start += 1;
  while (end > start && SPACE.includes(text[end - 1])) end -= 1;
  return text.slice(start, end);
}

class Malformed extends Error {
  constructor(error, message) {
    super(message);
    this.error = error;
  }
}

class BadId extends Malformed {}

/**
 * Reads a stream. What comes out is `{kind}` of
 *   text         text
 *   call         id?, function, arguments, raw
 *   interrupt    source, status, payload
 *   trap         quantifier?, ids, withinMs?, raw
 *   malformed    block ('call', …), error (a class of [CML-066]), message, and of a call id?, function, raw, faultOfId
 *   stray        control
 */
export class Parser {
  #block = null;

  /** `textForm`: payloads have the one space on each side that the text form adds [CML-048]. */
  constructor(language, { textForm = false } = {}) {
    this.language = language;
    this.textForm = textForm;
  }

  /** The opening control token of the block that is open, or undefined. */
  get open() {
    return this.#block?.control;
  }

  /** How many `[HEAD]` the open block has. */
  get heads() {
    return this.#block ? this.#block.parts.length - 1 : 0;
  }

  text(text) {
    if (this.#block) {
      this.#block.parts[this.#block.parts.length - 1] += text;
      return [];
    }
    return text === '' ? [] : [{ kind: 'text', text }];
  }

  control(control) {
    if (control in OPENING) {
      const before = this.#block ? [this.#close('open_in_block')] : []; // [CML-061]
      this.#block = { control, parts: [''] };
      return before;
    }
    if (!this.#block) return [{ kind: 'stray', control }];
    if (control === 'END') return [this.#close()];
    this.#block.parts.push('');
    return [];
  }

  /** The end of the sequence or of the document [CML-065]. */
  end() {
    return this.#block ? [this.#close('unterminated')] : [];
  }

  #close(ending) {
    const { control, parts } = this.#block;
    const kind = OPENING[control];
    this.#block = null;
    const outcome = kind === 'call' ? { id: readableId(parts), function: '', raw: rawBody(parts) } : {};
    try {
      if (ending) throw new Malformed(ending, ENDINGS[ending]);
      return { kind, ...outcome, ...this.#read(kind, parts) };
    } catch (error) {
      if (!(error instanceof Malformed || error instanceof BodyError)) throw error;
      const more = kind === 'call' ? { ...outcome, faultOfId: error instanceof BadId } : {};
      return { kind: 'malformed', block: kind, error: error.error, message: error.message, ...more };
    }
  }

  /** Judges a block in the order of [CML-067]: its heads, its id, source or condition, its body. */
  #read(kind, parts) {
    if (kind === 'trap') {
      if (parts.length > 1) throw new Malformed('bad_head', 'a trap has no [HEAD]');
      return { ...readTrap(trim(parts[0])), raw: parts[0] };
    }
    if (parts.length > 2) throw new Malformed('bad_head', 'a block has one [HEAD] at most');
    if (kind === 'interrupt') {
      if (parts.length < 2) throw new Malformed('bad_head', 'an interrupt has a [HEAD]');
      return { ...readSource(trim(parts[0])), payload: this.#payload(parts[1]) };
    }
    if (parts.length === 2) checkId(trim(parts[0]));
    return parseBody(this.language, parts.at(-1));
  }

  #payload(text) {
    if (!this.textForm) return text;
    const rest = text.startsWith(' ') ? text.slice(1) : text;
    return rest.endsWith(' ') ? rest.slice(0, -1) : rest;
  }
}

const ENDINGS = {
  open_in_block: 'a control token that opens a block stands inside it; write [END] first',
  unterminated: 'the sequence ended before its [END]',
};

/** The id of a call block, if a valid one can be read [CML-066]. */
function readableId(parts) {
  if (parts.length < 2) return undefined;
  const id = trim(parts[0]);
  return NAME.test(id) && !isReserved(id) ? id : undefined;
}

/** The body as it was written [CALL-008]. */
const rawBody = (parts) => trim(parts.length < 2 ? parts[0] : parts.slice(1).join(' '));

function checkId(id) {
  if (!NAME.test(id)) {
    throw new BadId('bad_id', `${cut(id)} is no id: letters, digits and _ are allowed, 64 at most`);
  }
  if (isReserved(id)) throw new BadId('reserved_id', `${id} is a reserved word and no id`);
}

function readSource(text) {
  const found = SOURCE.exec(text);
  if (!found) throw new Malformed('bad_source', `${cut(text)} is no source`);
  if (isReserved(found[1])) throw new Malformed('reserved_id', `${found[1]} is a reserved word and no id`);
  return { source: found[1], status: found[2] ?? 'ok' };
}

const TRAP_TOKEN = /[ \t\r\n]*([A-Za-z0-9_.]+|.)/gsu;
const SECONDS = /^([0-9]{1,6})(?:\.([0-9]{1,3}))?$/;
const NO_IDS = new Set([undefined, ',', 'all', 'any', 'within']);

/** Reads a condition, without white space around it, from left to right: its first fault names it [CML-068]. */
function readTrap(text) {
  const bad = new Malformed('bad_trap', `${cut(text)} is no condition: [all|any] id, … [within seconds]`);
  const tokens = Array.from(text.matchAll(TRAP_TOKEN), ([, token]) => token);
  const quantifier = tokens[0] === 'all' || tokens[0] === 'any' ? tokens.shift() : undefined;
  const withIds = quantifier === 'any' || (tokens.length > 0 && tokens[0] !== 'within');
  const ids = withIds ? takeIds(tokens, bad) : [];
  const withinMs = takeWithin(tokens, bad);
  if (tokens.length > 0) throw bad;
  return { quantifier: quantifier ?? (ids.length > 0 ? 'all' : undefined), ids, withinMs };
}

function takeIds(tokens, bad) {
  const ids = [];
  do {
    if (ids.length > 0) tokens.shift();
    const id = tokens.shift();
    if (NO_IDS.has(id)) throw bad;
    checkId(id);
    ids.push(id);
  } while (tokens[0] === ',');
  return ids;
}

function takeWithin(tokens, bad) {
  if (tokens[0] !== 'within') return undefined;
  const [, seconds] = tokens.splice(0, 2);
  const found = SECONDS.exec(seconds ?? '');
  if (!found) throw bad;
  return Number(found[1]) * 1000 + Number((found[2] ?? '').padEnd(3, '0')); // [CML-034]
}
