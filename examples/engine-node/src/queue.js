// The queue: interrupts that were accepted and are not in the context yet.

import { controlId, encode } from './bytes.js';

const TERMINAL = new Set(['ok', 'error', 'cancelled', 'timeout']);
const SILENT_BY_DEFAULT = new Set(['partial', 'progress']); // [INT-030]

/** Whether a status resolves its call. */
export const isTerminal = (status) => TERMINAL.has(status);

/** The payload of an error, a time-out or a cancellation that the engine makes. */
export const problem = (type, message, retryable, about = {}) => JSON.stringify({ type, message, retryable, ...about });

const isMessage = ({ source }) => source === '@user' || source.startsWith('@agent.');
const isSilent = ({ scheduling }) => scheduling === 'SILENT';

export class Queue {
  /** Accepted and not committed, in arrival order. */
  waiting = [];
  /** Every accepted interrupt: the ledger's rows. */
  accepted = [];

  #core;
  #holding = 'no'; // The coalesce window: 'no', 'open' or 'over'.
  #closeWindow = () => {};

  constructor(core) {
    this.#core = core;
  }

  /** Puts an interrupt into the queue [INT-025]; `call` is the call that it speaks for. */
  accept({ source, status = 'ok', payload, scheduling, call, clientSeq = 0 }) {
    const core = this.#core;
    const entry = {
      number: this.accepted.length,
      source,
      status,
      payload,
      scheduling: scheduling ?? (SILENT_BY_DEFAULT.has(status) ? 'SILENT' : 'IMMEDIATE'),
      call,
      released: core.isWaiting, // WHEN_IDLE is IMMEDIATE in a trap and after the end of the sequence [TRAP-003].
      sampledBefore: core.sampled,
      delivery: 'UNSPECIFIED',
      tokenIndex: undefined,
      reason: 'UNSPECIFIED',
    };
    this.accepted.push(entry);
    this.waiting.push(entry);
    if (call) this.#result();
    const { number } = entry;
    core.effects.add('accepted', {
      interrupt_accepted: {
        number,
        source,
        status: `STATUS_${status.toUpperCase()}`,
        scheduling: `SCHEDULING_${entry.scheduling}`,
        client_seq: clientSeq,
      },
    });
    return entry;
  }

  /** The engine's own word about something that has no new id. */
  acceptFromRuntime(status, payload) {
    return this.accept({ source: '@runtime', status, payload });
  }

  /** WHEN_IDLE is IMMEDIATE from now on [INT-031]. */
  release() {
    for (const entry of this.waiting) entry.released = true;
  }

  /** Whether something is queued that would end a bare trap, WHEN_IDLE included. */
  get wakes() {
    return this.waiting.some((entry) => !isSilent(entry));
  }

  /** Whether something is queued that ends every trap [TRAP-015]. */
  get hasMessage() {
    return this.waiting.some((entry) => isMessage(entry) && !isSilent(entry));
  }

  /** How many of the queued interrupts count against `max_queued` [LIM-008]. */
  get bounded() {
    return this.waiting.filter(({ call, source, status }) => (call ? !isTerminal(status) : source !== '@runtime'))
      .length;
  }

  /** What the next safe point commits, in its order [INT-040] [INT-041]. */
  batch() {
    const ready = this.waiting.filter((entry) => entry.scheduling !== 'WHEN_IDLE' || entry.released);
    const ended = new Set(ready.filter(({ call, status }) => call && isTerminal(status)).map(({ call }) => call));
    const earlier = (call) => this.waiting.filter((entry) => entry.call === call && !isTerminal(entry.status));
    return ready.flatMap((entry) => {
      if (!ended.has(entry.call)) return [entry];
      return isTerminal(entry.status) ? [...earlier(entry.call), entry] : [];
    });
  }

  /** The oldest interrupt that the next safe point would commit. */
  get oldest() {
    return this.waiting.find((entry) => entry.scheduling !== 'WHEN_IDLE' || entry.released);
  }

  /** Whether the `coalesce` window holds the safe point back [INT-053]. */
  get gathers() {
    return this.#holding === 'open' && this.#core.calls.unresolved.length > 0 && !this.#speaks; // [INT-061]
  }

  /** Whether a person or an agent speaks in the next batch. */
  get #speaks() {
    return this.batch().some((entry) => isMessage(entry) && !isSilent(entry));
  }

  /** Commits the batch as far as it fits the context; returns whether all of it did [INT-042]. */
  commit() {
    const core = this.#core;
    this.#endWindow('no');
    for (const entry of this.batch()) {
      const ids = frame(entry);
      if (core.contextSize + ids.length > core.limits.context_length) return false;
      this.#commitOne(entry, ids);
    }
    return true;
  }

  /** No timer is left behind. */
  stop() {
    this.#closeWindow();
  }

  #commitOne(entry, ids) {
    const core = this.#core;
    this.waiting = this.waiting.filter((other) => other !== entry);
    entry.delivery = 'DELIVERED';
    entry.tokenIndex = core.tokenIndex;
    core.injected += ids.length;
    const { number, source, status, payload } = entry;
    const committed = { number, source, status: `STATUS_${status.toUpperCase()}`, payload, ids };
    core.effects.add('committed', { interrupt_committed: committed }, ids.length);
    core.copies.committed(entry);
    if (source !== '@runtime') core.waits.emptyTraps = 0; // [TRAP-044]
    if (entry.call && isTerminal(status)) core.calls.delivered(entry.call, entry.tokenIndex);
  }

  #result() {
    const { coalesceMs } = this.#core.settings;
    if (coalesceMs === 0 || this.#holding !== 'no') return;
    this.#holding = 'open';
    this.#closeWindow = this.#core.clock.after(coalesceMs, () => this.#core.input(() => this.#endWindow('over')));
  }

  #endWindow(holding) {
    this.#closeWindow();
    this.#holding = holding;
  }
}

/** An interrupt as ids [CML-054]: each part encoded on its own, nothing added. */
function frame({ source, status, payload }) {
  const head = status === 'ok' ? source : `${source}:${status}`;
  return [controlId('INTR'), ...encode(head), controlId('HEAD'), ...encode(payload), controlId('END')];
}
