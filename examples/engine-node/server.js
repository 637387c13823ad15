#!/usr/bin/env node
// Starts the engine: `node server.js [--port N] [--drain-ms N]`.

import { parseArgs } from 'node:util';
import grpc from '@grpc/grpc-js';
import { EngineServer } from './src/server.js';

const USAGE = 'usage: node server.js [--port N] [--drain-ms N]';

function number(value, name, most) {
  const parsed = Number(value);
  if (Number.isInteger(parsed) && parsed >= 0 && parsed <= most) return parsed;
  throw new Error(`--${name} ${value} is not a number from 0 to ${most}`);
}

function readOptions() {
  const { values } = parseArgs({
    options: { port: { type: 'string', default: '50051' }, 'drain-ms': { type: 'string', default: '10000' } },
  });
  return { port: number(values.port, 'port', 65_535), drainMs: number(values['drain-ms'], 'drain-ms', 3_600_000) };
}

async function main() {
  if (!process.env.GRPC_VERBOSITY) grpc.setLogVerbosity(grpc.logVerbosity.NONE); // What goes wrong here is told below.
  let options;
  try {
    options = readOptions();
  } catch (error) {
    console.error(`${error.message}\n${USAGE}`);
    process.exit(2);
  }
  const server = new EngineServer();
  let port;
  try {
    port = await server.listen(options.port);
  } catch {
    // [ERR-045]
    console.error(`cannot listen on 127.0.0.1:${options.port}: is it in use? Choose another port with --port`);
    process.exit(1);
  }
  console.log(`listening on 127.0.0.1:${port}`);
  const stop = async () => {
    await server.stop(options.drainMs);
    process.exit(0);
  };
  process.once('SIGTERM', stop);
  process.once('SIGINT', stop);
}

await main();
