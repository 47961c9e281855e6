// grpc-js at full speed: a route of many points, and calls that are answered while their upload is under way,
// beside a chat on the same connection that must be alive in the end.
//
//   node legal.js HOST:PORT COUNT [CACERT]

'use strict';

const assert = require('assert');
const { on, once } = require('events');
const grpc = require('@grpc/grpc-js');
const { connect } = require('./canonical/client');

const PLACE = { latitude: 409146138, longitude: -746188906 };
const EARLY = 20;
const OFF_THE_GLOBE = { latitude: 900000001, longitude: 0 };

/** Opens a chat; what it returns says something in it, and hears all that was said before. */
function bystander(client) {
  const chat = client.routeChat();
  const note = { location: { latitude: 1, longitude: 0 }, message: 'still here' };
  const heard = on(chat, 'data');
  let said = 0;
  const speak = async () => {
    chat.write(note);
    for (let nth = 0; nth < said; nth += 1) assert.deepStrictEqual((await heard.next()).value, [note]);
    said += 1;
  };
  return { chat, speak };
}

/** A route whose first point is this, of that many points or until it is answered. */
async function record(client, first, count) {
  let answer;
  const call = client.recordRoute((error, summary) => { answer = { error, summary }; });
  const answered = once(call, 'status');
  call.write(first);
  for (let sent = 1; sent < count && !answer; sent += 1) {
    if (!call.write(PLACE)) await Promise.race([once(call, 'drain'), answered]);
  }
  call.end();
  await answered;
  return answer;
}

async function main(addr, count, cacert) {
  const client = connect(addr, cacert);
  const { chat, speak } = bystander(client);
  await speak();
  await speak();
  const { error, summary } = await record(client, PLACE, Number(count));
  assert.ifError(error);
  assert.strictEqual(summary.point_count, Number(count));
  for (let nth = 0; nth < EARLY; nth += 1) {
    const refused = await record(client, OFF_THE_GLOBE, Number(count));
    assert.strictEqual(refused.error?.code, grpc.status.INVALID_ARGUMENT, String(refused.error));
  }
  await speak();
  chat.end();
  const [status] = await once(chat, 'status');
  assert.strictEqual(status.code, grpc.status.OK);
  client.close();
}

main(...process.argv.slice(2)).catch((error) => {
  console.error(String(error));
  process.exitCode = 1;
});
