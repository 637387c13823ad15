// The prompt: a chat template around the messages, as ids.

import { VOCAB_SIZE, controlId, encode } from './bytes.js';
import { badField, cut, fault } from './errors.js';
import { Unescaper } from './escape.js';
import { bytes } from './judge.js';
import { SERVER_LIMITS } from './limits.js';
import { Parser, trim } from './parser.js';
import { enumValue } from './start.js';

const HOW_TO = `Functions run while you write on.
[CALL] id [HEAD] body [END] calls one; its result comes as [INTR] id [HEAD] … [END].
[CALL] body [END] calls one without a result. [TRAP] id [END] waits for a result, [TRAP] [END] for anything.
`;

/** The ids of a session's prompt. Every part is encoded on its own [BIND-020]. */
export function buildPrompt(start, settings) {
  const ids = start.messages.length > 0 ? fromMessages(start, settings) : fromIds(start.prompt_ids.ids);
  const { context_length: most } = settings.limits;
  if (ids.length > most) {
    const message = `the prompt has ${ids.length} tokens; the context has ${most}`;
    throw fault('INVALID_ARGUMENT', 'PROMPT_TOO_LONG', message, 'messages');
  }
  return ids;
}

function fromIds(ids) {
  if (ids.length === 0) throw badField('prompt_ids', 'is empty');
  const odd = ids.find((id) => id >= VOCAB_SIZE);
  const outside = `${odd} is outside the vocabulary of ${VOCAB_SIZE}`;
  if (odd !== undefined) throw badField('prompt_ids', outside); // [WIRE-022]
  return ids;
}

function fromMessages(start, settings) {
  const size = start.messages
    .flatMap(({ parts }) => parts)
    .reduce((sum, part) => sum + bytes(part[part.part] ?? ''), 0);
  const { max_prompt_bytes: most } = SERVER_LIMITS;
  if (size > most) throw badField('messages', `${size} bytes; ${most} are allowed`);
  const ids = encode(instructions(start.tools, settings));
  start.messages.forEach((message, i) => {
    const role = enumValue(message.role, 'ROLE', undefined, `messages[${i}].role`).toLowerCase();
    ids.push(...encode(`<|im_start|>${role}\n`));
    message.parts.forEach((part, j) => {
      for (const id of encodePart(part, settings.bodyLanguage, `messages[${i}].parts[${j}]`)) ids.push(id);
    });
    ids.push(...encode('<|im_end|>\n'));
  });
  ids.push(...encode('<|im_start|>assistant\n'));
  return ids;
}

function instructions(tools, { instructions: which, bodyLanguage }) {
  if (which === 'NONE') return '';
  const list = tools.map(
    ({ name, description = '', parameters_json: schema = '{}' }) => `${name} ${schema} ${description}\n`,
  );
  return `${which === 'FULL' ? HOW_TO : ''}Bodies are in ${bodyLanguage}. Functions:\n${list.join('')}`;
}

function encodePart(part, bodyLanguage, field) {
  if (part.part === 'text') return encode(part.text); // Literal text, always [CML-070].
  if (part.part === 'cml') return parseCml(part.cml, bodyLanguage, `${field}.cml`).flatMap(encodeBlock);
  throw badField(field, 'a part is a text or cml');
}

/** Blocks of a text in CML's text form, which has to be well formed [CML-073]. */
function parseCml(text, bodyLanguage, field) {
  const unescaper = new Unescaper();
  const parser = new Parser(bodyLanguage, { textForm: true });
  const blocks = [];
  const read = (items, position) => {
    for (const item of items)
      blocks.push(...(typeof item === 'string' ? parser.text(item) : parser.control(item.control)));
    check(blocks.at(-1), field, position);
  };
  let position = 0;
  for (const character of text) read(unescaper.push(character), (position += character.length));
  read(unescaper.end(), position);
  blocks.push(...parser.end());
  check(blocks.at(-1), field, position);
  return blocks;
}

function check(block, field, position) {
  if (block?.kind !== 'malformed' && block?.kind !== 'stray') return;
  const why = block.kind === 'stray' ? `stray: [${block.control}] outside a block` : `${block.error}: ${block.message}`;
  throw fault('INVALID_ARGUMENT', 'BAD_CML', `${field}: ${cut(why, 200)}, before character ${position}`, field);
}

/** A block as ids. Nothing in a prompt is run or registered [CML-072]. */
function encodeBlock(block) {
  const [call, intr, trap, end, head] = ['CALL', 'INTR', 'TRAP', 'END', 'HEAD'].map(controlId);
  switch (block.kind) {
    case 'text':
      return encode(block.text);
    case 'call':
      return [call, ...(block.id ? [...encode(block.id), head] : []), ...encode(trim(block.raw)), end];
    case 'interrupt': {
      const source = block.status === 'ok' ? block.source : `${block.source}:${block.status}`;
      return [intr, ...encode(source), head, ...encode(block.payload), end];
    }
    default:
      return [trap, ...encode(trim(block.raw)), end];
  }
}
