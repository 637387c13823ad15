// What a model can write when: the masks of the constraints.

import { EOS, controlOf } from './bytes.js';

const LEVELS = ['NONE', 'STATIC', 'GATES'];

/** Whether a level of constraints includes another. */
export const includes = (constraints, level) => LEVELS.indexOf(constraints) >= LEVELS.indexOf(level);

/**
 * Whether the mask in force forbids a token. Its place is told by the open block, the number of its `[HEAD]`, whether it
 * is over its limit, and whether a call is pending.
 */
export function forbids(id, { constraints, gateEnd, open, heads, onlyEnd, pending }) {
  const control = controlOf(id);
  if (onlyEnd) return control !== 'END'; // [SES-078]
  if (control === 'INTR') return true; // [SES-010]
  if (includes(constraints, 'STATIC')) {
    if (control === 'END' && !open) return true;
    if ((control === 'CALL' || control === 'TRAP' || id === EOS) && open) return true;
    if (control === 'HEAD' && !(open === 'CALL' && heads === 0)) return true;
  }
  if (includes(constraints, 'GATES')) {
    if (control === 'TRAP' && !pending) return true; // [SES-014]
    if (id === EOS && gateEnd && pending) return true; // [SES-015]
  }
  return false;
}
