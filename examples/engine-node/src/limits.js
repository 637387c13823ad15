// What this server can do, and how much of it.

import { badField } from './errors.js';

export const CAPABILITIES = [
  'GENERATE',
  'SCRIPTED_MODEL',
  'PROMPT_IDS',
  'STATIC_MASK',
  'STATE_GATES',
  'KEEP',
  'SYNC_MODES',
  'PYTHON_CALL',
  'JSON_CALL',
  'GRANULARITY',
  'COALESCE',
  'STOP_STRINGS',
].map((name) => `CAPABILITY_${name}`);

/** The limits of a session that asks for none [LIM-002]. */
export const LIMITS = {
  max_new_tokens: 65_536,
  max_block_tokens: 16_384,
  max_pending_calls: 64,
  max_payload_bytes: 1 << 20,
  max_argument_bytes: 1 << 16,
  max_queued: 256,
  max_empty_traps: 3,
  context_length: 1 << 23,
  max_call_time_ms: 600_000,
  max_idle_time_ms: 600_000,
};

export const SERVER_LIMITS = {
  max_message_bytes: 1 << 24, // Room for a payload with its envelope [LIM-005].
  max_sessions: 256,
  max_prompt_bytes: 1 << 22,
  max_tools: 128,
  resume_grace_ms: 0,
  retention_ms: 600_000,
  max_kept_events: 0,
  max_stop_strings: 16,
  max_stop_string_bytes: 256,
  max_top_logprobs: 0,
  start_timeout_ms: 10_000,
  max_script_steps: 100_000,
  max_scripts: 10_000,
};

export const MAX_LABELS = 16;
export const MAX_LABEL_BYTES = 256;
export const MAX_COALESCE_MS = 600_000;

/** The limits in force: what a client asks for, where it is lower [LIM-003] [LIM-004]. */
export function readLimits(asked) {
  const limits = { ...LIMITS };
  for (const [name, most] of Object.entries(LIMITS)) {
    const value = asked?.[name] ?? most;
    if (value <= 0 || value > most) throw badField(`limits.${name}`, `${value} is not between 1 and ${most}`);
    limits[name] = value;
  }
  return limits;
}
