// Text out of bytes: characters, stop strings, boundaries.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encode } from '../src/bytes.js';
import { StopMatcher } from '../src/stops.js';
import { StreamText } from '../src/text.js';
import { Utf8Decoder } from '../src/utf8.js';

const decode = (bytes) => {
  const decoder = new Utf8Decoder();
  return bytes.map((byte) => decoder.push(byte)).join('') + decoder.flush();
};

for (const bytes of [
  encode('aé漢𝄞'),
  [0xc3, 0x41],
  [0xe2, 0x82, 0x41],
  [0xf0, 0x9d, 0xc3, 0xa9],
  [0x80, 0xff, 0xc0, 0xaf],
  [0xed, 0xa0, 0x80],
  [0xe0, 0x80, 0x80],
  [0xf4, 0x90, 0x80, 0x80],
  [0xf0, 0x9d],
]) {
  test(`bytes ${Buffer.from(bytes).toString('hex')}`, () => {
    assert.equal(decode(bytes), new TextDecoder().decode(Uint8Array.from(bytes)));
  });
}

test('the longest of the stop strings that end together is told, and nothing of it is sent', () => {
  const stops = new StopMatcher(['op', 'stop', 'stone']);
  assert.deepEqual(stops.push('a sto'), { text: 'a ', stop: undefined });
  assert.deepEqual(stops.push('st'), { text: 'sto', stop: undefined });
  assert.deepEqual(stops.push('op!'), { text: '', stop: 'stop' });
});

test('words and sentences hold a safe point back', () => {
  const text = new StreamText([]);
  assert.equal(text.holds('WORD'), false);
  for (const byte of encode('Né')) text.outside(byte);
  assert.deepEqual([text.holds('TOKEN'), text.holds('WORD'), text.holds('SENTENCE')], [false, true, true]);
  for (const byte of encode('. ')) text.outside(byte);
  assert.deepEqual([text.holds('WORD'), text.holds('SENTENCE')], [false, false]);
});
