// The two body languages of calls: python_call and json_call.

import { PYTHON_WORDS, ScanError, Scanner } from './json.js';

export const NAME = /^[A-Za-z_][A-Za-z0-9_]{0,63}$/;
const RESERVED = new Set([...Object.keys(PYTHON_WORDS), 'all', 'any', 'within', 'cml']);
const FUNCTION = /[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*/y;
const INDEX = /0|[1-9][0-9]{0,8}/y;

/** Whether a word cannot be the id of a call [CML-012]. */
export const isReserved = (word) => RESERVED.has(word);

/** A body outside its language; `error` is its class in the table of [CML-066]. */
export class BodyError extends Error {
  constructor(error, message) {
    super(message);
    this.error = error;
  }
}

/**
 * Reads a body. Returns `{function, arguments}`; an argument is `{name?, json, string?}` for a literal, or
 * `{name?, ref, path}` for a reference, and has no name where it was given by position.
 */
export function parseBody(language, text) {
  const scanner = new Scanner(text, { python: language === 'python_call' });
  let body;
  try {
    scanner.space();
    body = language === 'python_call' ? pythonCall(scanner) : jsonCall(scanner);
    scanner.space();
    if (!scanner.atEnd()) scanner.fail('text after the call');
  } catch (error) {
    if (error instanceof ScanError) throw new BodyError('bad_body', error.message);
    throw error;
  }
  return checked(body, scanner.repeated);
}

/** The checks that come after parsing. */
function checked(body, repeatedKey) {
  if (repeatedKey !== undefined) {
    throw new BodyError('repeated_argument', `the key ${JSON.stringify(repeatedKey)} stands twice`);
  }
  const names = new Set();
  for (const { name, ref } of body.arguments) {
    if (ref !== undefined && isReserved(ref)) {
      throw new BodyError('reserved_id', `${ref} is a reserved word and no id to refer to`);
    }
    if (name !== undefined && names.has(name)) {
      throw new BodyError('repeated_argument', `the argument ${name} is given twice`);
    }
    names.add(name);
  }
  return body;
}

function pythonCall(scanner) {
  const name = scanner.match(FUNCTION);
  if (!name || !name.split('.').every((part) => NAME.test(part))) scanner.fail('the name of a function is expected');
  const args = [];
  scanner.space();
  scanner.expect('(');
  scanner.space();
  if (!scanner.take(')')) {
    do {
      scanner.space();
      args.push(pythonArgument(scanner, args));
      scanner.space();
    } while (scanner.take(','));
    scanner.expect(')');
  }
  return { function: name, arguments: args };
}

function pythonArgument(scanner, before) {
  const start = scanner.at;
  const name = scanner.word();
  if (name) {
    scanner.space();
    if (scanner.take('=')) {
      if (!NAME.test(name)) scanner.fail('the name of a parameter is longer than 64 characters');
      scanner.space();
      return { name, ...pythonValue(scanner) };
    }
  }
  scanner.at = start;
  if (before.some((argument) => argument.name !== undefined)) {
    scanner.fail('a positional argument after a named one'); // [CML-024]
  }
  return pythonValue(scanner);
}

function pythonValue(scanner) {
  const start = scanner.at;
  const word = scanner.word();
  if (!word) return literal(scanner.value());
  const path = steps(scanner);
  if (path.length > 0 || !Object.hasOwn(PYTHON_WORDS, word)) return reference(scanner, word, path);
  scanner.at = start;
  return literal(scanner.value());
}

const literal = ({ json, kind, string }) => ({ json, string: kind === 'string' ? string : undefined });

function reference(scanner, ref, path) {
  const names = [ref, ...path.filter((step) => 'name' in step).map((step) => step.name)];
  if (!names.every((name) => NAME.test(name))) scanner.fail('a name is longer than 64 characters');
  return { ref, path };
}

/** The steps of a reference, without white space between them [CML-031]. */
function steps(scanner) {
  const path = [];
  for (;;) {
    if (scanner.take('.')) {
      const name = scanner.word();
      if (!name) scanner.fail('a name is expected after the point');
      path.push({ name });
    } else if (scanner.take('[')) {
      const index = scanner.match(INDEX);
      if (index === undefined) scanner.fail('an index is expected');
      scanner.expect(']');
      path.push({ index: Number(index) });
    } else {
      return path;
    }
  }
}

/** Reads a reference that is a whole text: `chair.email`. */
export function parseReference(text) {
  const scanner = new Scanner(text);
  const word = scanner.word();
  if (!word) scanner.fail('a reference is expected');
  const found = reference(scanner, word, steps(scanner));
  if (!scanner.atEnd()) scanner.fail('text after a reference');
  return found;
}

function jsonCall(scanner) {
  if (scanner.next !== '{') scanner.fail('an object is expected');
  const parts = new Map();
  scanner.object((key) => {
    const value = jsonMember(scanner, key);
    parts.set(key, value);
    return [key, value];
  });
  if (!parts.has('name')) scanner.fail('the member "name" is missing');
  const literals = (parts.get('arguments')?.members ?? []).map(([name, value]) => ({ name, ...literal(value) }));
  const references = (parts.get('refs')?.members ?? []).map(([name, { string }]) => ({
    name,
    ...parseReference(string),
  }));
  return { function: parts.get('name').string, arguments: [...literals, ...references] };
}

function jsonMember(scanner, key) {
  if (key === 'name') {
    if (scanner.next !== '"') scanner.fail('"name" is a string');
    return scanner.value();
  }
  if (key !== 'arguments' && key !== 'refs') scanner.fail(`${JSON.stringify(key)} is no member of a call`);
  if (scanner.next !== '{') scanner.fail(`"${key}" is an object`);
  return scanner.object((name) => {
    const value = scanner.value();
    if (key === 'refs' && value.kind !== 'string') scanner.fail('a reference is a string');
    return [name, value];
  });
}
