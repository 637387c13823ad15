// JSON schemas (draft 2020-12) of tools: what is refused at Start, and the check of arguments.

import { Ajv2020 } from 'ajv/dist/2020.js';
import { RE2JS } from 're2js';
import { cut } from './errors.js';
import { readJson } from './json.js';

const DRAFT = /^https:\/\/json-schema\.org\/draft\/2020-12\/schema#?$/;
const NOT_SCHEMAS = new Set(['const', 'enum', 'default', 'examples', 'x-asynclm-copy']);
const NAMES_TO_SCHEMAS = new Set(['properties', 'patternProperties', '$defs', 'definitions', 'dependentSchemas']);
const COPY = ['request', 'results', 'any'];

const metaschema = new Ajv2020({ strict: false, validateFormats: false });

/** Patterns in a syntax without look-around and back-references, searched in linear time [CALL-093]. */
function linearPattern(pattern) {
  const compiled = RE2JS.compile(RE2JS.translateRegExp(pattern));
  return { test: (text) => compiled.matcher(text).find() };
}
linearPattern.code = 'linearPattern';

const OPTIONS = {
  strict: false,
  validateFormats: false,
  validateSchema: false,
  meta: false,
  code: { regExp: linearPattern },
};

/** A schema that is refused; `path` is where in it. */
export class SchemaError extends Error {
  constructor(path, message) {
    super(`${path || '/'} ${message}`);
  }
}

/** Every schema in a schema, with its path. */
function* subschemas(schema, path = '') {
  if (typeof schema !== 'object' || schema === null) return;
  yield [schema, path];
  for (const [key, value] of Object.entries(schema)) {
    if (NOT_SCHEMAS.has(key)) continue;
    const named = NAMES_TO_SCHEMAS.has(key) || Array.isArray(value);
    const inner = named && typeof value === 'object' && value !== null ? Object.entries(value) : [[undefined, value]];
    for (const [name, sub] of inner)
      yield* subschemas(sub, name === undefined ? `${path}/${key}` : `${path}/${key}/${name}`);
  }
}

function pointed(schema, pointer) {
  const keys = decodeURIComponent(pointer).split('/').slice(1);
  return keys.reduce((value, key) => {
    const name = key.replaceAll('~1', '/').replaceAll('~0', '~');
    return typeof value === 'object' && value !== null && Object.hasOwn(value, name) ? value[name] : undefined;
  }, schema);
}

function checkReferences(schema) {
  const names = new Set();
  const schemas = new Set();
  for (const [sub] of subschemas(schema)) {
    schemas.add(sub);
    for (const key of ['$anchor', '$dynamicAnchor']) if (typeof sub[key] === 'string') names.add(`#${sub[key]}`);
    if (typeof sub.$id === 'string') names.add(sub.$id);
  }
  for (const [sub, path] of subschemas(schema)) {
    for (const key of ['$ref', '$dynamicRef']) {
      const target = sub[key];
      if (typeof target !== 'string' || target === '#' || names.has(target)) continue;
      const found = target.startsWith('#/') ? pointed(schema, target.slice(1)) : undefined;
      if (typeof found !== 'boolean' && !schemas.has(found))
        throw new SchemaError(`${path}/${key}`, `${cut(target)} leads to no schema inside this one`);
    }
  }
}

function checkPatterns(schema) {
  for (const [sub, path] of subschemas(schema)) {
    const patterns = [
      ...Object.keys(Object(sub.patternProperties)),
      ...(typeof sub.pattern === 'string' ? [sub.pattern] : []),
    ];
    for (const pattern of patterns) {
      try {
        linearPattern(pattern);
      } catch (error) {
        const message = `${cut(pattern)} is no pattern without look-around and back-references: ${error.message}`;
        throw new SchemaError(`${path}/pattern`, message);
      }
    }
  }
}

/** Which parameters are copied, and from where [CALL-100]. */
function readCopies(schema) {
  const copies = new Map();
  for (const [sub, path] of subschemas(schema)) {
    if (!Object.hasOwn(sub, 'x-asynclm-copy')) continue;
    const parameter = Object.entries(Object(schema.properties)).find(([, value]) => value === sub)?.[0];
    const from = sub['x-asynclm-copy'];
    if (!COPY.includes(from))
      throw new SchemaError(path, `x-asynclm-copy is ${cut(JSON.stringify(from))}, not ${COPY.join(', ')}`);
    if (parameter === undefined || sub.type !== 'string') {
      throw new SchemaError(path, 'x-asynclm-copy stands elsewhere than in the schema of a parameter of type string');
    }
    copies.set(parameter, from);
  }
  return copies;
}

/**
 * Reads the schema of a tool's arguments. Returns `{parameters, copies, check}`; `check` takes arguments as an object
 * and returns what is wrong with them, or undefined.
 */
export function compileSchema(text) {
  try {
    readJson(text); // For the depth of it [LIM-007].
  } catch (error) {
    throw new SchemaError('', `is no JSON text of at most 64 levels: ${error.message}`);
  }
  const schema = JSON.parse(text);
  if (Object(schema) !== schema || Array.isArray(schema) || (schema.type ?? 'object') !== 'object') {
    throw new SchemaError('', 'is no schema of an object: {"type": "object", …} is expected');
  }
  if (schema.$schema !== undefined && !DRAFT.test(schema.$schema)) {
    throw new SchemaError('/$schema', `${cut(String(schema.$schema))} is not draft 2020-12`);
  }
  const { $schema: _, ...given } = schema;
  const bare = { type: 'object', ...given }; // [CALL-095]
  if (!metaschema.validateSchema(bare)) {
    const [{ instancePath, message }] = metaschema.errors;
    throw new SchemaError(instancePath, message);
  }
  checkReferences(bare);
  checkPatterns(bare);
  const copies = readCopies(bare);
  return { parameters: Object.keys(bare.properties ?? {}), copies, check: checker(bare) };
}

function checker(schema) {
  let validate;
  try {
    validate = new Ajv2020(OPTIONS).compile(schema);
  } catch (error) {
    throw new SchemaError('', error.message);
  }
  return (value) => (validate(value) ? undefined : complaint(validate.errors[0]));
}

/** Names the argument and what its schema allows [ERR-030]. */
function complaint({ instancePath, keyword, message, params }) {
  const [, name, ...rest] = instancePath.split('/');
  const where = name === undefined ? '' : `argument ${name}${rest.length > 0 ? ` at /${rest.join('/')}` : ''} `;
  if (keyword === 'enum') return `${where}must be one of ${cut(JSON.stringify(params.allowedValues), 200)}`;
  if (keyword === 'const') return `${where}must be ${cut(JSON.stringify(params.allowedValue), 200)}`;
  if (keyword === 'additionalProperties') return `${where}must not have ${cut(params.additionalProperty)}`;
  return `${where}${message}`;
}
