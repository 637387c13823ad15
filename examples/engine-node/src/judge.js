// The checks of a call at its [END], in the order of [CALL-020], and of its arguments once they are final.

import { cut } from './cut.js';
import { select } from './json.js';
import { CANCEL } from './tools.js';

/** What is wrong with a call: the `type` of its error and the message that the model reads [CALL-062]. */
const failure = (type, message) => ({ failure: { type, message } });

/** The size of a text in UTF-8 [LIM-006]. */
export const bytes = (text) => Buffer.byteLength(text, 'utf8');

/**
 * Judges a block that ended. Returns `{failure}`, or `{tool, args}` with all arguments named; `tool` is undefined for
 * the built-in function. `registry` is `{find(id), pendingBeside(id)}`.
 */
export function judgeBlock(block, { tools, limits, bodyLanguage }, registry) {
  if (block.id !== undefined && registry.find(block.id)) {
    return failure('duplicate_id', `the id ${block.id} is taken by an earlier call; every call needs an id of its own`);
  }
  if (block.kind === 'malformed') {
    if (block.faultOfId) return failure('invalid_id', `${block.message}; write [CALL] id [HEAD] body [END]`);
    return failure('syntax', `${block.message}; a body in ${bodyLanguage} is expected`);
  }
  const builtIn = block.function === CANCEL;
  const tool = tools.get(block.function);
  if (!tool && !builtIn) {
    const names = cut([...tools.keys(), CANCEL].join(', '), 400).replaceAll('"', '');
    return failure('unknown_function', `there is no function ${cut(block.function)}; there are ${names}`);
  }
  const bound = bind(block, builtIn ? ['id'] : tool.order); // [CALL-083]
  if (bound.failure) return bound;
  return judgeBound(block, { tool, args: bound.args }, limits, registry);
}

/** Gives positional arguments their names [CML-025] [CML-026]. */
function bind({ function: name, arguments: given }, order) {
  const args = given.map((argument, i) => ({ ...argument, name: argument.name ?? order[i] }));
  const names = args.map((argument) => argument.name);
  if (names.includes(undefined)) {
    const allowed =
      order.length > 0 ? `${order.length} positional arguments (${order.join(', ')})` : 'arguments by name only';
    return failure('syntax', `${name} takes ${allowed}`);
  }
  const twice = names.find((one, i) => names.indexOf(one) !== i);
  if (twice !== undefined) return failure('syntax', `the argument ${twice} of ${name} is given twice`);
  return { args };
}

function judgeBound(block, call, limits, registry) {
  const { tool, args } = call;
  if (tool && block.id !== undefined && registry.pendingBeside(block.id) >= limits.max_pending_calls) {
    return failure('limit', `${limits.max_pending_calls} calls are pending already; wait for one with [TRAP]`);
  }
  const literals = args.filter((argument) => argument.ref === undefined);
  if (tooLarge(literals, limits)) {
    return failure('limit', `the arguments of ${block.function} are over ${limits.max_argument_bytes} bytes`);
  }
  if (!tool) return call;
  const unknown = args.find(({ ref }) => ref !== undefined && !registry.find(ref));
  if (unknown) return failure('dependency', `${unknown.ref} is the id of no earlier call`);
  return call;
}

const tooLarge = (args, { max_argument_bytes: most }) =>
  args.some(({ json }) => bytes(json) > most) || bytes(objectText(args)) > most;

/** Arguments as the JSON text of one object, each value in its own spelling [CALL-012] [CALL-032]. */
export const objectText = (args) => `{${args.map(({ name, json }) => `${JSON.stringify(name)}:${json}`).join(',')}}`;

/**
 * Puts results in the places of references. `find` gives a call by its id. Returns `{failure}`, `{waits: true}` while a
 * call that is named has no result, or `{args}`.
 */
export function substitute(args, limits, find) {
  const done = [];
  let waits = false;
  for (const argument of args) {
    const call = argument.ref === undefined ? undefined : find(argument.ref);
    if (!call) done.push(argument);
    else if (!call.resolved) waits = true;
    else {
      const value = call.status === 'ok' ? select(call.payload, argument.path) : undefined;
      if (value === undefined) return failure('dependency', lost(argument, call));
      if (bytes(value.json) > limits.max_argument_bytes) return failure('dependency', over(argument, limits));
      done.push({ name: argument.name, ...value, fromHost: call.tool !== undefined });
    }
  }
  if (waits) return { waits };
  return tooLarge(done, limits) ? failure('dependency', over(args.at(-1), limits)) : { args: done };
}

const lost = ({ name, ref }, { status }) =>
  status === 'ok'
    ? `the result of ${ref} has not the part that the argument ${name} asks for`
    : `the argument ${name} needs the result of ${ref}, which ended with ${status}`;

const over = ({ name }, { max_argument_bytes: most }) =>
  `the argument ${name} makes the arguments larger than ${most} bytes`;

/** Checks final arguments against the schema [CALL-021] and as copies [CALL-102]; returns the message of a failure. */
export function checkArguments(tool, args, copies) {
  const wrong = tool.check(JSON.parse(objectText(args)));
  if (wrong) return `${tool.name}: ${wrong}`;
  for (const { name, string, fromHost } of args) {
    const from = tool.copies.get(name);
    if (!from || (fromHost && from !== 'request' && string !== '')) continue; // [CALL-103]
    if (!copies.has(from, string)) {
      return `${tool.name}: the argument ${name} is to be copied letter by letter from ${COPY_SOURCES[from]}`;
    }
  }
  return undefined;
}

const COPY_SOURCES = {
  request: 'what the user wrote',
  results: 'the results of calls',
  any: 'what the user wrote or the results of calls',
};
