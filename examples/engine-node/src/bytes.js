// The binding `bytes`: ids 0 to 255 are bytes of UTF-8, the five control tokens and end of sequence follow.

import { createHash } from 'node:crypto';

/** Control tokens by the names that the code uses for them, in the order of their ids. */
export const CONTROLS = ['CALL', 'INTR', 'TRAP', 'END', 'HEAD'];

const FIRST_CONTROL = 256;
export const EOS = 261;
export const VOCAB_SIZE = 262;

const SPELLINGS = ['<|call|>', '<|intr|>', '<|trap|>', '<|end|>', '<|head|>'];

/** The id of a control token. */
export const controlId = (name) => FIRST_CONTROL + CONTROLS.indexOf(name);

/** The control token of an id, or undefined. */
export const controlOf = (id) => CONTROLS[id - FIRST_CONTROL];

/** The ids of a text. None is above 255, so no text can become a control token [CML-052] [SEC-001]. */
export const encode = (text) => [...Buffer.from(text, 'utf8')];

const definition = ['bytes', ...SPELLINGS, '<|eos|>'].join('\n'); // [BIND-009]

/** What GetServerInfo and Started publish [BIND-005]. */
export const binding = {
  name: 'bytes',
  tokens: CONTROLS.map((name, i) => ({
    control: `CONTROL_TOKEN_${name}`,
    id: controlId(name),
    spelling: SPELLINGS[i],
  })),
  eos_ids: [EOS],
  tokenizer_fingerprint: createHash('sha256').update(definition).digest('hex'),
};
