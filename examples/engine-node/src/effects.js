// The effects of one input, put into the order of [WIRE-053] and numbered.

const ORDER = [
  'accepted', // InterruptAccepted, InterruptRejected
  'woken', // TrapExited, StateChanged of a wait that the input ends
  'committed', // InterruptCommitted, each followed by its CallSettled
  'tokens',
  'notice',
  'emitted', // CallEmitted
  'dispatched', // CallDispatched, and CallSettled of calls that are not awaited
  'cancelled', // CallCancelRequested, CancelOutcome
  'entered', // TrapEntered, StateChanged at an end of sequence
  'exited', // TrapExited of a trap that the same input entered
  'left', // CallSettled of what the end of the session leaves
  'probed',
  'finished',
];

export class Effects {
  #waiting = [];
  #send;
  #clock;
  #tokens = 0;

  /** The number of the last event. */
  sequence = 0;

  constructor(clock, send) {
    this.#clock = clock;
    this.#send = send;
  }

  /** Adds an event; `tokens` is the number of stream tokens that it brings. */
  add(place, event, tokens = 0) {
    const rank = ORDER.indexOf(place);
    if (rank < 0) throw new Error(`no place ${place} in the order of effects`);
    this.#waiting.push({ rank, event, tokens });
  }

  /** Sends what the input has caused; each event tells the token index at its place [WIRE-050] to [WIRE-052]. */
  flush() {
    const batch = this.#waiting.sort((a, b) => a.rank - b.rank);
    this.#waiting = [];
    for (const { event, tokens } of batch) {
      this.sequence += 1;
      this.#send({ sequence: this.sequence, token_index: this.#tokens, time_ms: this.#clock.now, ...event });
      this.#tokens += tokens;
    }
  }
}
