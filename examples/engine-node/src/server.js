// The gRPC server: its services, health and reflection, and how it stops.

import grpc from '@grpc/grpc-js';
import { ReflectionService } from '@grpc/reflection';
import { HealthImplementation } from 'grpc-health-check';
import { control, scriptedModel } from './control.js';
import { inference } from './inference.js';
import { SERVER_LIMITS } from './limits.js';
import { Control, Inference, ScriptedModel, reflected } from './protos.js';
import { Scripts } from './script.js';
import { Sessions } from './sessions.js';

const SERVICES = [
  'asynclm.v1.Inference',
  'asynclm.v1.Control',
  'asynclm.conformance.v1.ScriptedModel',
  'grpc.health.v1.Health',
  'grpc.reflection.v1.ServerReflection',
  'grpc.reflection.v1alpha.ServerReflection',
];

const CLOSING_MS = 1000;

export class EngineServer {
  #grpc = new grpc.Server({ 'grpc.max_receive_message_length': SERVER_LIMITS.max_message_bytes });
  #health = new HealthImplementation();
  #scripts = new Scripts();
  #sessions = new Sessions();

  constructor() {
    this.#grpc.addService(Inference, inference(this));
    this.#grpc.addService(Control, control(this.#sessions));
    this.#grpc.addService(ScriptedModel, scriptedModel(this.#sessions, this.#scripts));
    this.#health.addToServer(this.#grpc);
    new ReflectionService(reflected, { services: SERVICES }).addToServer(this.#grpc);
  }

  startSession(start, out) {
    this.#sessions.checkRoom();
    const session = this.#sessions.create(start, this.#scripts);
    session.begin(out);
    return session;
  }

  /** Listens on loopback, in plaintext [SEC-040]; returns the port. */
  async listen(port) {
    const bind = (resolve, reject) =>
      this.#grpc.bindAsync(`127.0.0.1:${port}`, grpc.ServerCredentials.createInsecure(), (error, bound) =>
        error ? reject(error) : resolve(bound),
      );
    const bound = await new Promise(bind);
    this.#report('SERVING');
    return bound;
  }

  /** Takes no new sessions, lets those that run go on for `ms`, and ends them [WIRE-130]. */
  async stop(ms) {
    this.#report('NOT_SERVING');
    await this.#sessions.drain(ms);
    // Watchers of health never end by themselves.
    const force = setTimeout(() => this.#grpc.forceShutdown(), CLOSING_MS);
    await new Promise((resolve) => this.#grpc.tryShutdown(resolve));
    clearTimeout(force);
  }

  #report(status) {
    for (const service of ['', ...SERVICES]) this.#health.setStatus(service, status); // [WIRE-004]
  }
}
