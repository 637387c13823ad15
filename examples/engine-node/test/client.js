// A client for the tests: a server on a free port, scripts, and sessions that are read event by event.

import grpc from '@grpc/grpc-js';
import { clients } from '../src/protos.js';
import { EngineServer } from '../src/server.js';

const CONTROLS = /\[(CALL|INTR|TRAP|END|HEAD)\]|<eos>/;

/** Steps of a script out of text in which control tokens are spelled, and `<eos>`; one step for each token or text. */
export function steps(script) {
  const found = [];
  for (let rest = script; rest !== '';) {
    const match = CONTROLS.exec(rest);
    if (!match || match.index > 0) found.push({ text: match ? rest.slice(0, match.index) : rest });
    if (match) found.push(match[1] ? { control: `CONTROL_TOKEN_${match[1]}` } : { end_of_sequence: {} });
    rest = match ? rest.slice(match.index + match[0].length) : '';
  }
  return found;
}

/** A server that the tests of one file share. */
export class Target {
  #server = new EngineServer();
  #loaded = 0;

  async open() {
    const address = `127.0.0.1:${await this.#server.listen(0)}`;
    const credentials = grpc.credentials.createInsecure();
    this.inference = new clients.Inference(address, credentials);
    this.control = new clients.Control(address, credentials);
    this.scripts = new clients.ScriptedModel(address, credentials);
    return this;
  }

  async close() {
    for (const client of [this.inference, this.control, this.scripts]) client.close();
    await this.#server.stop(0);
  }

  /** A unary rpc of Control or ScriptedModel. */
  ask(method, request = {}) {
    const client = method in this.control ? this.control : this.scripts;
    return new Promise((resolve, reject) =>
      client[method](request, (error, response) => (error ? reject(error) : resolve(response))),
    );
  }

  /** A session on a script, started with tools `f` (any arguments) and `send` (one string `to`). */
  async session(script, start = {}) {
    const id = `s${(this.#loaded += 1)}`;
    await this.ask('LoadScript', { id, steps: steps(script) });
    return this.open_session({
      model: `script:${id}`,
      messages: USER,
      tools: TOOLS,
      constraints: 'CONSTRAINTS_NONE',
      ...start,
    });
  }

  async open_session(start) {
    const session = new TestSession(this, this.inference.Session());
    session.send({ start });
    session.started = (await session.until('started')).at(-1).started;
    return session;
  }
}

const USER = [{ role: 'ROLE_USER', parts: [{ text: 'Hello' }] }];
const TOOLS = [
  { name: 'f', parameters_json: '{"type":"object"}', parameter_order: [] },
  {
    name: 'send',
    parameters_json:
      '{"type":"object","properties":{"to":{"type":"string"}},"required":["to"],"additionalProperties":false}',
    cancellable: false,
  },
];

/** The client's side of a session. */
class TestSession {
  #stream;
  #events = [];
  #wake = () => {};
  #seq = 0;
  status = undefined;

  constructor(target, stream) {
    this.target = target;
    this.#stream = stream;
    stream.on('data', (event) => this.#push(event));
    stream.on('error', () => {});
    stream.on('status', (status) => {
      this.status = status;
      this.#push({ event: 'status', status });
    });
  }

  #push(event) {
    this.#events.push(event);
    this.#wake();
  }

  send(event, seq = (this.#seq += 1)) {
    this.#stream.write({ client_seq: seq, ...event });
    return this;
  }

  interrupt(source, payload, more = {}) {
    return this.send({ interrupt: { source, payload, ...more } });
  }

  grant(tokens) {
    return this.send({ grant: { tokens } });
  }

  close() {
    this.#stream.end();
    return this;
  }

  cancel() {
    this.#stream.cancel();
  }

  async next() {
    while (this.#events.length === 0) await new Promise((resolve) => (this.#wake = resolve));
    return this.#events.shift();
  }

  /** The events up to one of a kind, that one included. */
  async until(kind) {
    const events = [];
    for (;;) {
      const event = await this.next();
      events.push(event);
      if (event.event === kind) return events;
      if (event.event === 'status') throw new Error(`the rpc ended before ${kind}: ${JSON.stringify(event.status)}`);
    }
  }

  /** The events up to the answer of a probe, which is left out unless it is asked for. */
  async rest() {
    this.send({ probe: { nonce: 'rest' } });
    const events = await this.until('probed');
    this.probed = events.at(-1).probed;
    return events.slice(0, -1);
  }

  advance(ms) {
    return this.target.ask('Advance', { session_id: this.started.session_id, ms });
  }
}

/** Events as short words: kinds, with neighbouring Tokens as one text. */
export function words(events) {
  const found = [];
  for (const event of events) {
    if (event.event !== 'tokens') found.push(event.event);
    else {
      const { text, control, end_of_sequence: eos } = event.tokens;
      const name = control === 'CONTROL_TOKEN_UNSPECIFIED' ? '' : `[${control.slice('CONTROL_TOKEN_'.length)}]`;
      const piece = `${text}${name}${eos ? '<eos>' : ''}`;
      if (found.at(-1)?.startsWith('"')) found.push(`${found.pop()}${piece}`);
      else found.push(`"${piece}`);
    }
  }
  return found.map((word) => (word.startsWith('"') ? `${word}"` : word));
}
