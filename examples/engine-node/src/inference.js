// The service Inference: streams of client events, and of the effects that they have.

import { badEvent, badField, fault, refuseUnreadable, statusOf } from './errors.js';
import { SERVER_LIMITS } from './limits.js';
import { enumValue } from './start.js';

/**
 * What the end of a client's events waits before it is taken for a half-close: where a stream breaks off, gRPC ends them first, and
 * tells of the break a moment later [WIRE-016].
 */
const BREAK_OFF_MS = 50;

/** The client's side of a session on one stream. */
class Connection {
  #call;
  #session = undefined;
  #lastSeq = 0;
  #closed = false;
  #startTimer;

  constructor(call, server) {
    this.#call = call;
    this.server = server;
    call.on('data', (event) => this.#guard(() => this.#receive(event)));
    call.on('end', () => setTimeout(() => this.#guard(() => this.#halfClose()), BREAK_OFF_MS));
    call.on('cancelled', () => this.#drop());
    call.on('drain', () => this.#session?.drained());
    const { start_timeout_ms: ms } = SERVER_LIMITS;
    const late = () => {
      throw fault('DEADLINE_EXCEEDED', 'START_TIMEOUT', `no Start came within ${ms} ms`); // [ERR-042]
    };
    this.#startTimer = setTimeout(() => this.#guard(late), ms);
  }

  /** A fault of an event ends the stream with its status; what was applied before it stands [WIRE-035]. */
  #guard(action) {
    if (this.#closed) return;
    try {
      action();
    } catch (error) {
      this.#call.emit('error', statusOf(error));
      this.#drop();
    }
  }

  #receive(event) {
    refuseUnreadable(event);
    if (!this.#session) {
      if (event.event !== 'start') throw badEvent('event', `the first event is Start, not ${event.event ?? 'empty'}`);
      this.#count(event.client_seq);
      this.#start(event.start);
    } else if (this.#count(event.client_seq)) {
      apply(this.#session, event);
      this.#lastSeq = event.client_seq;
    }
  }

  /** Whether an event is the next one, and not one that was applied already [WIRE-032] [WIRE-033]. */
  #count(seq) {
    const next = this.#lastSeq + 1;
    if (seq >= 1 && seq < next) return false;
    if (seq !== next) {
      throw fault(
        'INVALID_ARGUMENT',
        'SEQUENCE_GAP',
        `client_seq: ${seq} came where ${next} was expected`,
        'client_seq',
      );
    }
    return true;
  }

  #start(start) {
    this.#session = this.server.startSession(start, this.#out());
    this.#lastSeq = 1;
    clearTimeout(this.#startTimer);
  }

  #out() {
    return {
      write: (event) => this.#call.write(event),
      end: () => {
        this.#closed = true;
        this.#call.end();
      },
    };
  }

  #halfClose() {
    if (!this.#session) throw badEvent('event', 'the stream was closed before a Start');
    if (!this.#call.cancelled) this.#session.apply('halfClose');
  }

  #drop() {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#startTimer);
    this.#session?.drop();
  }
}

/** Applies one client event to a session. */
function apply(session, event) {
  switch (event.event) {
    case 'interrupt':
      return session.apply('interrupt', readInterrupt(event.interrupt), event.client_seq);
    case 'cancel_call':
      if (!event.cancel_call.call) throw badField('cancel_call.call', 'one of id and index is given'); // [WIRE-039]
      return session.apply('cancelCall', readCall(event.cancel_call), event.client_seq);
    case 'grant':
      return session.apply('grant', readGrant(event.grant, session));
    case 'pause':
      return session.apply('pause', true);
    case 'unpause':
      return session.apply('pause', false);
    case 'probe':
      return session.apply('probe', event.probe.nonce);
    case 'ack':
      return undefined; // Nothing is kept for Resume.
    case 'finish':
      return session.end('FINISHED_BY_CLIENT', { cancelPending: event.finish.cancel_pending });
    case undefined:
      throw badEvent('event', 'is empty');
    default:
      throw badEvent('event', `${event.event} has no place here`); // [WIRE-010] [WIRE-034]
  }
}

const readCall = ({ call, id, index }) => (call === 'id' ? { id } : { index });

function readGrant({ tokens }, { machine }) {
  if (tokens <= 0) throw badField('grant.tokens', `${tokens} is not positive`);
  const unlimited = machine.credit === undefined;
  if (unlimited) throw fault('FAILED_PRECONDITION', 'PROTOCOL', 'grant: the credit is unlimited'); // [WIRE-073]
  return tokens;
}

function readInterrupt(interrupt) {
  const { source, call_index: callIndex, payload } = interrupt;
  if ((source === undefined) === (callIndex === undefined)) {
    throw badField('interrupt.source', 'exactly one of source and call_index is given'); // [WIRE-038]
  }
  const status = enumValue(interrupt.status, 'STATUS', 'OK', 'interrupt.status').toLowerCase();
  const scheduling = enumValue(interrupt.scheduling, 'SCHEDULING', null, 'interrupt.scheduling') ?? undefined;
  return { source, callIndex, status, payload, scheduling };
}

/** The handlers of the service; `server` starts sessions. */
export function inference(server) {
  return {
    Session: (call) => void new Connection(call, server),

    Resume(call) {
      call.emit('error', fault('UNIMPLEMENTED', 'NO_RESUME', 'sessions are not kept for Resume').toStatus());
    },

    Generate(call) {
      try {
        refuseUnreadable(call.request);
        const { start } = call.request;
        if (!start) throw badField('start', 'is missing');
        if (start.tools.length > 0) throw badField('start.tools', 'Generate has no way back for results'); // [WIRE-101]
        if (start.credit !== undefined) throw badField('start.credit', 'Generate has no way to grant more');
        const out = { write: (event) => call.write(event), end: () => call.end() };
        const session = server.startSession(start, out);
        session.apply('halfClose'); // [WIRE-100]
        call.on('drain', () => session.drained());
        call.on('cancelled', () => session.end('DISCONNECTED')); // [WIRE-102]
      } catch (error) {
        call.emit('error', statusOf(error));
      }
    },
  };
}
