// The interop cases as grpc-js plays them: a line for each, `CASE ok`, `CASE failed: why`, or
// `CASE n/a: why` where grpc-js has no way to say or see what the case is about.
'use strict';

const assert = require('node:assert/strict');
const { once } = require('node:events');
const fs = require('node:fs');
const { flags, grpc, testing, zeros } = require('./testing');

const { status } = grpc;
const GZIP = { 'grpc.default_compression_algorithm': grpc.compressionAlgorithms.gzip };
const NO_COMPRESS = 2;
const CONCURRENCY = 1000;
const ITERATIONS = 100;
const LONGEST_CALL = 1000;
const REQUESTS = [27182, 8, 1828, 45904];
const RESPONSES = [31415, 9, 2653, 58979];
const INITIAL = ['x-grpc-test-echo-initial', 'test_initial_metadata_value'];
const TRAILING = ['x-grpc-test-echo-trailing-bin', Buffer.from([0xab, 0xab, 0xab])];

// What the library cannot do, after what it can do of a case has gone well.
class NotApplicable extends Error {}
const HIDDEN = 'grpc-js does not tell whether a message came packed';

const patience = () => ({ deadline: Date.now() + 60_000 });
const large = (more) => ({ response_size: 314159, payload: zeros(271828), ...more });
const said = (value) => ({ value });
const ping = (size, answer) => ({ payload: zeros(size), response_parameters: [{ size: answer }] });

const holds = ({ payload }, size) => {
  assert.equal(payload.body.length, size);
  assert(payload.body.equals(Buffer.alloc(size)));
};

// The status and the metadata of a call, whatever they are.
const following = async (call) => {
  const [[initial], [{ code, details, metadata }]] = await Promise.all([
    once(call, 'metadata'),
    once(call, 'status'),
  ]);
  return { initial, code, details, trailing: metadata };
};

// The response of a unary call or a client stream. `begin` makes the call with what it is given.
const response = (begin) =>
  new Promise((resolve, reject) => {
    begin(patience(), (error, message) => (error ? reject(error) : resolve(message)));
  });

const unary = (stub, request) =>
  response((options, done) => stub.UnaryCall(request, options, done));

const ended = async (call, code) => {
  const error = await call.then(
    () => assert.fail(`the call went well, and ${status[code]} was expected`),
    (error) => error,
  );
  assert.equal(error.code, code, error.message);
  return error;
};

const all = async (stream) => {
  const messages = [];
  for await (const message of stream) messages.push(message);
  return messages;
};

const soak = async (call) => {
  for (let i = 0; i < ITERATIONS; i++) {
    const begun = performance.now();
    await call();
    const took = performance.now() - begun;
    assert(took <= LONGEST_CALL, `a call took ${took} ms`);
  }
};

const CASES = {
  async empty_unary(stub) {
    await response((options, done) => stub.EmptyCall({}, options, done));
  },

  async large_unary(stub) {
    holds(await unary(stub, large()), 314159);
  },

  async client_streaming(stub) {
    const { aggregated_payload_size } = await response((options, done) => {
      const call = stub.StreamingInputCall(options, done);
      REQUESTS.forEach((size) => call.write({ payload: zeros(size) }));
      call.end();
    });
    assert.equal(aggregated_payload_size, 74922);
  },

  async server_streaming(stub) {
    const request = { response_parameters: RESPONSES.map((size) => ({ size })) };
    const responses = await all(stub.StreamingOutputCall(request, patience()));
    assert.equal(responses.length, RESPONSES.length);
    responses.forEach((response, i) => holds(response, RESPONSES[i]));
  },

  async ping_pong(stub) {
    const call = stub.FullDuplexCall(patience());
    const pongs = call[Symbol.asyncIterator]();
    for (const [i, size] of REQUESTS.entries()) {
      call.write(ping(size, RESPONSES[i]));
      holds((await pongs.next()).value, RESPONSES[i]);
    }
    call.end();
    assert((await pongs.next()).done);
  },

  async empty_stream(stub) {
    const call = stub.FullDuplexCall(patience());
    call.end();
    assert.deepEqual(await all(call), []);
  },

  async status_code_and_message(stub) {
    const response_status = { code: 2, message: 'test status message' };
    const error = await ended(unary(stub, { response_status }), status.UNKNOWN);
    assert.equal(error.details, response_status.message);
    const call = stub.FullDuplexCall(patience());
    call.end({ response_status });
    const { details } = await ended(all(call), status.UNKNOWN);
    assert.equal(details, response_status.message);
  },

  async special_status_message(stub) {
    const message = '\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n';
    const call = unary(stub, { response_status: { code: 2, message } });
    assert.equal((await ended(call, status.UNKNOWN)).details, message);
  },

  async custom_metadata(stub) {
    const metadata = new grpc.Metadata();
    metadata.add(...INITIAL);
    metadata.add(...TRAILING);
    let ending;
    const reply = await response((options, done) => {
      ending = following(stub.UnaryCall(large(), metadata, options, done));
    });
    holds(reply, 314159);
    const call = stub.FullDuplexCall(metadata, patience());
    const endings = [ending, following(call)];
    call.end(ping(271828, 314159));
    const [pong] = await all(call);
    holds(pong, 314159);
    for (const { initial, trailing } of await Promise.all(endings)) {
      assert.deepEqual(initial.get(INITIAL[0]), [INITIAL[1]]);
      assert.deepEqual(trailing.get(TRAILING[0]), [TRAILING[1]]);
    }
  },

  async unimplemented_method(stub) {
    const call = response((options, done) => stub.UnimplementedCall({}, options, done));
    await ended(call, status.UNIMPLEMENTED);
  },

  async unimplemented_service(_, connect) {
    const stub = connect(testing.UnimplementedService);
    const call = response((options, done) => stub.UnimplementedCall({}, options, done));
    await ended(call, status.UNIMPLEMENTED);
    stub.close();
  },

  async client_compressed_unary(stub, connect) {
    await ended(unary(stub, large({ expect_compressed: said(true) })), status.INVALID_ARGUMENT);
    const packing = connect(testing.TestService, GZIP);
    holds(await unary(packing, large({ expect_compressed: said(true) })), 314159);
    packing.close();
    holds(await unary(stub, large({ expect_compressed: said(false) })), 314159);
  },

  async server_compressed_unary(stub) {
    for (const packed of [true, false]) {
      holds(await unary(stub, large({ response_compressed: said(packed) })), 314159);
    }
    throw new NotApplicable(HIDDEN);
  },

  async client_compressed_streaming(stub, connect) {
    const packed = { payload: zeros(27182), expect_compressed: said(true) };
    const plain = { payload: zeros(45904), expect_compressed: said(false) };
    const lie = response((options, done) => stub.StreamingInputCall(options, done).end(packed));
    await ended(lie, status.INVALID_ARGUMENT);
    const packing = connect(testing.TestService, GZIP);
    const { aggregated_payload_size } = await response((options, done) => {
      const call = packing.StreamingInputCall(options, done);
      // Only the call beneath the stream takes flags.
      call.write(packed, () =>
        call.call.sendMessageWithContext({ flags: NO_COMPRESS, callback: () => call.end() }, plain),
      );
    });
    assert.equal(aggregated_payload_size, 73086);
    packing.close();
  },

  async server_compressed_streaming(stub) {
    const response_parameters = [
      { compressed: said(true), size: 31415 },
      { compressed: said(false), size: 92653 },
    ];
    const responses = await all(stub.StreamingOutputCall({ response_parameters }, patience()));
    assert.equal(responses.length, 2);
    responses.forEach((response, i) => holds(response, response_parameters[i].size));
    throw new NotApplicable(HIDDEN);
  },

  async cancel_after_begin(stub) {
    const call = response((options, done) => stub.StreamingInputCall(options, done).cancel());
    await ended(call, status.CANCELLED);
  },

  async cancel_after_first_response(stub) {
    const call = stub.FullDuplexCall(patience());
    const pongs = call[Symbol.asyncIterator]();
    call.write(ping(27182, 31415));
    holds((await pongs.next()).value, 31415);
    call.cancel();
    await ended(pongs.next(), status.CANCELLED);
  },

  async timeout_on_sleeping_server(stub) {
    const call = stub.FullDuplexCall({ deadline: Date.now() + 1 });
    call.write({ payload: zeros(27182) });
    await ended(all(call), status.DEADLINE_EXCEEDED);
  },

  async concurrent_large_unary(stub) {
    await Promise.all(Array.from({ length: CONCURRENCY }, () => CASES.large_unary(stub)));
  },

  async rpc_soak(stub) {
    await soak(() => CASES.large_unary(stub));
  },

  async channel_soak(_, connect) {
    await soak(async () => {
      const stub = connect(testing.TestService);
      await CASES.large_unary(stub);
      stub.close();
    });
  },
};

const credentials = ({ cacert, key, cert }) => {
  if (!cacert) return grpc.credentials.createInsecure();
  const pems = [cacert, key, cert].map((file) => (file ? fs.readFileSync(file) : null));
  return grpc.credentials.createSsl(...pems);
};

const main = async () => {
  const { addr, ...files } = flags('addr', 'cacert', 'cert', 'key');
  const target = addr.replace(/^https?:\/\//, '');
  // Without the option, channels to one address share their connections.
  const connect = (Service, options) =>
    new Service(target, credentials(files), { 'grpc.use_local_subchannel_pool': 1, ...options });
  for (const [name, play] of Object.entries(CASES)) {
    const stub = connect(testing.TestService);
    const outcome = await play(stub, connect).then(
      () => 'ok',
      (error) =>
        error instanceof NotApplicable
          ? `n/a: ${error.message}`
          : `failed: ${error.message.replaceAll('\n', ' ')}`,
    );
    stub.close();
    console.log(name, outcome);
  }
};

main();
