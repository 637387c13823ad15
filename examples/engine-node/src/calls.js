// The calls of a session: emitted, held, dispatched, resolved, settled; each exactly once.

import { checkArguments, judgeBlock, objectText, substitute } from './judge.js';
import { callRow } from './ledger.js';
import { isTerminal, problem } from './queue.js';

const RESULTS = { ok: 'OK', error: 'ERROR', cancelled: 'CANCELLED', timeout: 'TIMED_OUT' };

export class Calls {
  /** Every call, in the order of `[CALL]`: its place is its index [CALL-001]. */
  all = [];
  #byId = new Map();
  #core;
  #sweeping = false;

  constructor(core) {
    this.#core = core;
  }

  find(id) {
    return this.#byId.get(id);
  }

  /** Named calls that are not settled. */
  get pending() {
    return this.all.filter((call) => call.id !== undefined && !call.settled);
  }

  /** Named calls without a terminal result. */
  get unresolved() {
    return this.all.filter((call) => call.id !== undefined && !call.resolved);
  }

  /** A call block ended, well formed or not [CALL-006]. Returns the call. */
  emit(block) {
    const core = this.#core;
    const verdict = judgeBlock(block, core.settings, {
      find: (id) => this.find(id),
      pendingBeside: (id) => this.pending.filter((call) => call.tool && call.id !== id).length,
    });
    const call = this.#register(block, verdict);
    const references = (block.arguments ?? []).filter(({ ref }) => ref !== undefined);
    core.effects.add('emitted', {
      call_emitted: {
        index: call.index,
        id: call.id,
        function: block.function,
        raw: block.raw,
        references: references.map(({ ref, path }) => ({ id: ref, path })),
      },
    });
    if (verdict.failure) this.#fail(call, verdict.failure, block.id);
    else if (!verdict.tool) this.#cancelByModel(call);
    else if (core.halfClosed) this.#resolveCancelled(call, 'since the client no longer answers');
    else this.#advance(call);
    return call;
  }

  #register(block, verdict) {
    const call = {
      index: this.all.length,
      id: this.#byId.has(block.id) ? undefined : block.id,
      function: block.function,
      args: verdict.args,
      tool: verdict.tool,
      released: this.#core.settings.mode !== 'SYNC_PARALLEL', // [SES-062]
      dispatched: false,
      resolved: false,
      settled: false,
      status: undefined,
      payload: '',
      result: 'NONE',
      delivery: 'UNSPECIFIED',
      reason: 'UNSPECIFIED',
      tokenIndex: undefined,
      stopTimer: () => {},
      emittedMs: this.#core.clock.now,
    };
    this.all.push(call);
    if (call.id !== undefined) this.#byId.set(call.id, call); // [CALL-002]
    return call;
  }

  /** A call failed before its dispatch; told under its id, or by the engine [CALL-023] [CALL-061]. */
  #fail(call, { type, message }, idInBlock = call.id) {
    if (call.id !== undefined) {
      this.resolve(call, 'error', problem(type, message, true));
      return;
    }
    const about = { ...(idInBlock !== undefined && { id: idInBlock }), call: call.index }; // [INT-016]
    this.#core.queue.acceptFromRuntime('error', problem(type, message, true, about));
    this.#mark(call, 'error', '');
    this.#settle(call, 'NOT_AWAITED', 'dispatched'); // [SES-093]
  }

  /** Moves a held call on as far as its references allow. */
  #advance(call) {
    const core = this.#core;
    const outcome = substitute(call.args, core.limits, (id) => this.find(id));
    if (outcome.failure) return this.#fail(call, outcome.failure);
    if (outcome.waits) return undefined;
    const wrong = checkArguments(call.tool, outcome.args, core.copies);
    if (wrong) return this.#fail(call, { type: 'invalid_arguments', message: wrong });
    if (call.released) this.#dispatch(call, objectText(outcome.args));
    return undefined;
  }

  get #held() {
    return this.all.filter((call) => call.tool && call.args && !call.dispatched && !call.resolved);
  }

  #advanceHeld() {
    for (const call of this.#held) if (!call.dispatched && !call.resolved) this.#advance(call);
  }

  #dispatch(call, args) {
    const core = this.#core;
    const most = core.limits.max_call_time_ms;
    const timeoutMs = Math.min(call.tool.timeoutMs ?? most, most); // [CALL-014]
    call.dispatched = true;
    call.dispatchedMs = core.clock.now;
    call.stopTimer = core.clock.after(timeoutMs, () => core.input(() => this.#timeOut(call, timeoutMs)));
    core.effects.add('dispatched', {
      call_dispatched: {
        index: call.index,
        id: call.id,
        function: call.function,
        arguments: args,
        client_owned: true,
        timeout_ms: timeoutMs,
      },
    });
    if (call.id === undefined) this.#settle(call, 'NOT_AWAITED', 'dispatched'); // [CALL-041]
  }

  /** SYNC_PARALLEL: what was held until now is dispatched in emission order; named calls only if `named`. */
  release({ named = true } = {}) {
    for (const call of this.#held) if (named || call.id === undefined) call.released = true;
    this.#advanceHeld();
  }

  /** The first terminal result of a call. */
  resolve(call, status, payload, { scheduling, clientSeq } = {}) {
    this.#mark(call, status, payload);
    if (call.id !== undefined) {
      call.interrupt = this.#core.queue.accept({ source: call.id, status, payload, scheduling, call, clientSeq });
    } else if (!call.settled) {
      this.#settle(call, 'NOT_AWAITED', 'dispatched');
    }
    if (!this.#sweeping) this.#advanceHeld(); // [CALL-036] [CALL-037]
  }

  #mark(call, status, payload) {
    call.stopTimer();
    call.resolved = true;
    call.status = status;
    call.payload = payload;
    call.resolvedMs = this.#core.clock.now;
    if (!call.settled) call.result = RESULTS[status]; // The row of a settled call stays as it is [CALL-080].
  }

  /** A result of the client for one of its calls; terminal or not. */
  answer(call, status, payload, options) {
    if (isTerminal(status)) this.resolve(call, status, payload, options);
    else this.#core.queue.accept({ source: call.id, status, payload, call, ...options });
  }

  #timeOut(call, timeoutMs) {
    this.#requestStop(call, 'DEADLINE');
    const message = `${call.function} gave no result within ${timeoutMs} ms`;
    this.resolve(call, 'timeout', problem('timeout', message, true)); // [CALL-054]
  }

  /** Takes a call back; `asking` is the call of `cml.cancel`, if that is who asks. Returns the outcome [CALL-070]. */
  cancel(call, origin, { clientSeq = 0, asking } = {}) {
    const outcome = this.#outcome(call, asking);
    if (outcome === 'CANCELLED') {
      if (call.dispatched) this.#requestStop(call, origin);
      this.#resolveCancelled(call, origin === 'MODEL' ? 'by cml.cancel' : 'by the client');
    }
    const found = outcome === 'NOT_FOUND' ? {} : { index: call.index, id: call.id };
    const tool = this.#core.settings.tools.get(call?.function); // [CALL-076]
    this.#core.effects.add('cancelled', {
      cancel_outcome: {
        ...found,
        outcome: `OUTCOME_${outcome}`,
        origin: `CANCEL_ORIGIN_${origin}`,
        side_effects: tool?.sideEffects,
        idempotent: tool?.idempotent,
        client_seq: clientSeq,
      },
    });
    return outcome;
  }

  #outcome(call, asking) {
    if (!call) return 'NOT_FOUND';
    if (call.resolved) return 'TOO_LATE';
    if (call === asking) return 'NOT_CANCELLABLE'; // [CALL-081]
    return call.dispatched && !call.tool.cancellable ? 'NOT_CANCELLABLE' : 'CANCELLED';
  }

  #resolveCancelled(call, how) {
    this.resolve(call, 'cancelled', cancelledPayload(call, how));
  }

  #cancelByModel(call) {
    const [{ name, string } = {}, ...more] = call.args;
    if (name !== 'id' || string === undefined || more.length > 0) {
      const message = 'cml.cancel takes one argument: the id of a call as a string, cml.cancel(id="…")';
      this.#fail(call, { type: 'invalid_arguments', message }); // [CALL-082]
      return;
    }
    this.#sweeping = true; // What waits for either comes after both [CALL-084].
    const outcome = this.cancel(this.find(string), 'MODEL', { asking: call });
    this.resolve(call, 'ok', JSON.stringify({ id: string, outcome: outcome.toLowerCase() })); // [CALL-079]
    this.#sweeping = false;
    this.#advanceHeld();
  }

  #requestStop(call, origin) {
    this.#core.effects.add('cancelled', {
      call_cancel_requested: { index: call.index, id: call.id, origin: `CANCEL_ORIGIN_${origin}`, client_owned: true },
    });
  }

  /** The client sends nothing more: what it has not answered is cancelled, held calls too [SES-083]. */
  halfClose() {
    this.#sweeping = true;
    for (const call of this.all) {
      const awaited = call.tool && !call.resolved && !call.settled;
      if (!awaited) continue;
      if (call.dispatched) this.#requestStop(call, 'DISCONNECT');
      this.#resolveCancelled(call, 'since the client no longer answers');
    }
    this.#sweeping = false;
  }

  /** A call's terminal interrupt is in the context. */
  delivered(call, tokenIndex) {
    call.tokenIndex = tokenIndex;
    this.#settle(call, 'DELIVERED', 'committed');
  }

  /** The session ends: every call that is not settled settles now [SES-092]. */
  leave({ cancel, origin }) {
    for (const call of this.all.filter((one) => !one.settled)) {
      call.stopTimer();
      if (call.resolved) call.reason = call.interrupt.reason;
      else if (cancel && (!call.dispatched || call.tool.cancellable)) {
        if (call.dispatched) this.#requestStop(call, origin);
        call.result = 'CANCELLED';
        call.payload = cancelledPayload(call, 'since the session ended');
        call.reason = 'CANCELLED_AT_END';
      } else call.reason = 'DETACHED';
      this.#settle(call, 'UNDELIVERED', 'left'); // An anonymous one that is still held, too [CALL-047].
    }
  }

  #settle(call, delivery, place) {
    call.settled = true;
    call.delivery = delivery;
    call.settledMs = this.#core.clock.now;
    call.row = callRow(call); // It stays as it is from now on.
    this.#core.effects.add(place, { call_settled: { row: call.row } });
  }
}

const cancelledPayload = (call, how) =>
  problem(
    'cancelled',
    `the call ${call.id ?? call.index} of ${call.function} was cancelled ${how}; it has no result`,
    false,
  ); // [CALL-077]
