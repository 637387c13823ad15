// The messages and services of the wire, read from the repository's proto/ folder at run time.

import path from 'node:path';
import { fileURLToPath } from 'node:url';
import grpc from '@grpc/grpc-js';
import protoLoader from '@grpc/proto-loader';
import { protoPath as healthProto } from 'grpc-health-check';
import protobuf from 'protobufjs';

export const REPOSITORY = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../../..');

// A string that is not UTF-8 is refused [ERR-047]; protobufjs by itself would read it as U+FFFD and go on.
const strictUtf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
protobuf.BufferReader.prototype.string = function string() {
  return strictUtf8.decode(this.bytes());
};

const OPTIONS = {
  keepCase: true,
  longs: Number,
  enums: String, // A value that this revision does not know stays a number.
  defaults: true, // Only of fields without `optional`: those have presence [WIRE-005].
  arrays: true,
  objects: true,
  oneofs: true, // `event.event` names the member that is set.
  includeDirs: [path.join(REPOSITORY, 'proto')],
};

const OWN = ['asynclm/v1/inference.proto', 'asynclm/v1/control.proto', 'asynclm/conformance/v1/scripted_model.proto'];

const packageDefinition = protoLoader.loadSync(OWN, OPTIONS);

/** All that server reflection tells of, the health service included. */
export const reflected = { ...packageDefinition, ...protoLoader.loadSync(healthProto, OPTIONS) };

const root = grpc.loadPackageDefinition(packageDefinition).asynclm;

/**
 * A service whose handlers get `{ unreadable: error }` in place of a message that cannot be read, so that they, and not
 * the transport, choose the status.
 */
function readable(service) {
  const methods = Object.entries(service).map(([name, method]) => [
    name,
    {
      ...method,
      requestDeserialize(bytes) {
        try {
          return method.requestDeserialize(bytes);
        } catch (error) {
          return { unreadable: error };
        }
      },
    },
  ]);
  return Object.fromEntries(methods);
}

export const Inference = readable(root.v1.Inference.service);
export const Control = readable(root.v1.Control.service);
export const ScriptedModel = readable(root.conformance.v1.ScriptedModel.service);

/** Clients of the three services, for the tests. */
export const clients = {
  Inference: root.v1.Inference,
  Control: root.v1.Control,
  ScriptedModel: root.conformance.v1.ScriptedModel,
};
