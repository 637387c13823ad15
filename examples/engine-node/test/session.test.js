// Sessions over a real socket: calls, interrupts, traps, ends.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Target, words } from './client.js';

let target;
before(async () => {
  target = await new Target().open();
});
after(() => target.close());

const UNLIMITED = {};
const HELD = { credit: 0 };
const find = (events, kind) => events.filter((event) => event.event === kind).map((event) => event[kind]);

test('a call is emitted, dispatched, answered, and its result committed at the next safe point', async () => {
  const s = await target.session('Hi [CALL]a[HEAD]f(x=1.50, y=[True])[END] on<eos>', HELD);
  s.grant(3 + 1 + 1 + 1 + 19 + 1);
  const first = await s.rest();
  assert.deepEqual(words(first), ['"Hi [CALL]a[HEAD]f(x=1.50, y=[True])[END]"', 'call_emitted', 'call_dispatched']);
  assert.equal(find(first, 'call_dispatched')[0].arguments, '{"x":1.50,"y":[true]}');
  assert.equal(s.probed.state, 'STATE_DECODING');
  assert.deepEqual(s.probed.unresolved, ['a']);
  s.interrupt('a', '"<|end|> [END]"');
  assert.deepEqual(words(await s.rest()), ['interrupt_accepted']);
  assert.equal(s.probed.queued, 1);
  s.grant(100);
  const last = await s.until('finished');
  assert.deepEqual(words(last), ['interrupt_committed', 'call_settled', '" on<eos>"', 'finished']);
  const [committed] = find(last, 'interrupt_committed');
  assert.deepEqual(
    committed.ids.filter((id) => id > 255),
    [257, 260, 259],
  );
  const { finished } = last.at(-1);
  assert.equal(finished.reason, 'FINISH_REASON_STOP');
  assert.equal(finished.calls[0].delivery, 'DELIVERY_DELIVERED');
  assert.equal(finished.calls[0].token_index, 26);
  assert.equal(finished.usage.injected_tokens, committed.ids.length);
  assert.equal((await s.next()).status.code, 0);
});

test('events are numbered without gaps and tell the index of their first token', async () => {
  const s = await target.session('é[CALL]f()[END][TRAP][END]x<eos>', UNLIMITED);
  const events = [{ sequence: 1, token_index: 0 }, ...(await s.until('finished'))];
  let index = 0;
  events.forEach((event, i) => {
    assert.equal(event.sequence, i + 1);
    assert.equal(event.token_index, index);
    index += event[event.event]?.ids?.length ?? 0;
  });
});

test('references hold a call until what they name is resolved, and failures spread', async () => {
  const script = '[CALL]a[HEAD]f()[END][CALL]b[HEAD]send(to=a.mail[1])[END][CALL]c[HEAD]send(to=b)[END]<eos>';
  const s = await target.session(script, { credit: 200 });
  const first = await s.rest();
  assert.deepEqual(
    find(first, 'call_dispatched').map((call) => call.id),
    ['a'],
  );
  assert.equal(s.probed.state, 'STATE_DRAINING');
  s.interrupt('a', '{"mail": ["x", "k\\u0069m"]}');
  const second = await s.until('call_dispatched');
  assert.deepEqual(words(second), ['interrupt_accepted', 'state_changed', 'call_dispatched']);
  assert.equal(second.at(-1).call_dispatched.arguments, '{"to":"k\\u0069m"}');
  s.interrupt('b', '{"type": "t", "message": "m", "retryable": false}', { status: 'STATUS_ERROR' });
  const accepted = find(await s.until('finished'), 'interrupt_accepted');
  assert.deepEqual(
    accepted.map(({ source, status }) => [source, status]),
    [
      ['b', 'STATUS_ERROR'],
      ['c', 'STATUS_ERROR'],
    ],
  );
});

test('a trap stops decoding until its condition holds', async () => {
  const s = await target.session('[CALL]a[HEAD]f()[END][CALL]b[HEAD]f()[END][TRAP]a, b within 5[END]z<eos>', UNLIMITED);
  await s.until('trap_entered');
  s.interrupt('b', '1');
  assert.deepEqual(words(await s.rest()), ['interrupt_accepted']);
  assert.equal(s.probed.state, 'STATE_TRAPPED');
  s.interrupt('a', '2');
  const events = await s.until('finished');
  const settled = ['interrupt_committed', 'call_settled'];
  assert.deepEqual(words(events), [
    'interrupt_accepted',
    'trap_exited',
    ...settled,
    ...settled,
    '"z<eos>"',
    'finished',
  ]);
});

test('the time of a trap runs on the manual clock', async () => {
  const s = await target.session('[CALL]a[HEAD]f()[END][TRAP]a within 1.5[END]z', {
    limits: { max_call_time_ms: 2000 },
    credit: 40,
  });
  await s.rest();
  await s.advance(1499);
  assert.deepEqual(words(await s.rest()), []);
  await s.advance(1);
  const events = await s.until('trap_exited');
  assert.equal(events.at(-1).time_ms, 1500);
  assert.equal(events.at(-1).trap_exited.timed_out, true);
  assert.equal(find(events, 'interrupt_accepted')[0].source, '@runtime');
  await s.advance(500);
  const [accepted] = find(await s.until('call_cancel_requested'), 'interrupt_accepted');
  assert.deepEqual([accepted.source, accepted.status], ['a', 'STATUS_TIMEOUT']);
  s.cancel();
});

test('empty traps are told to the model, and stall a session', async () => {
  const s = await target.session('[TRAP]x[END][TRAP][END][TRAP]all within 3[END]', UNLIMITED);
  const events = await s.until('finished');
  assert.deepEqual(
    find(events, 'trap_exited').map(({ empty }) => empty),
    [true, true, true],
  );
  assert.equal(events.at(-1).finished.reason, 'FINISH_REASON_STALLED');
});

test('the mask consumes what it forbids and charges nothing', async () => {
  const s = await target.session('[END][TRAP]a[INTR]<eos>', { constraints: 'CONSTRAINTS_GATES', credit: 2 });
  const events = await s.until('finished');
  assert.deepEqual(words(events), ['notice', 'notice', '"a"', 'notice', '"<eos>"', 'finished']);
  assert.equal(events.at(-1).finished.usage.sampled_tokens, 2);
});

test('malformed blocks are answered under their id, or by the engine', async () => {
  const script =
    '[CALL]a[HEAD]f([END][CALL]1b[HEAD]f()[END][CALL]a[HEAD]f()[END][CALL]g()[END][CALL]c[HEAD]send()[END][END]';
  const s = await target.session(script, { credit: 1000, on_end: 'ON_END_DETACH' });
  const { finished } = (await s.until('finished')).at(-1);
  const types = finished.interrupts.map(({ source, payload }) => [source, payload && JSON.parse(payload).type]);
  assert.deepEqual(
    finished.calls.map(({ result }) => result),
    Array(5).fill('RESULT_ERROR'),
  );
  assert.deepEqual(
    types.map(([source]) => source),
    ['a', '@runtime', '@runtime', '@runtime', 'c'],
  );
});

test('a client is told why its interrupt was not taken', async () => {
  const s = await target.session('[CALL]a[HEAD]f()[END][CALL]b[HEAD]f(x=a)[END][CALL]f()[END]', { credit: 36 });
  await s.rest();
  s.interrupt('@runtime', 'x')
    .interrupt('no', '1')
    .interrupt('b', '1')
    .interrupt('@user', 'x', { status: 'STATUS_ERROR' });
  s.interrupt('a', '1', { status: 'STATUS_TIMEOUT' })
    .interrupt('a', '{')
    .interrupt('a', '{}', { status: 'STATUS_PROGRESS' });
  s.send({ interrupt: { call_index: 2, payload: '1' } })
    .interrupt('a', '1')
    .interrupt('a', '2');
  const events = await s.rest();
  assert.deepEqual(
    find(events, 'interrupt_rejected').map(({ reason }) => reason.slice('REJECT_REASON_'.length)),
    [
      'BAD_SOURCE',
      'UNKNOWN_ID',
      'NOT_DISPATCHED',
      'BAD_STATUS',
      'BAD_STATUS',
      'BAD_PAYLOAD',
      'BAD_PAYLOAD',
      'ALREADY_RESOLVED',
      'ALREADY_RESOLVED',
    ],
  );
  s.cancel();
});

test('calls are cancelled by the client and by the model', async () => {
  const s = await target.session(
    '[CALL]a[HEAD]f()[END][CALL]b[HEAD]send(to="x")[END][CALL]c[HEAD]cml.cancel(id="a")[END]',
    { credit: 70 },
  );
  const [first] = find(await s.rest(), 'cancel_outcome');
  assert.deepEqual([first.outcome, first.origin], ['OUTCOME_CANCELLED', 'CANCEL_ORIGIN_MODEL']);
  for (const id of ['a', 'b', 'x']) s.send({ cancel_call: { id } });
  const outcomes = find(await s.rest(), 'cancel_outcome').map(({ outcome }) => outcome.slice('OUTCOME_'.length));
  assert.deepEqual(outcomes, ['TOO_LATE', 'NOT_CANCELLABLE', 'NOT_FOUND']);
  s.cancel();
});

test('a stop string ends decoding and is not sent', async () => {
  const s = await target.session('one sto. stop two', { stop: ['stop', 'op'] });
  const events = await s.until('finished');
  assert.equal(
    find(events, 'tokens')
      .map(({ text }) => text)
      .join(''),
    'one sto. ',
  );
  assert.equal(events.at(-1).finished.stop_string, 'stop');
});

test('SYNC blocks after every named call; SYNC_PARALLEL dispatches at the trap', async () => {
  const s = await target.session('[CALL]a[HEAD]f()[END]x<eos>', { mode: 'EXECUTION_MODE_SYNC' });
  const entered = (await s.until('trap_entered')).at(-1).trap_entered;
  assert.deepEqual([entered.implicit, entered.trap.ids], [true, ['a']]);
  const p = await target.session('[CALL]a[HEAD]f()[END][CALL]b[HEAD]f()[END][TRAP]any a, b[END]x<eos>', {
    mode: 'EXECUTION_MODE_SYNC_PARALLEL',
  });
  const dispatched = ['call_dispatched', 'call_dispatched', 'trap_entered'];
  assert.deepEqual(
    words(await p.until('trap_entered')).slice(-4),
    ['any a, b[END]"', ...dispatched].map((word) => (word.endsWith('"') ? `"[TRAP]${word}` : word)),
  );
  p.interrupt('a', '1');
  assert.deepEqual(words(await p.rest()), ['interrupt_accepted']);
  s.cancel();
  p.cancel();
});

test('KEEP makes a chat one session; a half-close ends it', async () => {
  const s = await target.session('Hi<eos>you<eos>', { on_end: 'ON_END_KEEP' });
  assert.equal((await s.until('state_changed')).at(-1).state_changed.state, 'STATE_IDLE');
  s.interrupt('@user', 'and?');
  const events = await s.until('state_changed');
  assert.deepEqual(words(events), ['interrupt_accepted', 'state_changed']);
  assert.deepEqual(words(await s.until('state_changed')), ['interrupt_committed', '"you<eos>"', 'state_changed']);
  s.close();
  assert.equal((await s.until('finished')).at(-1).finished.reason, 'FINISH_REASON_STOP');
});

test('granularity and coalesce hold a safe point back', async () => {
  const s = await target.session('word here.', { granularity: 'GRANULARITY_WORD', credit: 2 });
  await s.rest();
  s.interrupt('@user', 'x').grant(3);
  assert.deepEqual(words(await s.rest()), ['interrupt_accepted', '"rd "']);
  s.grant(1);
  assert.deepEqual(words(await s.rest()), ['interrupt_committed', '"h"']);
  const c = await target.session('[CALL]a[HEAD]f()[END][CALL]b[HEAD]f()[END][TRAP]any a, b[END]x', {
    coalesce_ms: 100,
  });
  await c.until('trap_entered');
  c.interrupt('a', '1');
  assert.deepEqual(words(await c.rest()), ['interrupt_accepted', 'trap_exited']);
  await c.advance(100);
  assert.deepEqual(words(await c.until('tokens')), ['interrupt_committed', 'call_settled', '"x"']);
  s.cancel();
  c.cancel();
});

test('a faulty event ends the stream with a status that names the field', async () => {
  const s = await target.session('x', HELD);
  s.send({ grant: { tokens: 0 } });
  const { status } = await s.next();
  assert.equal(status.code, 3);
  assert.match(status.details, /grant\.tokens/);
  assert.ok(status.metadata.get('grpc-status-details-bin')[0].includes('BAD_FIELD'));
  const { finished } = await target.ask('GetSession', { session_id: s.started.session_id });
  assert.equal(finished.reason, 'FINISH_REASON_DISCONNECTED');
  const gap = await target.session('x', HELD);
  gap.send({ probe: { nonce: 'x' } }, 7);
  assert.match((await gap.next()).status.details, /client_seq/);
});

test('Start is checked as a whole', async () => {
  const refused = async (start, pattern, code = 3) => {
    await assert.rejects(target.session('x', start), (error) => {
      assert.match(error.message, pattern);
      assert.match(error.message, new RegExp(`"code":${code}`));
      return true;
    });
  };
  await refused({ model: 'scripted' }, /script/, 5);
  await refused({ model: 'gpt' }, /scripted/, 5);
  await refused({ messages: [] }, /messages/);
  await refused({ constraints: 'CONSTRAINTS_GRAMMAR' }, /constraints/);
  await refused({ limits: { max_queued: 0 } }, /limits\.max_queued/);
  await refused({ tools: [{ name: 'cml.x' }] }, /tools\[0\]\.name/);
  await refused({ tools: [{ name: 'x', parameters_json: '{"type":"array"}' }] }, /parameters_json/);
  await refused({ messages: [{ role: 'ROLE_USER', parts: [{ cml: 'a [END]' }] }] }, /messages\[0\]\.parts\[0\]/);
});

test('Control lists, shows and aborts sessions; Reset ends them', async () => {
  const s = await target.session('[CALL]a[HEAD]f()[END]x', { ...HELD, labels: { who: 'me' } });
  const id = s.started.session_id;
  s.grant(8);
  await s.rest();
  const page = await target.ask('ListSessions', { page_size: 1000 });
  const mine = page.sessions.find(({ session_id: other }) => other === id);
  assert.deepEqual([mine.labels, mine.pending_calls, mine.attached], [{ who: 'me' }, 1, true]);
  assert.deepEqual((await target.ask('AbortSessions', { session_ids: [id, 'x'] })).aborted, [id]);
  const events = await s.until('finished');
  assert.deepEqual(words(events), ['call_cancel_requested', 'call_settled', 'finished']);
  assert.equal(events.at(-1).finished.calls[0].result, 'RESULT_CANCELLED');
});

test('Generate plays a script without a way back', async () => {
  await target.ask('LoadScript', { id: 'plain', steps: [{ text: 'Hello' }] });
  const start = { model: 'script:plain', messages: [{ role: 'ROLE_USER', parts: [{ text: 'x' }] }] };
  const stream = target.inference.Generate({ start });
  const events = [];
  for await (const event of stream) events.push(event);
  assert.deepEqual(words(events), ['started', '"Hello<eos>"', 'finished']);
});

test('json_call keeps references apart from data', async () => {
  const a = '[CALL]a[HEAD]{"name":"f","arguments":{"x":1e2}}[END]';
  const b = '[CALL]b[HEAD]{"name":"send","refs":{"to":"a"}}[END]';
  const s = await target.session(`${a}${b}`, { body_language: 'BODY_LANGUAGE_JSON_CALL', credit: 83 });
  const events = await s.rest();
  assert.deepEqual(find(events, 'call_emitted').at(-1).references, [{ id: 'a', path: [] }]);
  assert.deepEqual(
    find(events, 'call_dispatched').map((call) => call.arguments),
    ['{"x":1e2}'],
  );
  s.cancel();
});

test('a block over its limit takes nothing but [END], and is judged as it stands', async () => {
  const s = await target.session('[CALL]f(x=1)[TRAP][END]ok', { limits: { max_block_tokens: 3 }, credit: 6 });
  const events = await s.rest();
  const codes = find(events, 'notice').map(({ code }) => code.slice('NOTICE_CODE_'.length));
  assert.deepEqual(codes, ['BLOCK_LIMIT', 'MASKED', 'MASKED', 'MALFORMED_BLOCK']);
  assert.deepEqual(words(events).slice(-1), ['"o"']);
  assert.equal(find(events, 'interrupt_committed')[0].source, '@runtime');
  s.cancel();
});

test('max_new_tokens ends a session in any state, and a trap is not entered', async () => {
  const s = await target.session('[CALL]a[HEAD]f()[END][TRAP]a[END]', { limits: { max_new_tokens: 10 } });
  const events = await s.until('finished');
  assert.deepEqual(find(events, 'trap_entered'), []);
  const { reason, calls } = events.at(-1).finished;
  assert.equal(reason, 'FINISH_REASON_LENGTH');
  assert.equal(calls[0].reason, 'UNDELIVERED_REASON_DETACHED');
});

test('after a half-close calls of the client are cancelled, and the session goes on', async () => {
  const s = await target.session('[CALL]a[HEAD]f()[END][TRAP]a[END]well<eos>', {});
  await s.until('trap_entered');
  s.close();
  const { finished } = (await s.until('finished')).at(-1);
  assert.deepEqual([finished.reason, finished.calls[0].result], ['FINISH_REASON_STOP', 'RESULT_CANCELLED']);
});

test('a payload over the limit is handed back, and resolves its call', async () => {
  const s = await target.session('[CALL]a[HEAD]f()[END]', { limits: { max_payload_bytes: 4 }, credit: 7 });
  await s.rest();
  s.interrupt('a', '"long"');
  assert.deepEqual(words(await s.rest()), ['interrupt_rejected', 'interrupt_accepted']);
  assert.deepEqual(s.probed.unresolved, []);
  s.cancel();
});

test('arguments are copied where a tool asks for it', async () => {
  const schema = { type: 'object', properties: { to: { type: 'string', 'x-asynclm-copy': 'any' } } };
  const tools = [{ name: 'mail', parameters_json: JSON.stringify(schema) }];
  const script = '[CALL]mail(to="Hell")[END][CALL]mail(to="hello")[END]';
  const s = await target.session(script, { tools, credit: 40 });
  const events = await s.rest();
  assert.deepEqual(
    find(events, 'call_dispatched').map(({ index }) => index),
    [0],
  );
  s.cancel();
});
