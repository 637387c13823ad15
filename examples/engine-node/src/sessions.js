// The sessions of a server: those that run, and finished ones for as long as they are kept.

import { randomBytes } from 'node:crypto';
import { fault } from './errors.js';
import { SERVER_LIMITS } from './limits.js';
import { Session } from './session.js';

export class Sessions {
  #byId = new Map(); // In the order of their starts.
  #whenIdle = undefined;
  draining = false;

  /** Refuses another session, before anything is computed for it [LIM-011] [WIRE-130]. */
  checkRoom() {
    if (this.draining) throw fault('UNAVAILABLE', 'DRAINING', 'the server is shutting down');
    const { max_sessions: most } = SERVER_LIMITS;
    if (this.running.length >= most) {
      throw fault('RESOURCE_EXHAUSTED', 'TOO_MANY_SESSIONS', `${most} sessions are open; no more are allowed`);
    }
  }

  create(start, scripts) {
    const id = randomBytes(16).toString('hex'); // [SEC-030]
    const session = new Session(id, start, scripts, () => this.#finished(id));
    this.#byId.set(id, session);
    return session;
  }

  get all() {
    return [...this.#byId.values()];
  }

  get running() {
    return this.all.filter((session) => session.running);
  }

  find(id) {
    const session = this.#byId.get(id);
    if (!session)
      throw fault('NOT_FOUND', 'UNKNOWN_SESSION', 'session_id: there is no such session, or it is no longer kept');
    return session;
  }

  has(id) {
    return this.#byId.has(id);
  }

  /** Takes no new sessions; resolves once all are finished: after `ms` they are ended [WIRE-131]. */
  async drain(ms) {
    this.draining = true;
    const timer = setTimeout(() => {
      for (const session of this.running) session.end('DRAINED', { message: 'the server is shutting down' });
    }, ms);
    if (this.running.length > 0) await new Promise((resolve) => (this.#whenIdle = resolve));
    clearTimeout(timer);
  }

  #finished(id) {
    setTimeout(() => this.#byId.delete(id), SERVER_LIMITS.retention_ms).unref(); // [WIRE-020]
    if (this.running.length === 0) this.#whenIdle?.();
  }
}
