// The interop service on grpc-js. Prints where it listens, as our servers do.
'use strict';

const fs = require('node:fs');
const { flags, grpc, testing, zeros } = require('./testing');

const echo = (sent, name) => {
  const metadata = new grpc.Metadata();
  sent.get(name).forEach((value) => metadata.add(name, value));
  return metadata;
};

const initial = (call) => call.sendMetadata(echo(call.metadata, 'x-grpc-test-echo-initial'));
const trailing = (call) => echo(call.metadata, 'x-grpc-test-echo-trailing-bin');
const asError = ({ code, message }) => ({ code, details: message });

const service = {
  EmptyCall: (call, done) => done(null, {}),

  UnaryCall(call, done) {
    const { response_size, response_status } = call.request;
    initial(call);
    if (response_status?.code) return done(asError(response_status));
    done(null, { payload: zeros(response_size) }, trailing(call));
  },

  StreamingOutputCall(call) {
    call.request.response_parameters.forEach(({ size }) => call.write({ payload: zeros(size) }));
    call.end();
  },

  StreamingInputCall(call, done) {
    let size = 0;
    call.on('data', ({ payload }) => (size += payload.body.length));
    call.on('end', () => done(null, { aggregated_payload_size: size }));
  },

  FullDuplexCall(call) {
    initial(call);
    call.on('data', ({ response_parameters, response_status }) => {
      if (response_status?.code) return call.emit('error', asError(response_status));
      response_parameters.forEach(({ size }) => call.write({ payload: zeros(size) }));
    });
    call.on('end', () => call.end(trailing(call)));
  },
};

const credentials = ({ 'tls-cert': cert, 'tls-key': key, 'tls-client-ca': ca }) => {
  if (!cert) return grpc.ServerCredentials.createInsecure();
  const pair = { private_key: fs.readFileSync(key), cert_chain: fs.readFileSync(cert) };
  return grpc.ServerCredentials.createSsl(ca ? fs.readFileSync(ca) : null, [pair], Boolean(ca));
};

const server = new grpc.Server();
server.addService(testing.TestService.service, service);
const secured = credentials(flags('tls-cert', 'tls-key', 'tls-client-ca'));
server.bindAsync('127.0.0.1:0', secured, (error, port) => {
  if (error) throw error;
  console.log(JSON.stringify({ grpc: `127.0.0.1:${port}` }));
});
