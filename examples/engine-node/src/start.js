// A Start, checked as a whole before anything is answered [WIRE-012].

import { bytes } from './judge.js';
import { badField, badTool, cut, unsupported } from './errors.js';
import { MAX_COALESCE_MS, MAX_LABELS, MAX_LABEL_BYTES, SERVER_LIMITS, readLimits } from './limits.js';
import { includes } from './masks.js';
import { readTools } from './tools.js';

/** The short name of an enum's value; unspecified means the default, and unknown is refused [WIRE-007]. */
export function enumValue(value, prefix, absent, field) {
  if (typeof value === 'number') throw badField(field, `${value} is unknown`);
  const name = value.slice(prefix.length + 1);
  if (name !== 'UNSPECIFIED') return name;
  if (absent === undefined) throw badField(field, 'is missing');
  return absent;
}

/** What a session is started with: the settings of its machine, and those of its stream. */
export function readStart(start) {
  if (start.messages.length > 0 === (start.prompt_ids !== null && start.prompt_ids !== undefined)) {
    throw badField('messages', 'exactly one of messages and prompt_ids is given, and not empty'); // [WIRE-013]
  }
  const bodyLanguage = enumValue(start.body_language, 'BODY_LANGUAGE', 'PYTHON_CALL', 'body_language').toLowerCase();
  const { max_tools: most } = SERVER_LIMITS;
  if (start.tools.length > most) throw badTool('tools', `${start.tools.length} tools; ${most} are allowed`);
  refuseWhatIsNotOffered(start);
  const settings = {
    mode: enumValue(start.mode, 'EXECUTION_MODE', 'ASYNC', 'mode'),
    onEnd: enumValue(start.on_end, 'ON_END', 'WAIT', 'on_end'),
    onDisconnect: enumValue(start.on_disconnect, 'ON_DISCONNECT', 'CANCEL', 'on_disconnect'), // [WIRE-019]
    instructions: enumValue(start.instructions, 'INSTRUCTIONS', 'FULL', 'instructions'),
    bodyLanguage,
    granularity: enumValue(start.granularity, 'GRANULARITY', 'TOKEN', 'granularity'),
    granularityHold: between(start.granularity_hold ?? 32, 0, Infinity, 'granularity_hold'),
    ...readDelivery(start),
    credit: start.credit === undefined ? undefined : between(start.credit, 0, Infinity, 'credit'),
    limits: readLimits(start.limits),
    labels: readLabels(start.labels),
    stop: readStops(start.stop),
    tools: readTools(start.tools, bodyLanguage, start.messages.length === 0),
    requestTexts: requestTexts(start.messages),
    ...readConstraints(start),
  };
  checkSampling(start.sampling);
  return settings;
}

function between(value, least, most, field) {
  if (value < least || value > most)
    throw badField(field, `${value} is not ${most === Infinity ? `${least} or more` : `between ${least} and ${most}`}`);
  return value;
}

function readDelivery({ delivery: asked, coalesce_ms: window = 0 }) {
  const coalesceMs = between(window, 0, MAX_COALESCE_MS, 'coalesce_ms');
  const delivery = enumValue(asked, 'DELIVERY_POLICY', coalesceMs > 0 ? 'COALESCE' : 'EAGER', 'delivery'); // [INT-062]
  if (delivery === 'LAZY') throw unsupported('delivery', 'LAZY is not offered; EAGER and COALESCE are');
  if ((delivery === 'COALESCE') !== coalesceMs > 0)
    throw badField('coalesce_ms', `${coalesceMs} does not go with ${delivery}`); // [INT-063]
  return { delivery, coalesceMs };
}

function readConstraints({ constraints: asked, gate_end: gateEnd = false }) {
  const constraints = enumValue(asked, 'CONSTRAINTS', 'GATES', 'constraints'); // [SES-019]
  if (constraints === 'GRAMMAR') throw unsupported('constraints', 'GRAMMAR is not offered; NONE, STATIC and GATES are');
  if (gateEnd && !includes(constraints, 'GATES'))
    throw badField('gate_end', `goes with GATES, not with ${constraints}`);
  return { constraints, gateEnd };
}

/** What is beyond the capabilities is refused by its field [WIRE-003]. */
function refuseWhatIsNotOffered({ sampling, server_tools: serverTools }) {
  const [name] = serverTools?.names ?? [];
  if (name !== undefined)
    throw unsupported('server_tools.names', `there is no tool ${cut(name)}: this server has none`);
  if (!sampling) return;
  const alone = sampling.top_logprobs > 0 && !sampling.logprobs;
  if (alone) throw badField('sampling.top_logprobs', 'needs logprobs'); // [LIM-016]
  if (sampling.logprobs) throw unsupported('sampling.logprobs', 'log-probabilities are not offered (LOGPROBS)');
  const neutral = { repetition_penalty: 1, presence_penalty: 0, frequency_penalty: 0 };
  for (const [field, value] of Object.entries(neutral)) {
    if ((sampling[field] ?? value) !== value)
      throw unsupported(`sampling.${field}`, 'penalties are not offered (PENALTIES)');
  }
}

/** Scripts choose the tokens here; the ranges hold all the same. */
function checkSampling(sampling) {
  if (!sampling) return;
  const { temperature = 0, top_k: topK = 0, top_p: topP = 1, min_p: minP = 0 } = sampling;
  if (!(temperature >= 0 && temperature <= 5))
    throw badField('sampling.temperature', `${temperature} is not between 0 and 5`);
  if (topK < 0) throw badField('sampling.top_k', `${topK} is not 0 or more`);
  if (!(topP > 0 && topP <= 1)) throw badField('sampling.top_p', `${topP} is not above 0 and up to 1`);
  if (!(minP >= 0 && minP < 1)) throw badField('sampling.min_p', `${minP} is not between 0 and below 1`);
}

function readLabels(labels) {
  const entries = Object.entries(labels ?? {});
  if (entries.length > MAX_LABELS) throw badField('labels', `${entries.length} labels; ${MAX_LABELS} are allowed`);
  for (const [key, value] of entries) {
    if (bytes(key) > MAX_LABEL_BYTES || bytes(value) > MAX_LABEL_BYTES) {
      throw badField('labels', `${cut(key)} or its value is over ${MAX_LABEL_BYTES} bytes`); // [LIM-010]
    }
  }
  return labels ?? {};
}

/** [LIM-015] */
function readStops(stops) {
  const { max_stop_strings: most, max_stop_string_bytes: longest } = SERVER_LIMITS;
  if (stops.length > most) throw badField('stop', `${stops.length} stop strings; ${most} are allowed`);
  stops.forEach((stop, i) => {
    if (stop === '' || stop.includes('\ufffd')) throw badField(`stop[${i}]`, `${cut(stop)} is empty or has U+FFFD`);
    if (bytes(stop) > longest) throw badField(`stop[${i}]`, `${bytes(stop)} bytes; ${longest} are allowed`);
  });
  return stops;
}

const requestTexts = (messages) =>
  messages
    .filter(({ role }) => role === 'ROLE_USER')
    .flatMap(({ parts }) => parts)
    .filter(({ part }) => part === 'text')
    .map(({ text }) => text);
