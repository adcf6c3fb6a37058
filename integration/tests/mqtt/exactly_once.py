"""A client of paho-mqtt that publishes, or subscribes, over every restart of its broker.

publish HOST PORT VERSION QOS COUNT: publishes 0 to COUNT - 1 and prints a line for each that was acknowledged; with "-" for
COUNT one every few milliseconds until its standard input ends, then "done".
subscribe HOST PORT VERSION QOS TOPIC [NAME [RECEIVE_MAXIMUM]]: prints a line for each message, until it is killed; "ready"
once it is subscribed.
Both print "lost" where the broker has forgotten the session of a client that was connected before.
TRANSPORT in the environment is tcp or websockets.
"""

import collections
import itertools
import os
import sys
import threading

import paho.mqtt.client as mqtt

VERSIONS = {"4": mqtt.MQTTv311, "5": mqtt.MQTTv5}


class Client(mqtt.Client):
    """paho forgets that it has sent PUBREL when an attempt to connect fails, and publishes the message anew, which
    MQTT-4.3.3-6 forbids: that would be another message."""

    def _messages_reconnect_reset_out(self):
        with self._out_message_mutex:
            released = [m for m in self._out_messages.values() if m.state == mqtt.mqtt_ms_resend_pubrel]
        super()._messages_reconnect_reset_out()
        for message in released:
            message.state = mqtt.mqtt_ms_resend_pubrel


def client(name, version):
    made = Client(mqtt.CallbackAPIVersion.VERSION2, client_id=name, protocol=VERSIONS[version],
                       transport=os.environ.get("TRANSPORT", "tcp"),
                       **({} if version == "5" else {"clean_session": False}))
    connected = []

    def remember(_client, _data, flags, *_rest):
        if connected and not flags.session_present:
            print("lost", flush=True)
        connected.append(True)

    made.on_connect = remember
    made.reconnect_delay_set(min_delay=0.2, max_delay=0.2)
    made.max_inflight_messages_set(20)
    return made


def connect(made, host, port, version, receive_maximum=None):
    extra = {}
    if version == "5":
        properties = mqtt.Properties(mqtt.PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 3600
        if receive_maximum:
            properties.ReceiveMaximum = int(receive_maximum)
        extra = {"clean_start": False, "properties": properties}
    made.connect_async(host, int(port), keepalive=30, **extra)


def publish(host, port, version, qos, count):
    made = client(f"publisher-{version}-{qos}", version)
    # what is published at QoS 0 before there is a connection, paho forgets
    connected, remember = threading.Event(), made.on_connect

    def on_connect(*args):
        remember(*args)
        connected.set()

    made.on_connect = on_connect
    connect(made, host, port, version)
    made.loop_start()
    connected.wait()
    window = collections.deque()

    def acknowledge_oldest():
        number, info = window.popleft()
        # published while there was no connection, it waits in the session: for paho that is an error to wait for
        info.rc = mqtt.MQTT_ERR_SUCCESS
        info.wait_for_publish()
        print(number, flush=True)

    ended = threading.Event()

    def until_ended():
        threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
        return itertools.takewhile(lambda _: not ended.wait(0.004), itertools.count())

    for number in until_ended() if count == "-" else range(int(count)):
        window.append((number, made.publish(f"floor/{version}/{qos}", '{"n":%d}' % number, qos=int(qos))))
        if len(window) == 20:
            acknowledge_oldest()
    while window:
        acknowledge_oldest()
    if count == "-":
        print("done", flush=True)
    made.disconnect()
    made.loop_stop()


def subscribe(host, port, version, qos, topic, name="subscriber", receive_maximum=None):
    made = client(f"{name}-{version}-{qos}", version)

    remember = made.on_connect

    def connected(client_, *args):
        remember(client_, *args)
        client_.subscribe(topic, qos=int(qos))

    made.on_connect = connected
    made.on_subscribe = lambda *_: print("ready", flush=True)
    made.on_message = lambda _client, _data, message: print(message.payload.decode(), flush=True)
    connect(made, host, port, version, receive_maximum)
    made.loop_forever(retry_first_connection=True)


if __name__ == "__main__":
    {"publish": publish, "subscribe": subscribe}[sys.argv[1]](*sys.argv[2:])
