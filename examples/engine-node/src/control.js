// The services Control and ScriptedModel: what the server is, its sessions, and their scripts and clocks.

import { VOCAB_SIZE, binding } from './bytes.js';
import { badField, cut, fault, refuseUnreadable, statusOf } from './errors.js';
import { grammarHash } from './grammar.js';
import { CAPABILITIES, LIMITS, SERVER_LIMITS } from './limits.js';
import { MODEL } from './session.js';

const MAX_PAGE = 1000;
const NAME = 'asynclm-engine-node';
const VERSION = '0.1.0';

const INFO = {
  server: NAME,
  server_version: VERSION,
  protocol_revision: 'draft',
  models: [
    {
      name: MODEL,
      engine: NAME,
      context_length: LIMITS.context_length,
      max_sequences: SERVER_LIMITS.max_sessions,
      binding,
      vocab_size: VOCAB_SIZE,
      scripted_only: true,
    },
  ],
  capabilities: CAPABILITIES,
  limits: LIMITS,
  server_limits: SERVER_LIMITS,
  grammar_hash: grammarHash,
  unit: 'UNIT_TOKEN',
};

/** A unary handler of a function from requests to responses. */
const unary = (answer) => (call, callback) => {
  try {
    refuseUnreadable(call.request);
    callback(null, answer(call.request));
  } catch (error) {
    callback(statusOf(error));
  }
};

export function control(sessions) {
  return {
    GetServerInfo: unary(() => INFO),
    ListSessions: unary((request) => listSessions(sessions, request)),
    GetSession: unary(({ session_id: id }) => describe(sessions.find(id))),
    AbortSessions: unary(({ session_ids: ids, reason }) => {
      const running = [...new Set(ids)].filter((id) => sessions.has(id) && sessions.find(id).running);
      for (const id of running) sessions.find(id).end('ABORTED', { message: reason ?? '' }); // [WIRE-114] [WIRE-115]
      return { aborted: running };
    }),
  };
}

/** One page, oldest first; the token is the id of the last session on the page before [WIRE-112]. */
function listSessions(sessions, { page_size: size = 100, page_token: token }) {
  if (size < 1 || size > MAX_PAGE) throw badField('page_size', `${size} is not between 1 and ${MAX_PAGE}`);
  const { all } = sessions;
  const before = token === undefined ? -1 : all.findIndex(({ id }) => id === token);
  if (token !== undefined && before < 0) throw badField('page_token', `${cut(token)} is no token of this list`);
  const page = all.slice(before + 1, before + 1 + size);
  const more = before + 1 + size < all.length;
  return { sessions: page.map(({ summary }) => summary), next_page_token: more ? page.at(-1).id : undefined };
}

function describe({ machine, summary }) {
  const { usage, rows, effects, finished } = machine;
  return { summary, usage, ...rows, last_event_seq: effects.sequence, finished };
}

export function scriptedModel(sessions, scripts) {
  return {
    LoadScript: unary((request) => {
      if ((request.model ?? MODEL) !== MODEL) {
        throw fault(
          'NOT_FOUND',
          'UNKNOWN_MODEL',
          `model: there is no ${cut(request.model)}; there is ${MODEL}`,
          'model',
        );
      }
      return { ids_per_step: scripts.load(request) };
    }),

    Advance: unary(({ session_id: id, ms }) => {
      const session = sessions.find(id);
      if (ms < 0) throw badField('ms', `${ms} is negative`); // [SCR-025]
      if (!session.running) throw fault('FAILED_PRECONDITION', 'FINISHED', 'session_id: the session has finished');
      session.advance(ms);
      return { now_ms: session.clock.now, last_event_seq: session.machine.effects.sequence };
    }),

    Reset: unary(() => {
      // [SCR-011]
      for (const session of sessions.running) session.end('ABORTED', { message: 'the scripts were reset' });
      scripts.clear();
      return {};
    }),
  };
}
