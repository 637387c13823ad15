// The texts of a session that arguments can be copied from.

import { readJson } from './json.js';

export class CopySources {
  #request;
  #results = [];
  #needed;

  /** `request`: the text parts of the user's messages; `tools`: without one that copies, nothing is kept. */
  constructor(request, tools) {
    this.#request = [...request];
    this.#needed = [...tools.values()].some(({ copies }) => copies.size > 0);
  }

  /** An interrupt was committed [CALL-101]. */
  committed({ source, status, payload, call }) {
    if (!this.#needed) return;
    if (source === '@user') this.#request.push(payload);
    if (call?.tool && (status === 'ok' || status === 'partial')) this.#results.push(...texts(readJson(payload)));
  }

  /** Whether a text is a part of one that can be copied from `request`, `results` or `any`. */
  has(from, text) {
    if (!text) return false;
    const within = (sources) => sources.some((source) => source.includes(text));
    return (from !== 'results' && within(this.#request)) || (from !== 'request' && within(this.#results));
  }
}

/** Each string, member name and number of a JSON value. */
function* texts({ kind, json, string, elements = [], members = [] }) {
  if (kind === 'string') yield string;
  if (kind === 'number') yield json;
  for (const element of elements) yield* texts(element);
  for (const [key, value] of members) {
    yield key;
    yield* texts(value);
  }
}
