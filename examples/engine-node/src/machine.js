// The session machine: one input at a time, its effects in order. It knows no wire and no event loop.

import { CopySources } from './copies.js';
import { Calls } from './calls.js';
import { EOS, controlOf } from './bytes.js';
import { Effects } from './effects.js';
import { receive } from './inbox.js';
import { callRow, interruptRow } from './ledger.js';
import { forbids } from './masks.js';
import { Parser } from './parser.js';
import { Queue } from './queue.js';
import { StreamText } from './text.js';
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
  #onlyEnd = false; // The open block is over its limit.
  #blockTokens = 0;
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
    this.copies = new CopySources(settings.requestTexts);
    this.text = new StreamText(settings.stop);
    this.parser = new Parser(settings.bodyLanguage);
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
    if (this.parser.open) return OPEN_STATES[this.parser.open];
    return this.text.unfinished ? 'IN_TEXT_SEQUENCE' : 'DECODING';
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
    return { calls: this.calls.all.map((call) => call.row ?? callRow(call)), interrupts: this.queue.accepted.map(interruptRow) };
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
    this.#sample();
  }

  // --- Safe points --------------------------------------------------------------------------------------------------

  #mayCommit() {
    const { granularity, granularityHold } = this.settings;
    const { oldest } = this.queue;
    if (!oldest || this.queue.gathers) return false;
    const overdue = this.sampled - oldest.sampledBefore >= granularityHold; // [INT-052]
    return overdue || !this.text.holds(granularity);
  }

  #commit() {
    this.#resumed = false;
    const whole = this.queue.commit();
    this.text.boundary(); // [INT-055]
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
    const { open, heads } = this.parser;
    const place = { constraints, gateEnd, open, heads, onlyEnd: this.#onlyEnd };
    return forbids(id, { ...place, pending: this.calls.pending.length > 0 });
  }

  #token(id) {
    this.#resumed = false;
    this.sampled += 1;
    this.newTokens += 1;
    if (this.credit !== undefined) this.credit -= 1;
    this.#timings.first_token_ms ??= this.clock.now;
    const limited = this.newTokens >= this.limits.max_new_tokens;
    const control = controlOf(id);
    if (control) this.#control(id, control, limited);
    else if (id === EOS) this.#endOfSequence(limited);
    else this.#byte(id, limited);
  }

  #tokens(id, text, inBlock, more = {}) {
    const block = inBlock && `CONTROL_TOKEN_${inBlock}`;
    this.effects.add('tokens', { tokens: { ids: [id], text, in_block: block, ...more } }, 1);
  }

  #byte(id, limited) {
    const inBlock = this.parser.open;
    if (inBlock) {
      const text = this.text.inside(id);
      this.parser.text(text);
      this.#tokens(id, text, inBlock);
      this.#goOn({ limited });
      return;
    }
    const { text, stop } = this.text.outside(id);
    const last = limited && stop === undefined ? this.text.flush() : ''; // Nothing comes that could complete it.
    this.#tokens(id, text + last, inBlock);
    if (stop === undefined) this.#goOn({ limited });
    else if (this.settings.onEnd === 'KEEP')
      this.waits.rest('a stop string was written', { limited, stopString: stop });
    else this.finish('STOP_STRING', { stopString: stop }); // [SES-103] [SES-105]
  }

  #control(id, control, limited) {
    const inBlock = this.parser.open;
    const text = this.text.flush();
    this.parser.text(inBlock ? text : '');
    this.#tokens(id, text, inBlock, { control: `CONTROL_TOKEN_${control}` });
    const blocks = this.parser.control(control);
    if (this.parser.open !== inBlock || blocks.length > 0) this.#blockTokens = -1;
    if (inBlock && blocks.length > 0) this.#onlyEnd = false;
    if (inBlock && !this.parser.open) this.text.boundary(); // [INT-050]
    const [trap] = blocks.map((block) => this.#block(block, control === 'END')).filter(Boolean);
    this.#goOn({ limited, trap });
  }

  /** A block has closed, or a token is stray. Returns the trap that begins with it, as arguments of `enterTrap`. */
  #block(block, ended) {
    if (block.kind === 'stray') {
      this.notice('STRAY', `[${block.control}] stands outside a block and is dropped`); // [CML-063]
      return undefined;
    }
    if (block.kind === 'trap') return [block];
    if (block.block === 'trap') {
      this.waits.refuseTrap(block.message);
      return undefined;
    }
    const { id } = this.calls.emit(block);
    const implied = ended && id !== undefined && this.settings.mode === 'SYNC';
    return implied ? [{ quantifier: 'all', ids: [id] }, { implicit: true }] : undefined;
  }

  #endOfSequence(limited) {
    const inBlock = this.parser.open;
    const text = this.text.flush();
    this.parser.text(inBlock ? text : '');
    this.#tokens(EOS, text, inBlock, { end_of_sequence: true });
    for (const block of this.parser.end()) this.#block(block, false); // [ERR-021]
    this.#onlyEnd = false;
    this.waits.rest('end of sequence', { limited });
  }

  /** What follows a token: the limit of tokens, a trap, the limit of a block. */
  #goOn({ limited, trap }) {
    if (limited && this.settings.onEnd === 'KEEP' && !this.parser.open) {
      this.waits.rest('max_new_tokens'); // [SES-077]
    } else if (limited) {
      this.finish('LENGTH', { message: 'max_new_tokens' });
    } else if (trap) {
      this.waits.enterTrap(...trap);
    } else if (this.parser.open) {
      this.#blockTokens += 1;
      if (this.#blockTokens < this.limits.max_block_tokens || this.#onlyEnd) return;
      this.#onlyEnd = true;
      this.notice('BLOCK_LIMIT', `a block has ${this.#blockTokens} tokens; only [END] can follow`); // [SES-078]
    }
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

  /** Ends the session; part of an input, see `end`. `undelivered` is why queued interrupts are, if not the end itself. */
  finish(reason, { message = '', stopString, cancelPending, undelivered = 'SESSION_FINISHED' } = {}) {
    if (this.phase === 'FINISHED') return;
    if (this.parser.open) this.notice('INCOMPLETE_BLOCK', 'the session ended inside a block, which is not run');
    if (this.isWaiting) this.resume();
    this.phase = 'FINISHED';
    for (const entry of this.queue.waiting) {
      entry.delivery = 'UNDELIVERED';
      if (entry.reason === 'UNSPECIFIED') entry.reason = undelivered;
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
    if (this.phase === 'RUNNING' && this.contextSize >= this.limits.context_length) {
      this.finish('CONTEXT_FULL', { message: 'the context has no room for another token' }); // [SES-075]
    }
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
