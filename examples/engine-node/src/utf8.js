// Bytes to characters, one byte at a time.

/**
 * Holds back the bytes of an unfinished character, and turns bytes that cannot become one into U+FFFD [CML-055]: one
 * for each longest beginning of a character, as the Unicode standard recommends.
 */
export class Utf8Decoder {
  #bytes = [];
  #missing = 0;
  #low = 0x80;
  #high = 0xbf;

  /** Whether bytes are held back. */
  get pending() {
    return this.#missing > 0;
  }

  /** Takes one byte; returns the text that became readable with it. */
  push(byte) {
    if (this.#missing === 0) return this.#lead(byte);
    if (byte < this.#low || byte > this.#high) return this.flush() + this.#lead(byte);
    this.#bytes.push(byte);
    this.#low = 0x80;
    this.#high = 0xbf;
    this.#missing -= 1;
    if (this.#missing > 0) return '';
    const text = Buffer.from(this.#bytes).toString('utf8');
    this.#bytes = [];
    return text;
  }

  /** Gives up what is held back. */
  flush() {
    if (this.#missing === 0) return '';
    this.#bytes = [];
    this.#missing = 0;
    this.#low = 0x80;
    this.#high = 0xbf;
    return '\ufffd';
  }

  #lead(byte) {
    if (byte < 0x80) return String.fromCharCode(byte);
    if (byte < 0xc2 || byte > 0xf4) return '\ufffd';
    this.#bytes = [byte];
    this.#missing = byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3;
    // The second byte is bounded more narrowly where a longer spelling, a surrogate or a number too high would begin.
    this.#low = byte === 0xe0 ? 0xa0 : byte === 0xf0 ? 0x90 : 0x80;
    this.#high = byte === 0xed ? 0x9f : byte === 0xf4 ? 0x8f : 0xbf;
    return '';
  }
}
