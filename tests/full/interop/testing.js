// The interop contract as grpc-js has it, and the flags of the command line.
'use strict';

const path = require('node:path');
const { parseArgs } = require('node:util');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const proto = path.join(__dirname, '../../interop/testing.proto');
const definition = loader.loadSync(proto, { keepCase: true, arrays: true });
const { testing } = grpc.loadPackageDefinition(definition).grpc;

const zeros = (size) => ({ body: Buffer.alloc(size) });

const flags = (...names) => {
  const options = Object.fromEntries(names.map((name) => [name, { type: 'string' }]));
  return parseArgs({ options }).values;
};

module.exports = { flags, grpc, testing, zeros };
