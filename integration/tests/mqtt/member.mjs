// A subscriber of mqtt.js: member.mjs URL VERSION NAME QOS FILTER
//
// Prints "ready" once it is subscribed, then the payload of each message, until it is killed. mqtt.js is where NODE_PATH says.
import { createRequire } from "node:module";

const mqtt = createRequire(`${process.env.NODE_PATH}/`)("mqtt");
const [, , url, version, name, qos, filter] = process.argv;

const member = await mqtt.connectAsync(url, {
  clientId: name,
  protocolVersion: Number(version),
  clean: false,
  reconnectPeriod: 0,
  ...(version === "5" ? { properties: { sessionExpiryInterval: 60, receiveMaximum: 10 } } : {}),
});
member.on("message", (_topic, payload) => console.log(payload.toString()));
await member.subscribeAsync(filter, { qos: Number(qos) });
console.log("ready");
