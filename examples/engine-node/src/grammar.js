// The hash of the grammar files, which tells two parties whether they mean the same language.

import { createHash } from 'node:crypto';
import { readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { REPOSITORY } from './protos.js';

const folder = path.join(REPOSITORY, 'grammar');
const files = readdirSync(folder, { recursive: true }).filter((name) => name.endsWith('.lark'));

const hash = createHash('sha256');
for (const name of files.sort()) hash.update(readFileSync(path.join(folder, name)));

/** SHA-256 of all grammar files, one after the other in the order of their paths. */
export const grammarHash = hash.digest('hex');
