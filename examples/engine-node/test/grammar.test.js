// The cases of grammar/cases: trees, classes of errors, and the layer of escapes.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import yaml from 'yaml';
import { Unescaper, unescapeAll } from '../src/escape.js';
import { Parser } from '../src/parser.js';

const CASES = new URL('../../../grammar/cases/', import.meta.url);
const load = (name) => yaml.parse(readFileSync(new URL(`${name}.yaml`, CASES), 'utf8')).groups.flatMap((g) => g.cases);
const cases = ['accept', 'incomplete', 'reject'].flatMap(load);

const items = (input) => input.map((item) => (typeof item === 'string' ? item : { control: item[0] }));
const plain = (found) => found.map((item) => (typeof item === 'string' ? item : [item.control]));
const STRAY = 'stray';

function parse(parts, language, textForm) {
  const parser = new Parser(language, { textForm });
  const found = parts.flatMap((item) => (typeof item === 'string' ? parser.text(item) : parser.control(item.control)));
  return [...found, ...parser.end()];
}

function argument({ name, json, ref, path }) {
  const steps = path?.map((step) => step.index ?? step.name) ?? [];
  return { ...(name !== undefined && { name }), ...(ref ? { ref, ...(steps.length && { path: steps }) } : { json }) };
}

const TREES = {
  text: ({ text }) => ({ text }),
  call: ({ id, function: name, arguments: args }) => ({
    call: { ...(id && { id }), function: name, ...(args.length && { arguments: args.map(argument) }) },
  }),
  interrupt: ({ source, status, payload }) => ({ interrupt: { source, ...(status !== 'ok' && { status }), payload } }),
  trap: ({ quantifier, ids, withinMs }) => ({
    trap: {
      ...(quantifier && { quantifier }),
      ...(ids.length && { ids }),
      ...(withinMs !== undefined && { within_ms: withinMs }),
    },
  }),
};

function outcome(blocks) {
  const wrong = blocks.find((block) => block.kind === 'malformed' || block.kind === 'stray');
  if (wrong) return { error: wrong.error ?? STRAY };
  const tree = [];
  for (const block of blocks) {
    const last = tree.at(-1);
    if (block.kind === 'text' && last?.text !== undefined) last.text += block.text;
    else tree.push(TREES[block.kind](block));
  }
  return { tree };
}

const FORMS = { text: ['text'], token: ['token'], both: ['text', 'token'] };

for (const { id, form, layer, language = 'python_call', input, ...want } of cases) {
  if (layer === 'escape') {
    test(`escape: ${id}`, () => {
      const unescaper = new Unescaper();
      const found = plain(unescaper.push(input));
      if (want.held !== undefined) assert.deepEqual([found, unescaper.held], [want.items, want.held]);
      else assert.deepEqual(plain(unescapeAll(input)), want.items);
    });
    test(`escape by characters: ${id}`, () => {
      const unescaper = new Unescaper();
      const found = [...input].flatMap((character) => unescaper.push(character));
      if (want.held === undefined) found.push(...unescaper.end());
      const texts = plain(found).reduce(
        (all, item) =>
          typeof item === 'string' && typeof all.at(-1) === 'string'
            ? [...all.slice(0, -1), all.at(-1) + item]
            : [...all, item],
        [],
      );
      assert.deepEqual(texts, want.items);
    });
    continue;
  }
  for (const as of FORMS[form]) {
    test(`${layer}: ${id} (${as})`, () => {
      const parts = typeof input === 'string' ? unescapeAll(input) : items(input);
      const found = outcome(parse(parts, language, as === 'text'));
      assert.deepEqual(found, want.tree ? { tree: want.tree } : { error: want.error });
    });
  }
}
