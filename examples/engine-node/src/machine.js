// The session machine: one input at a time, its effects in order. It knows no wire and no event loop.

import { CopySources } from './copies.js';
import { Calls } from './calls.js';
import { EOS, controlOf } from './bytes.js';
import { Effects } from './effects.js';
import { receive } from './inbox.js';
import { callRow, interruptRow } from './ledger.js';
import { forbids } from './masks.js';
import { Queue } from './queue.js';
import { TokenReader } from './reader.js';
import { Waits } from './waits.js';

const CANCELLING = new Set(['ABORTED', 'DISCONNECTED', 'DRAINED']); // [SES-072]
const OPEN_STATES = { CALL: 'IN_CALL', TRAP: 'IN_TRAP' };

/**
 * `settings` is what Start said (src/start.js), `script` where the tokens come from, `send` takes the server's events.
 * Every method that is named after an input applies it wholly and sends its effects [SES-005].
 */
export class Machine {
  /** RUNNING, TRAPPED, DRAINING, IDLE or FINISHED; `state` tells RUNNING more finely. */
  phase = 'RUNNING';
  paused = false;
  halfClosed = false;
  sampled = 0;
  injected = 0;
  newTokens = 0; // Sampled since the start, or under KEEP since the last wake.
  finished = undefined;

  #script;
  #probes = [];
  #resumed = false; // A wait is over, and its commit has not come yet.
  #stopIdleTimer = undefined;
  #timings = { first_token_ms: undefined, suspended_ms: 0 };
  #suspendedAt = 0;

  constructor({ settings, promptTokens, script, clock, send }) {
    this.settings = settings;
    this.limits = settings.limits;
    this.credit = settings.credit; // undefined: unlimited
    this.promptTokens = promptTokens;
    this.clock = clock;
    this.effects = new Effects(clock, send);
    this.queue = new Queue(this);
    this.calls = new Calls(this);
    this.waits = new Waits(this);
    this.copies = new CopySources(settings.requestTexts, settings.tools);
    this.reader = new TokenReader(this);
    this.#script = script;
  }

  // --- What it is ---------------------------------------------------------------------------------------------------

  /** The index of the next stream token [SES-003]. */
  get tokenIndex() {
    return this.sampled + this.injected;
  }

  get contextSize() {
    return this.promptTokens + this.tokenIndex;
  }

  get state() {
    if (this.phase !== 'RUNNING') return this.phase;
    if (this.reader.parser.open) return OPEN_STATES[this.reader.parser.open];
    return this.reader.text.unfinished ? 'IN_TEXT_SEQUENCE' : 'DECODING';
  }

  /** Whether the session waits for an interrupt. */
  get isWaiting() {
    return this.phase === 'TRAPPED' || this.phase === 'DRAINING' || this.phase === 'IDLE';
  }

  /** Whether a decode step can run [SES-021] [INT-056]. */
  get canStep() {
    const held = this.#resumed && this.queue.gathers;
    return this.phase === 'RUNNING' && !this.paused && this.credit !== 0 && !held;
  }

  get usage() {
    const { promptTokens, sampled, injected } = this;
    return { prompt_tokens: promptTokens, cached_tokens: 0, sampled_tokens: sampled, injected_tokens: injected };
  }

  /** The ledger so far. */
  get rows() {
    return {
      calls: this.calls.all.map((call) => call.row ?? callRow(call)),
      interrupts: this.queue.accepted.map(interruptRow),
    };
  }

  // --- Inputs -------------------------------------------------------------------------------------------------------

  /** Applies one input and sends its effects. Timers of the parts come in here, too. */
  input(apply) {
    if (this.phase === 'FINISHED') return;
    try {
      apply();
      this.#testEnds();
    } catch (error) {
      console.error('engine error:', error);
      this.finish('ENGINE_ERROR', { message: 'a fault of the engine; the log of the server has it' }); // [ERR-008]
    }
    this.#afterInput();
    this.effects.flush();
  }

  start(started) {
    this.input(() => this.effects.add('accepted', { started }));
  }

  interrupt(event, clientSeq) {
    this.input(() => receive(this, event, clientSeq));
  }

  cancelCall({ id, index }, clientSeq) {
    const call = id === undefined ? this.calls.all[index] : this.calls.find(id);
    this.input(() => this.calls.cancel(call, 'CLIENT', { clientSeq }));
  }

  grant(tokens) {
    this.input(() => {
      this.credit += tokens;
    });
  }

  pause(paused) {
    this.input(() => {
      this.paused = paused;
    });
  }

  probe(nonce) {
    this.input(() => this.#probes.push(nonce));
  }

  halfClose() {
    this.input(() => {
      this.halfClosed = true;
      this.calls.halfClose();
    });
  }

  /** Ends the session in any state, before its next step [SES-070]. */
  end(reason, options) {
    this.input(() => this.finish(reason, options));
  }

  /** One decode step, with the safe point before it. Called only while `canStep`. */
  step() {
    if (this.state === 'DECODING' && this.#mayCommit()) {
      this.input(() => this.#commit());
      if (!this.canStep) return;
    }
    if (this.contextSize < this.limits.context_length) this.#sample();
    else this.end('CONTEXT_FULL', { message: 'the context has no room for another token' }); // [SES-068]
  }

  // --- Safe points --------------------------------------------------------------------------------------------------

  #mayCommit() {
    const { granularity, granularityHold } = this.settings;
    const { oldest } = this.queue;
    if (!oldest || this.queue.gathers) return false;
    const overdue = this.sampled - oldest.sampledBefore >= granularityHold; // [INT-052]
    return overdue || !this.reader.text.holds(granularity);
  }

  #commit() {
    this.#resumed = false;
    const whole = this.queue.commit();
    this.reader.text.boundary(); // [INT-055]
    if (!whole) this.finish('CONTEXT_FULL', { message: 'an interrupt does not fit into the context' });
  }

  // --- Tokens -------------------------------------------------------------------------------------------------------

  /** Samples what the script wants, as far as the mask allows it [SCR-006]. */
  #sample() {
    for (;;) {
      const wanted = this.#script.peek((id) => this.#payloadOf(id));
      if (wanted.failure) return this.end('SCRIPT_END', { message: wanted.failure });
      if (!this.#forbids(wanted.id)) {
        this.#script.take();
        return this.input(() => this.#token(wanted.id));
      }
      if (wanted.exhausted)
        return this.end('SCRIPT_END', { message: 'the script ran out where end of sequence is masked' });
      this.#script.skipStep();
      const name = controlOf(wanted.id) ?? (wanted.id === EOS ? 'end of sequence' : 'text');
      this.input(() => this.notice('MASKED', `the mask forbids ${name} here`));
      if (!this.canStep) return undefined;
    }
  }

  #payloadOf(id) {
    const call = this.calls.find(id);
    return call?.status === 'ok' ? call.payload : undefined;
  }

  #forbids(id) {
    const { constraints, gateEnd } = this.settings;
    const pending = this.calls.pending.length > 0;
    return forbids(id, { constraints, gateEnd, pending, ...this.reader.place });
  }

  #token(id) {
    this.#resumed = false;
    this.sampled += 1;
    this.newTokens += 1;
    if (this.credit !== undefined) this.credit -= 1;
    this.#timings.first_token_ms ??= this.clock.now;
    this.reader.read(id, this.newTokens >= this.limits.max_new_tokens);
  }

  // --- States -------------------------------------------------------------------------------------------------------

  notice(code, message) {
    this.effects.add('notice', { notice: { code: `NOTICE_CODE_${code}`, message } });
  }

  /** Begins a wait. */
  enter(phase) {
    this.phase = phase;
    this.#suspendedAt = this.clock.now;
  }

  /** A wait is over, or was none. */
  resume() {
    if (this.isWaiting) this.#timings.suspended_ms += this.clock.now - this.#suspendedAt;
    this.phase = 'RUNNING';
    this.#resumed = true;
  }

  /** Ends the session; part of an input, see `end`. */
  finish(reason, { message = '', stopString, cancelPending } = {}) {
    if (this.phase === 'FINISHED') return;
    this.reader.giveUp();
    if (this.reader.parser.open) this.notice('INCOMPLETE_BLOCK', 'the session ended inside a block, which is not run');
    if (this.isWaiting) this.resume();
    this.phase = 'FINISHED';
    for (const entry of this.queue.waiting) {
      entry.delivery = 'UNDELIVERED';
      entry.reason = undelivered(reason, entry);
    }
    const cancel = cancelPending ?? (this.settings.onEnd === 'CANCEL' || CANCELLING.has(reason));
    this.calls.leave({ cancel, origin: reason === 'DISCONNECTED' ? 'DISCONNECT' : 'END' });
    this.queue.stop();
    this.finished = {
      reason: `FINISH_REASON_${reason}`,
      message,
      usage: this.usage,
      ...this.rows,
      timings: { ...this.#timings, total_ms: this.clock.now },
      stop_string: stopString,
    };
  }

  #afterInput() {
    if (this.phase === 'FINISHED' || this.credit === undefined || !this.canStep) this.#answerProbes();
    if (this.phase === 'FINISHED') this.effects.add('finished', { finished: this.finished });
    this.#watchIdleTime();
  }

  #testEnds() {
    this.waits.test();
    if (!this.halfClosed) return;
    if (this.phase === 'IDLE')
      this.finish('STOP'); // [SES-084]
    else if (this.paused || this.credit === 0) this.finish('FINISHED_BY_CLIENT'); // [SES-085]
  }

  #answerProbes() {
    for (const nonce of this.#probes.splice(0)) {
      const { credit, paused } = this;
      const unresolved = this.calls.unresolved.map((call) => call.id);
      const probed = {
        nonce,
        state: `STATE_${this.state}`,
        credit,
        paused,
        queued: this.queue.waiting.length,
        unresolved,
      };
      this.effects.add('probed', { probed });
    }
  }

  /** IDLE, without credit or paused: not longer than `max_idle_time` without a break [SES-080]. */
  #watchIdleTime() {
    const resting = this.phase === 'IDLE' || (this.phase !== 'FINISHED' && (this.paused || this.credit === 0));
    if (resting === (this.#stopIdleTimer !== undefined)) return;
    if (resting) {
      this.#stopIdleTimer = this.clock.after(this.limits.max_idle_time_ms, () => this.end('IDLE_TIMEOUT'));
    } else {
      this.#stopIdleTimer();
      this.#stopIdleTimer = undefined;
    }
  }
}

/** Why an interrupt is not delivered when its session ends [SES-097]. */
function undelivered(reason, { scheduling }) {
  if (reason === 'CONTEXT_FULL') return reason;
  return reason === 'STOP' && scheduling === 'SILENT' ? 'SILENT_AT_END' : 'SESSION_FINISHED';
}
