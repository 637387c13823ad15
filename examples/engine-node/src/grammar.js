// The hash of the grammar files, which tells two parties whether they mean the same language.

import { createHash } from 'node:crypto';
import { readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { REPOSITORY } from './protos.js';

const folder = path.join(REPOSITORY, 'grammar');
const files = readdirSync(folder, { recursive: true }).filter((name) => name.endsWith('.lark'));

const hash = createHash('sha256');
for (const name of files.map((file) => file.replaceAll(path.sep, '/')).sort()) {
  const content = readFileSync(path.join(folder, name));
  hash.update(`${name} ${content.length}\n`).update(content);
}

/** SHA-256 of the names, sizes and contents of all grammar files [WIRE-119]. */
export const grammarHash = hash.digest('hex');
