// Faults of an rpc: gRPC statuses with google.rpc details.

import { randomUUID } from 'node:crypto';
import grpc from '@grpc/grpc-js';
import protobuf from 'protobufjs';

export { cut } from './cut.js';

const { status: Status } = grpc;

const DETAILS = protobuf.parse(
  `
  syntax = "proto3";
  package google.rpc;
  message Any { string type_url = 1; bytes value = 2; }
  message Status { int32 code = 1; string message = 2; repeated Any details = 3; }
  message ErrorInfo { string reason = 1; string domain = 2; }
  message FieldViolation { string field = 1; string description = 2; }
  message BadRequest { repeated FieldViolation field_violations = 1; }
`,
  { keepCase: true },
).root;

function any(name, value) {
  const type = DETAILS.lookupType(`google.rpc.${name}`);
  return { type_url: `type.googleapis.com/google.rpc.${name}`, value: type.encode(type.create(value)).finish() };
}

/** A fault that ends its rpc. `reason` is one of the table in spec/draft/errors.md; `field` names what is at fault. */
export class RpcError extends Error {
  constructor(code, reason, message, field) {
    super(message);
    this.code = code;
    this.reason = reason;
    this.field = field;
  }

  /** What grpc-js takes as the end of an rpc: code, details and the details in binary form [ERR-003] [ERR-004]. */
  toStatus() {
    const details = [];
    if (this.reason) details.push(any('ErrorInfo', { reason: this.reason, domain: 'asynclm' }));
    if (this.code === Status.INVALID_ARGUMENT) {
      const violation = { field: this.field ?? '', description: this.message };
      details.push(any('BadRequest', { field_violations: [violation] }));
    }
    const metadata = new grpc.Metadata();
    const type = DETAILS.lookupType('google.rpc.Status');
    const encoded = type.encode(type.create({ code: this.code, message: this.message, details })).finish();
    metadata.set('grpc-status-details-bin', Buffer.from(encoded));
    return { code: this.code, details: this.message, metadata };
  }
}

export const badField = (field, message) =>
  new RpcError(Status.INVALID_ARGUMENT, 'BAD_FIELD', `${field}: ${message}`, field);
export const badEvent = (field, message) =>
  new RpcError(Status.INVALID_ARGUMENT, 'BAD_EVENT', `${field}: ${message}`, field);
export const badTool = (field, message) =>
  new RpcError(Status.INVALID_ARGUMENT, 'BAD_TOOL', `${field}: ${message}`, field);
export const unsupported = (field, message) =>
  new RpcError(Status.INVALID_ARGUMENT, 'UNSUPPORTED', `${field}: ${message}`, field);
export const fault = (code, reason, message, field) => new RpcError(Status[code], reason, message, field);

/** Any error as a status; what is not an RpcError is a fault of this program, told by an identifier only [ERR-006]. */
export function statusOf(error) {
  if (error instanceof RpcError) return error.toStatus();
  const incident = randomUUID();
  console.error(`internal error ${incident}:`, error);
  return new RpcError(Status.INTERNAL, undefined, `internal error; the server's log has it as ${incident}`).toStatus();
}

/** Refuses a message that could not be decoded. */
export function refuseUnreadable(request) {
  if (request.unreadable) {
    throw fault(
      'INVALID_ARGUMENT',
      'UNREADABLE',
      'the message cannot be read: it is damaged, or a text in it is not UTF-8',
    );
  }
}
