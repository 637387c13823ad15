// Where a session waits: traps, and what the end of the sequence does.

import { problem } from './queue.js';

export class Waits {
  /** Empty traps in a row [TRAP-044]. */
  emptyTraps = 0;

  #core;
  #trap = undefined; // {quantifier, ids, withinMs, pending: the calls that were pending at its [END]}
  #stopTimer = () => {};

  constructor(core) {
    this.#core = core;
  }

  /** The `[END]` of a well-formed trap, or of a named call in SYNC, where a trap on it is implied [SES-060]. */
  enterTrap({ quantifier, ids, withinMs }, { implicit = false } = {}) {
    const core = this.#core;
    core.calls.release(); // [SES-062]
    core.queue.release();
    this.#trap = { quantifier, ids: [...new Set(ids)], withinMs, pending: core.calls.pending };
    core.effects.add('entered', {
      trap_entered: {
        trap: { quantifier: quantifier && `QUANTIFIER_${quantifier.toUpperCase()}`, ids, within_ms: withinMs },
        implicit,
      },
    });
    if (!implicit && this.#isEmpty()) this.#leaveEmpty();
    else if (this.#holds()) this.#exit('exited');
    else if (withinMs === 0)
      this.#timeOut('exited'); // [TRAP-033]
    else {
      core.enter('TRAPPED');
      if (withinMs !== undefined) {
        this.#stopTimer = core.clock.after(withinMs, () => core.input(() => this.#timeOut('woken')));
      }
    }
  }

  /** After every acceptance and resolution: whether the wait is over [TRAP-012] [SES-042] [SES-047]. */
  test() {
    const core = this.#core;
    if (core.phase === 'TRAPPED' && this.#holds()) this.#exit('woken');
    else if (core.phase === 'DRAINING') this.#testDraining();
    else if (core.phase === 'IDLE' && this.#wakes) this.#wake('woken', 'an interrupt arrived');
  }

  #holds() {
    const { queue, settings } = this.#core;
    const { quantifier, ids, pending } = this.#trap;
    if (queue.hasMessage) return true;
    if (settings.mode === 'SYNC_PARALLEL') return pending.every((call) => call.resolved); // [SES-063]
    if (ids.length > 0) {
      const resolved = ids.filter((id) => this.#core.calls.find(id)?.resolved);
      return quantifier === 'any' ? resolved.length > 0 : resolved.length === ids.length;
    }
    return (!quantifier && queue.wakes) || (pending.length > 0 && pending.every((call) => call.resolved));
  }

  /** Whether the condition as written cannot come to hold [TRAP-040] to [TRAP-042] [TRAP-046]. */
  #isEmpty() {
    const { queue, calls } = this.#core;
    const { quantifier, ids, pending } = this.#trap;
    if (queue.hasMessage || (!quantifier && queue.wakes)) return false;
    if (ids.length === 0) return pending.length === 0;
    const unknown = ids.filter((id) => !calls.find(id));
    return quantifier === 'any' ? unknown.length === ids.length : unknown.length > 0;
  }

  #leaveEmpty() {
    const core = this.#core;
    const { ids } = this.#trap;
    const unknown = ids.filter((id) => !core.calls.find(id));
    const why = ids.length > 0 ? `no call has the id ${unknown.join(', ')}` : 'no call is pending';
    core.queue.acceptFromRuntime('error', problem('trap', `this trap cannot end: ${why}`, false)); // [TRAP-043]
    this.#exit('exited', { empty: true });
    this.emptyTraps += 1;
    if (this.emptyTraps >= core.limits.max_empty_traps) {
      core.finish('STALLED', { message: `${this.emptyTraps} traps in a row could not end` });
    }
  }

  #timeOut(place) {
    const message = `nothing arrived within ${this.#trap.withinMs} ms; what is pending goes on`;
    this.#core.queue.acceptFromRuntime('timeout', problem('timeout', message, true)); // [TRAP-031]
    this.#exit(place, { timed_out: true });
  }

  #exit(place, how = {}) {
    this.#stopTimer();
    this.#core.effects.add(place, { trap_exited: how });
    this.#core.resume();
  }

  /** A malformed trap is told to the model; it does not count as an empty one [TRAP-045]. */
  refuseTrap(message) {
    this.#core.queue.acceptFromRuntime('error', problem('trap', message, true));
  }

  /**
   * The end of the sequence, or what `KEEP` treats as one: a stop string, or the limit of tokens. `limited`: the token
   * has also reached `max_new_tokens` [SES-087].
   */
  rest(why, { limited = false, stopString } = {}) {
    const core = this.#core;
    const { onEnd } = core.settings;
    core.calls.release({ named: onEnd !== 'CANCEL' }); // [SES-065]
    core.queue.release();
    core.reader.text.boundary();
    if (onEnd === 'KEEP') {
      if (this.#wakes)
        this.#wake('entered', 'something was queued', stopString); // [SES-041]
      else this.#settleDown('IDLE', why, stopString);
      return;
    }
    if (onEnd === 'WAIT' && (this.#wakes || core.calls.unresolved.length > 0)) {
      if (limited) core.finish('LENGTH', { message: 'max_new_tokens' });
      else if (this.#wakes) this.#wake('entered', 'something was queued');
      else this.#settleDown('DRAINING', why);
      return;
    }
    core.finish('STOP');
  }

  /** Whether something is queued that would end a bare trap, and so wakes a session after its end of sequence. */
  get #wakes() {
    const { queue, calls, settings } = this.#core;
    if (queue.hasMessage) return true;
    return queue.wakes && (settings.mode !== 'SYNC_PARALLEL' || calls.unresolved.length === 0); // [SES-063]
  }

  #testDraining() {
    const core = this.#core;
    if (this.#wakes) this.#wake('woken', 'an interrupt arrived');
    else if (core.calls.unresolved.length === 0) core.finish('STOP'); // [SES-043]
  }

  #wake(place, reason, stopString) {
    const core = this.#core;
    core.effects.add(place, { state_changed: { state: 'STATE_DECODING', reason, stop_string: stopString } });
    if (core.settings.onEnd === 'KEEP') core.newTokens = 0; // [SES-077]
    core.resume();
  }

  #settleDown(phase, reason, stopString) {
    const core = this.#core;
    core.effects.add('entered', { state_changed: { state: `STATE_${phase}`, reason, stop_string: stopString } });
    core.enter(phase);
  }
}
