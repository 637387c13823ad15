// What a sampled token does: the text and the blocks that it brings, and what follows from them.

import { EOS, controlOf } from './bytes.js';
import { Parser } from './parser.js';
import { StreamText } from './text.js';

export class TokenReader {
  #core;
  #blockTokens = 0; // Sampled after the opening token of the open block.
  #onlyEnd = false; // The open block is over its limit.

  constructor(core) {
    this.#core = core;
    this.text = new StreamText(core.settings.stop);
    this.parser = new Parser(core.settings.bodyLanguage);
  }

  /** The place in the stream, for the mask. */
  get place() {
    const { open, heads } = this.parser;
    return { open, heads, onlyEnd: this.#onlyEnd };
  }

  /** Reads a token that was sampled; `limited`: it has reached `max_new_tokens`. */
  read(id, limited) {
    const control = controlOf(id);
    if (control) this.#control(id, control, limited);
    else if (id === EOS) this.#endOfSequence(limited);
    else this.#byte(id, limited);
  }

  #tokens(id, text, inBlock, more = {}) {
    const block = inBlock && `CONTROL_TOKEN_${inBlock}`;
    this.#core.effects.add('tokens', { tokens: { ids: [id], text, in_block: block, ...more } }, 1);
  }

  #byte(id, limited) {
    const inBlock = this.parser.open;
    if (inBlock) {
      const text = this.text.inside(id);
      this.parser.text(text);
      this.#tokens(id, text, inBlock);
      this.#goOn({ limited });
      return;
    }
    const { text, stop } = this.text.outside(id);
    const last = limited && stop === undefined ? this.text.flush() : ''; // Nothing comes that could complete it.
    this.#tokens(id, text + last, inBlock);
    if (stop === undefined) this.#goOn({ limited });
    else if (this.#core.settings.onEnd === 'KEEP')
      this.#core.waits.rest('a stop string was written', { limited, stopString: stop });
    else this.#core.finish('STOP_STRING', { stopString: stop }); // [SES-103] [SES-105]
  }

  #control(id, control, limited) {
    const inBlock = this.parser.open;
    const text = this.text.flush();
    this.parser.text(inBlock ? text : '');
    this.#tokens(id, text, inBlock, { control: `CONTROL_TOKEN_${control}` });
    const blocks = this.parser.control(control);
    if (this.parser.open !== inBlock || blocks.length > 0) this.#blockTokens = -1;
    if (inBlock && blocks.length > 0) this.#onlyEnd = false;
    if (inBlock && !this.parser.open) this.text.boundary(); // [INT-050]
    const [trap] = blocks.map((block) => this.#block(block, control === 'END')).filter(Boolean);
    this.#goOn({ limited, trap });
  }

  /** A block has closed, or a token is stray. Returns the trap that begins with it, as arguments of `enterTrap`. */
  #block(block, ended) {
    if (block.kind === 'stray') {
      this.#core.notice('STRAY', `[${block.control}] stands outside a block and is dropped`); // [CML-063]
      return undefined;
    }
    if (block.kind === 'trap') return [block];
    if (block.kind === 'malformed') this.#core.notice('MALFORMED_BLOCK', `${block.error}: ${block.message}`);
    if (block.block === 'trap') {
      this.#core.waits.refuseTrap(block.message);
      return undefined;
    }
    const { id } = this.#core.calls.emit(block);
    const implied = ended && id !== undefined && this.#core.settings.mode === 'SYNC';
    return implied ? [{ quantifier: 'all', ids: [id] }, { implicit: true }] : undefined;
  }

  #endOfSequence(limited) {
    const inBlock = this.parser.open;
    const text = this.text.flush();
    this.parser.text(inBlock ? text : '');
    this.#tokens(EOS, text, inBlock, { end_of_sequence: true });
    for (const block of this.parser.end()) this.#block(block, false); // [ERR-021]
    this.#onlyEnd = false;
    this.#core.waits.rest('end of sequence', { limited });
  }

  /** The session ends: text that is held back has nothing to wait for any more [WIRE-067]. */
  giveUp() {
    const text = this.text.flush();
    if (text === '') return;
    const block = this.parser.open && `CONTROL_TOKEN_${this.parser.open}`;
    this.#core.effects.add('tokens', { tokens: { ids: [], text, in_block: block } });
  }

  /** What follows a token: the limit of tokens, a trap, the limit of a block. */
  #goOn({ limited, trap }) {
    if (limited && this.#core.settings.onEnd === 'KEEP' && !this.parser.open) {
      this.#core.waits.rest('max_new_tokens'); // [SES-077]
    } else if (limited) {
      this.#core.finish('LENGTH', { message: 'max_new_tokens' });
    } else if (trap) {
      this.#core.waits.enterTrap(...trap);
    } else if (this.parser.open) {
      this.#blockTokens += 1;
      if (this.#blockTokens < this.#core.limits.max_block_tokens || this.#onlyEnd) return;
      this.#onlyEnd = true;
      this.#core.notice('BLOCK_LIMIT', `a block has ${this.#blockTokens} tokens; only [END] can follow`); // [SES-078]
    }
  }
}
