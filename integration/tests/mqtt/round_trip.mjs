// Clients of mqtt.js: round_trip.mjs URL VERSION QOS
//
// One publishes 50 messages, the other hears them in order; then what is refused is refused with its reason. Prints "ok", or what
// went wrong. mqtt.js is where NODE_PATH says.
import { createRequire } from "node:module";

const mqtt = createRequire(`${process.env.NODE_PATH}/`)("mqtt");
const [url, version, qos] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
const [topic, count] = [`floor/js-${version}-${qos}/n`, 50];

const options = (name) => ({
  clientId: `${name}-${version}-${qos}`,
  protocolVersion: version,
  clean: false,
  connectTimeout: 20_000,
  reconnectPeriod: 0,
  // of a QoS 2 message mqtt.js 5.16 keeps the packet until PUBREL, but not the topic that its alias stands for
  ...(version === 5
    ? { properties: { sessionExpiryInterval: 60, topicAliasMaximum: qos < 2 ? 4 : 0, receiveMaximum: 10 } }
    : {}),
});

function fail(why) {
  console.log(why);
  process.exit(1);
}

setTimeout(() => fail("it takes too long"), 60_000);

const subscriber = await mqtt.connectAsync(url, options("hears"));
const heard = [];
const complete = new Promise((resolve) => {
  subscriber.on("message", (on, payload, packet) => {
    if (on !== topic) fail(`a message on ${on}`);
    if (version === 5 && !packet.properties?.userProperties?.source?.startsWith("mesh://plant-a/floor/")) {
      fail(`properties ${JSON.stringify(packet.properties)}`);
    }
    heard.push(JSON.parse(payload).n);
    if (heard.length === count) resolve();
  });
});
const [granted] = await subscriber.subscribeAsync(topic, { qos });
if (granted.qos !== qos) fail(`granted ${granted.qos}`);

const publisher = await mqtt.connectAsync(url, options("says"));
await Promise.all(Array.from({ length: count }, (_, n) => publisher.publishAsync(topic, JSON.stringify({ n }), { qos })));
await complete;
if (heard.some((n, at) => n !== at)) fail(`heard ${heard}`);

if (version === 5 && qos > 0) {
  // mqtt.js hands the reason of a PUBACK or PUBREC to who published
  const refused = await publisher.publishAsync("nowhere", "{}", { qos }).then(
    (packet) => packet?.reasonCode,
    (error) => error.code,
  );
  if (refused !== 0x90) fail(`a topic that no mapping takes: ${refused}`);
}
const [denied] = await subscriber.subscribeAsync("a/#/b", { qos }).then(
  (grants) => grants,
  () => [{ qos: 128 }],
);
if (denied && denied.qos < 128) fail("a filter that is none is granted");
await Promise.all([publisher.endAsync(), subscriber.endAsync()]);
console.log("ok");
process.exit(0);
