// Sends and prints what Node's public RouteGuide client does. Only its pauses are a tenth.
//
//   node client.js [HOST:PORT [CACERT]]    with a file of authorities to trust: over TLS

'use strict';

const fs = require('fs');
const path = require('path');
const { once } = require('events');
const { setTimeout: pause } = require('timers/promises');
const { promisify } = require('util');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const ROOT = path.join(__dirname, '../../..');
const DEGREE = 1e7;

function connect(addr = 'localhost:50051', cacert) {
  const proto = path.join(ROOT, 'proto/route_guide.proto');
  const { routeguide } = grpc.loadPackageDefinition(
    loader.loadSync(proto, { keepCase: true, defaults: true }));
  const credentials = cacert
    ? grpc.credentials.createSsl(fs.readFileSync(cacert))
    : grpc.credentials.createInsecure();
  return new routeguide.RouteGuide(addr, credentials);
}

const place = ({ latitude, longitude }) => `${latitude / DEGREE}, ${longitude / DEGREE}`;

const found = (feature) => `Found feature called "${feature.name}" at ${place(feature.location)}`;

async function getFeature(client) {
  const get = promisify(client.getFeature).bind(client);
  // Both at once, so they may be answered in either order.
  const points = [{ latitude: 409146138, longitude: -746188906 }, { latitude: 0, longitude: 0 }];
  await Promise.all(points.map(async (point) => {
    const feature = await get(point);
    console.log(feature.name ? found(feature) : `Found no feature at ${place(feature.location)}`);
  }));
}

async function listFeatures(client) {
  console.log('Looking for features between 40, -75 and 42, -73');
  const call = client.listFeatures({
    lo: { latitude: 400000000, longitude: -750000000 },
    hi: { latitude: 420000000, longitude: -730000000 },
  });
  for await (const feature of call) console.log(found(feature));
}

async function recordRoute(client) {
  const database = JSON.parse(fs.readFileSync(path.join(ROOT, 'data/route_guide_db.json')));
  let call;
  const summed = new Promise((resolve, reject) => {
    call = client.recordRoute((error, summary) => (error ? reject(error) : resolve(summary)));
  });
  for (let visited = 0; visited < 10; visited += 1) {
    const { location } = database[Math.floor(Math.random() * database.length)];
    console.log(`Visiting point ${place(location)}`);
    call.write(location);
    await pause(50 + 100 * Math.random());
  }
  call.end();
  const summary = await summed;
  console.log(`Finished trip with ${summary.point_count} points`);
  console.log(`Passed ${summary.feature_count} features`);
  console.log(`Travelled ${summary.distance} meters`);
  console.log(`It took ${summary.elapsed_time} seconds`);
}

async function routeChat(client) {
  const call = client.routeChat();
  const say = (verb, { message, location: { latitude, longitude } }) =>
    console.log(`${verb} message "${message}" at ${latitude}, ${longitude}`);
  call.on('data', (note) => say('Got', note));
  const places = { First: [0, 0], Second: [0, 1], Third: [1, 0], Fourth: [0, 0] };
  for (const [number, [latitude, longitude]] of Object.entries(places)) {
    const note = { message: `${number} message`, location: { latitude, longitude } };
    say('Sending', note);
    call.write(note);
  }
  call.end();
  await once(call, 'end');
}

async function main() {
  const client = connect(...process.argv.slice(2));
  for (const part of [getFeature, listFeatures, recordRoute, routeChat]) await part(client);
  client.close();
}

module.exports = { connect };

if (require.main === module) {
  main().catch((error) => {
    console.error(String(error));
    process.exitCode = 1;
  });
}
