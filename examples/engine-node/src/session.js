// One session: its machine, its decode loop, and the client that listens.

import { binding } from './bytes.js';
import { ManualClock } from './clock.js';
import { fault, unsupported } from './errors.js';
import { cut } from './cut.js';
import { grammarHash } from './grammar.js';
import { CAPABILITIES } from './limits.js';
import { Machine } from './machine.js';
import { buildPrompt } from './prompt.js';
import { ScriptCursor } from './script.js';
import { readStart } from './start.js';

/** The model of this server: it writes what scripts say, and nothing without one. */
export const MODEL = 'scripted';

export class Session {
  clock = new ManualClock();
  startedAt = Date.now() / 1000;

  #out = undefined; // {write(event), end()} of the client that listens.
  #blocked = false; // The client does not read on [WIRE-061].
  #scheduled = false;
  #onFinished;

  constructor(id, start, scripts, onFinished) {
    this.id = id;
    this.model = start.model ?? MODEL;
    this.#onFinished = onFinished;
    const script = new ScriptCursor(findScript(this.model, scripts));
    this.settings = readStart(start);
    const promptTokens = buildPrompt(start, this.settings).length;
    const send = (event) => this.#send(event);
    this.machine = new Machine({ settings: this.settings, promptTokens, script, clock: this.clock, send });
  }

  get running() {
    return this.machine.phase !== 'FINISHED';
  }

  get attached() {
    return this.#out !== undefined;
  }

  /** Answers Start and begins to decode. */
  begin(out) {
    this.#out = out;
    this.#apply(() => this.machine.start(this.#started()));
  }

  /** Applies a client event by calling a method of the machine; then decodes on. */
  apply(method, ...args) {
    this.#apply(() => this.machine[method](...args));
  }

  end(reason, options) {
    this.apply('end', reason, options);
  }

  /** Moves the clock on; what is due has happened when this returns [SCR-023]. */
  advance(ms) {
    this.#apply(() => this.clock.advance(ms));
  }

  /** The client is gone [WIRE-016] to [WIRE-018]; nobody can come back to the session [WIRE-025]. */
  drop() {
    this.#out = undefined;
    this.#blocked = false;
    if (this.settings.onDisconnect === 'DETACH') this.apply('halfClose');
    else this.end('DISCONNECTED');
  }

  /** The client reads on. */
  drained() {
    this.#blocked = false;
    this.#schedule();
  }

  #apply(input) {
    if (!this.running) return;
    input();
    this.#schedule();
  }

  /** One decode step for each turn of the event loop, so that what has arrived is taken in before it [INT-006]. */
  #schedule() {
    if (this.#scheduled || this.#blocked || !this.machine.canStep) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      if (!this.#blocked && this.machine.canStep) this.machine.step();
      this.#schedule();
    });
  }

  #send(event) {
    if (this.#out && !this.#out.write(event)) this.#blocked = true;
    if (!event.finished) return;
    this.#out?.end(); // [WIRE-015]
    this.#out = undefined;
    queueMicrotask(this.#onFinished);
  }

  #started() {
    const { settings, machine } = this;
    return {
      session_id: this.id,
      model: this.model,
      capabilities: CAPABILITIES,
      binding,
      grammar_hash: grammarHash,
      prompt_tokens: machine.promptTokens,
      limits: settings.limits,
      unit: 'UNIT_TOKEN',
      tools: [...settings.tools.keys()].map((name) => ({ name, client_owned: true })),
      mode: `EXECUTION_MODE_${settings.mode}`,
      on_end: `ON_END_${settings.onEnd}`,
      on_disconnect: `ON_DISCONNECT_${settings.onDisconnect}`,
      constraints: `CONSTRAINTS_${settings.constraints}`,
      body_language: `BODY_LANGUAGE_${settings.bodyLanguage.toUpperCase()}`,
      credit: settings.credit,
      delivery: `DELIVERY_POLICY_${settings.delivery}`,
      coalesce_ms: settings.coalesceMs,
    };
  }

  /** The session in one line, for Control. */
  get summary() {
    const { machine } = this;
    return {
      session_id: this.id,
      model: this.model,
      state: `STATE_${machine.state}`,
      attached: this.attached,
      paused: machine.paused,
      started_at: this.startedAt,
      token_index: machine.tokenIndex,
      pending_calls: machine.calls.pending.length,
      labels: this.settings.labels,
      reason: machine.finished?.reason,
    };
  }
}

function findScript(model, scripts) {
  if (model === MODEL) {
    const message = `model: ${MODEL} writes what a script says: load one with LoadScript and start script:<id>`;
    throw fault('NOT_FOUND', 'UNKNOWN_MODEL', message, 'model'); // [WIRE-042]
  }
  if (model.startsWith('script:') && model.endsWith('+weights')) {
    throw unsupported('model', `${cut(model)}: scripts on real weights are not offered (SCRIPTED_WEIGHTS)`);
  }
  const script = model.startsWith('script:') ? scripts.get(model.slice('script:'.length)) : undefined;
  if (!script) {
    const known = cut([MODEL, ...scripts.names().map((name) => `script:${name}`)].join(', '), 400).replaceAll('"', '');
    throw fault('NOT_FOUND', 'UNKNOWN_MODEL', `model: there is no ${cut(model)}; there are ${known}`, 'model');
  }
  return script;
}
