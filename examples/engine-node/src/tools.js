// Tool declarations of a Start, checked and ready for calls.

import { NAME } from './body.js';
import { badTool, cut } from './errors.js';
import { SchemaError, compileSchema } from './schema.js';

const NO_PARAMETERS = '{"type":"object","additionalProperties":false}';

/** The function that every session offers the model [CALL-078]. It is answered by the engine, not by a host. */
export const CANCEL = 'cml.cancel';

/**
 * Reads the tools of a session. Returns a map from names to `{name, order, copies, check, timeoutMs, cancellable,
 * idempotent, sideEffects}`.
 */
export function readTools(specs, bodyLanguage, promptIsIds) {
  const tools = new Map();
  specs.forEach((spec, i) => {
    const field = `tools[${i}]`;
    checkName(spec.name, bodyLanguage, `${field}.name`);
    if (tools.has(spec.name)) throw badTool(`${field}.name`, `${cut(spec.name)} is declared twice`); // [CALL-090]
    tools.set(spec.name, readTool(spec, bodyLanguage, promptIsIds, field));
  });
  return tools;
}

function checkName(name, bodyLanguage, field) {
  if (name === '') throw badTool(field, 'a tool has a name');
  if (name === 'cml' || name.startsWith('cml.')) throw badTool(field, `${cut(name)} is reserved`); // [CML-013]
  if (bodyLanguage === 'python_call' && !name.split('.').every((part) => NAME.test(part))) {
    throw badTool(field, `${cut(name)} is not NAMEs joined by points, each ${NAME.source}`); // [CML-014]
  }
}

function readTool(spec, bodyLanguage, promptIsIds, field) {
  const { parameters, copies, check } = compiled(spec, `${field}.parameters_json`);
  if (bodyLanguage === 'python_call') {
    const odd = parameters.find((name) => !NAME.test(name));
    if (odd !== undefined) throw badTool(`${field}.parameters_json`, `the parameter ${cut(odd)} is not ${NAME.source}`);
  }
  spec.parameter_order.forEach((name, i) => {
    const at = `${field}.parameter_order[${i}]`;
    if (!parameters.includes(name))
      throw badTool(at, `${cut(name)} is no parameter; there are ${cut(parameters.join(', '))}`);
    if (spec.parameter_order.indexOf(name) !== i) throw badTool(at, `${cut(name)} stands twice`);
  });
  if (promptIsIds && [...copies.values()].some((from) => from !== 'results')) {
    throw badTool(`${field}.parameters_json`, 'a tool cannot copy from the request beside prompt_ids'); // [CALL-105]
  }
  return {
    name: spec.name,
    order: spec.parameter_order,
    copies,
    check,
    timeoutMs: positive(spec.timeout_ms, `${field}.timeout_ms`),
    expectedMs: notNegative(spec.expected_duration_ms, `${field}.expected_duration_ms`),
    cancellable: spec.cancellable ?? true,
    idempotent: spec.idempotent ?? false,
    sideEffects: sideEffects(spec.side_effects, `${field}.side_effects`),
  };
}

function compiled(spec, field) {
  try {
    return compileSchema(spec.parameters_json ?? NO_PARAMETERS);
  } catch (error) {
    if (error instanceof SchemaError) throw badTool(field, `of ${cut(spec.name)}: ${error.message}`);
    throw error;
  }
}

function positive(value, field) {
  if (value <= 0 && value !== null) throw badTool(field, `${value} is not positive`);
  return value ?? undefined;
}

function notNegative(value, field) {
  if (value < 0) throw badTool(field, `${value} is negative`);
  return value ?? undefined;
}

function sideEffects(value, field) {
  if (typeof value === 'number') throw badTool(field, `${value} is unknown`);
  return value === 'SIDE_EFFECTS_UNSPECIFIED' ? 'SIDE_EFFECTS_EXTERNAL' : value;
}
