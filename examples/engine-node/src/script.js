// Scripts: what a scripted model wants to write, and a session's place in one.

import { EOS, controlId, encode } from './bytes.js';
import { parseReference } from './body.js';
import { badField, cut, fault, unsupported } from './errors.js';
import { select } from './json.js';
import { SERVER_LIMITS } from './limits.js';

const ID = /^[A-Za-z0-9_.-]{1,128}$/;

/** The scripts of a server, by id. */
export class Scripts {
  #scripts = new Map();

  /** Loads a script [SCR-009]; returns the number of ids of each step [SCR-003]. */
  load({ id, steps }) {
    if (!ID.test(id)) throw badField('id', `${cut(id)} is not 1 to 128 letters, digits, _, - and .`);
    const { max_script_steps: longest, max_scripts: most } = SERVER_LIMITS;
    if (steps.length > longest) throw badField('steps', `${steps.length} steps; ${longest} are allowed`);
    if (!this.#scripts.has(id) && this.#scripts.size >= most) {
      throw fault('RESOURCE_EXHAUSTED', 'TOO_MANY_SCRIPTS', `${most} scripts are loaded`);
    }
    const script = steps.map((step, i) => readStep(step, `steps[${i}]`));
    this.#scripts.set(id, script);
    return script.map((step) => step.ids?.length ?? 0);
  }

  get(id) {
    return this.#scripts.get(id);
  }

  names() {
    return [...this.#scripts.keys()];
  }

  clear() {
    this.#scripts.clear();
  }
}

function readStep(step, field) {
  switch (step.step) {
    case 'text':
      return { ids: encode(step.text) };
    case 'control': {
      const name = String(step.control).replace('CONTROL_TOKEN_', '');
      if (typeof step.control === 'number' || name === 'UNSPECIFIED') {
        throw badField(`${field}.control`, `${step.control} is no control token`);
      }
      return { ids: [controlId(name)] };
    }
    case 'end_of_sequence':
      return { ids: [EOS] };
    case 'copy':
      return { copy: readReference(step.copy.reference, `${field}.copy.reference`), inString: step.copy.in_string };
    case 'sample':
    case 'release':
      throw unsupported(`${field}.${step.step}`, 'there is no model here that samples by itself (SCRIPTED_WEIGHTS)');
    default:
      throw badField(field, 'a step has one of text, control, end_of_sequence and copy');
  }
}

function readReference(text, field) {
  try {
    return parseReference(text);
  } catch (error) {
    throw badField(field, `${cut(text)} is no reference: ${error.message}`);
  }
}

/** A session's place in its script. */
export class ScriptCursor {
  #steps;
  #at = 0;
  #ids = undefined; // What is left of the step in progress.

  constructor(steps) {
    this.#steps = steps;
  }

  /** The id that is wanted next, as `{id}`; `{id, exhausted: true}` once the script has run out; `{failure}` for a copy
   * of a value that is not there [SCR-032]. `payloadOf` gives the terminal payload of a call that ended well. */
  peek(payloadOf) {
    while (this.#ids === undefined || this.#ids.length === 0) {
      if (this.#ids !== undefined) this.skipStep();
      const step = this.#steps[this.#at];
      if (step === undefined) return { id: EOS, exhausted: true }; // [SCR-007]
      const ids = step.ids ?? copied(step, payloadOf);
      if (ids === undefined) return { failure: `there is no value of ${step.copy.ref} to copy` };
      this.#ids = [...ids];
    }
    return { id: this.#ids[0] };
  }

  /** The wanted id has been sampled. */
  take() {
    this.#ids?.shift();
  }

  /** Gives up what is left of the step [SCR-006]. */
  skipStep() {
    this.#at += 1;
    this.#ids = undefined;
  }
}

function copied({ copy, inString }, payloadOf) {
  const payload = payloadOf(copy.ref);
  const value = payload === undefined ? undefined : select(payload, copy.path);
  if (value === undefined) return undefined;
  return encode(inString ? JSON.stringify(value.string ?? value.json).slice(1, -1) : value.json);
}
