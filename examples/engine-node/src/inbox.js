// What a client sends of interrupts: accepted, or handed back with the first reason that holds [INT-022].

import { NAME, isReserved } from './body.js';
import { cut } from './errors.js';
import { jsonFault } from './json.js';
import { bytes } from './judge.js';
import { isTerminal, problem } from './queue.js';

const MESSAGE_SOURCE = /^(@user|@system|@agent\.[A-Za-z_][A-Za-z0-9_]{0,63})$/;
const ERROR_SHAPE = { type: 'string', message: 'string', retryable: 'boolean' };

/** Applies an interrupt of a client: `{source?, callIndex?, status, payload, scheduling?}`, with short enum names. */
export function receive(core, event, clientSeq) {
  const call = event.callIndex === undefined ? core.calls.find(event.source) : core.calls.all[event.callIndex];
  const source = event.source ?? call?.id ?? '';
  const rejection = judge(core, event, call);
  if (rejection) {
    const [reason, message] = rejection;
    core.effects.add('accepted', {
      interrupt_rejected: {
        source,
        reason: `REJECT_REASON_${reason}`,
        message,
        payload: event.payload,
        client_seq: clientSeq,
      },
    });
    if (reason === 'TOO_LARGE' && call && isTerminal(event.status)) refuseResult(core, call);
    return;
  }
  const { status, payload, scheduling } = event;
  if (call) core.calls.answer(call, status, payload, { scheduling, clientSeq });
  else core.queue.accept({ source, payload, scheduling, clientSeq });
}

/** A result over the limit resolves its call all the same [CALL-053]. */
function refuseResult(core, call) {
  const message = `the result of ${call.function} is larger than ${core.limits.max_payload_bytes} bytes`;
  core.calls.resolve(call, 'error', problem('payload', message, true));
}

function judge(core, event, call) {
  const { source, payload, status } = event;
  const message = source !== undefined && MESSAGE_SOURCE.test(source);
  if (!message && source !== undefined && (!NAME.test(source) || isReserved(source))) {
    return ['BAD_SOURCE', `${cut(source)} is not the id of a call, @user, @system or @agent.NAME`];
  }
  const refusal = message ? judgeMessage(event) : judgeResult(core, event, call);
  if (refusal) return refusal;
  if (bytes(payload) > core.limits.max_payload_bytes) {
    return ['TOO_LARGE', `the payload has ${bytes(payload)} bytes; ${core.limits.max_payload_bytes} are allowed`];
  }
  const fault = message ? undefined : shapeFault(status, payload);
  if (fault) return ['BAD_PAYLOAD', `the payload of ${status} ${fault}`];
  if ((message || !isTerminal(status)) && core.queue.bounded >= core.limits.max_queued) {
    return ['QUEUE_FULL', `${core.limits.max_queued} interrupts are queued; more are taken once some are committed`];
  }
  return undefined;
}

function judgeMessage({ source, status }) {
  return status === 'ok' ? undefined : ['BAD_STATUS', `${source} has no status; ${status} was given`];
}

function judgeResult(core, { source, callIndex, status }, call) {
  const name = cut(source ?? callIndex);
  if (!call) return ['UNKNOWN_ID', `no call of this session is ${name}`];
  const owned = core.settings.tools.has(call.function); // [CALL-050]
  if (!owned) return ['NOT_OWNER', `the call ${name} is of no tool of the client`];
  if (call.resolved || call.id === undefined)
    return ['ALREADY_RESOLVED', `nobody waits for a result of the call ${name}`];
  if (!call.dispatched) return ['NOT_DISPATCHED', `the call ${name} is held and not dispatched yet`];
  if (status === 'timeout' || status === 'cancelled') return ['BAD_STATUS', `${status} is written by the engine only`];
  return undefined;
}

/** What is wrong with the payload of a status [INT-013], or undefined. */
function shapeFault(status, payload) {
  const fault = jsonFault(payload);
  if (fault || status === 'ok' || status === 'partial') return fault;
  const value = JSON.parse(payload);
  const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
  if (status === 'error') {
    const fits = isObject && Object.entries(ERROR_SHAPE).every(([key, type]) => typeof value[key] === type);
    return fits ? undefined : 'is not {"type": string, "message": string, "retryable": boolean}';
  }
  const message = isObject ? (value.message ?? undefined) : undefined; // null is absent [INT-026].
  const fraction = isObject ? (value.fraction ?? undefined) : undefined;
  const given = message !== undefined || fraction !== undefined;
  const fits =
    (message === undefined || typeof message === 'string') &&
    (fraction === undefined || (typeof fraction === 'number' && fraction >= 0 && fraction <= 1));
  return given && fits
    ? undefined
    : 'is not {"message": string, "fraction": number from 0 to 1}, one of the two at least';
}
