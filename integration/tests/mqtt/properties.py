"""A client of paho-mqtt, MQTT 5.0, that publishes one message with every property and prints as JSON what it gets for it.

HOST PORT PUBLISHED SUBSCRIBED QOS
"""

import json
import queue
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes


def main(host, port, published, subscribed, qos):
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="properties", protocol=mqtt.MQTTv5)
    happened = queue.Queue()
    client.on_connect = lambda _client, _data, _flags, reason, _properties: happened.put(reason.value)
    client.on_subscribe = lambda _client, _data, _id, reasons, _properties: happened.put(reasons[0].value)
    client.on_message = lambda _client, _data, message: happened.put(message)
    client.connect(host, int(port))
    client.loop_start()
    assert happened.get(timeout=20) == 0
    client.subscribe(subscribed, qos=int(qos))
    assert happened.get(timeout=20) == int(qos)
    properties = mqtt.Properties(PacketTypes.PUBLISH)
    properties.PayloadFormatIndicator = 1
    properties.MessageExpiryInterval = 500
    properties.ContentType = "application/json"
    properties.ResponseTopic = "answers/7"
    properties.CorrelationData = b"\x00\xffbytes"
    properties.UserProperty = [("X-Key", "line 7"), ("x-unit", "°C")]
    sent = client.publish(published, '{"n":12345678901234567890.5}', qos=int(qos), properties=properties)
    message = happened.get(timeout=20)
    sent.wait_for_publish(20)
    got = message.properties
    print(json.dumps({
        "topic": message.topic,
        "qos": message.qos,
        "payload": message.payload.decode(),
        "format": getattr(got, "PayloadFormatIndicator", None),
        "expiry": getattr(got, "MessageExpiryInterval", None),
        "content_type": getattr(got, "ContentType", None),
        "response_topic": getattr(got, "ResponseTopic", None),
        "correlation": getattr(got, "CorrelationData", b"").hex(),
        "user": dict(getattr(got, "UserProperty", [])),
    }))
    client.disconnect()
    client.loop_stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
