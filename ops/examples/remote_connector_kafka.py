#!/usr/bin/env python3
"""The remote connector of remote_connector.py over topics of Kafka: it needs a way out to the broker, and none in.

    remote_connector_kafka.py --system crm --database contacts.db --secret-file crm.secret
        --bootstrap 127.0.0.1:9092 [--property security.protocol=SASL_SSL]... [--topic-prefix lethe.] [--later]

Packages: confluent-kafka and cryptography (requirements.txt). How messages are sealed stands in connectors/remote/README.md.
"""

import hashlib
import hmac
import os
import sys
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from remote_connector import TOLERANCE_S, Contacts, Keys, Program, arguments

SEALING, SALT_BYTES = 1, 32
REPLY_BYTES_MAX = 1_900_000  # what Lethe's topic of replies takes, with room: give smaller pages


class Sealing:
    """Messages under the secret that both sides share: the first line of its file seals, any line opens."""

    def __init__(self, secrets, system):
        self.secrets, self.system = secrets, system

    def cipher(self, secret, direction, identity, salt):
        context = f"lethe remote connector v1\n{direction}\n{self.system}\n{identity}\n".encode()
        return ChaCha20Poly1305(hmac.digest(secret, context + salt, hashlib.sha256))

    def seal(self, direction, identity, body, salt=None, now=None):
        salt, now = salt or os.urandom(SALT_BYTES), now or int(time.time())
        plain = str(now).encode() + b"\n" + body
        return bytes([SEALING]) + salt + self.cipher(self.secrets[0], direction, identity, salt).encrypt(bytes(12), plain, None)

    def open(self, direction, identity, value):
        """The message; nothing where it was not sealed for this, or long ago."""
        version, salt, sealed = value[:1], value[1:1 + SALT_BYTES], value[1 + SALT_BYTES:]
        if version != bytes([SEALING]) or len(salt) < SALT_BYTES:
            return None
        for secret in self.secrets:
            try:
                plain = self.cipher(secret, direction, identity, salt).decrypt(bytes(12), sealed, None)
            except InvalidTag:
                continue
            sent, _, body = plain.partition(b"\n")
            return body if abs(time.time() - int(sent)) <= TOLERANCE_S else None
        return None


def answer(program, sealing, message):
    """The sealed reply to what stands in a topic; nothing where Lethe did not write it for us."""
    identity, value = (message.key() or b"").decode("ascii", "replace"), message.value()
    body = sealing.open("requests", identity, value) if value else None
    if body is None:
        return None
    reply = sealing.seal("replies", identity, program.message(program.answer(identity, body)))
    if len(reply) > REPLY_BYTES_MAX:
        reply = sealing.seal("replies", identity, program.message({"failed": {"class": "unknown", "code": "reply-too-large"}}))
    return reply


def main():
    parser = arguments(__doc__)
    parser.add_argument("--bootstrap", required=True, help="brokers, host:port")
    parser.add_argument("--topic-prefix", default="lethe.", help="as in Lethe's configuration")
    parser.add_argument("--property", action="append", default=[], help="NAME=VALUE for librdkafka; secrets: NAME=@FILE")
    options = parser.parse_args()
    sealing = Sealing(Keys(options.secret_file).secrets, options.system)
    program = Program(options.system, Contacts(options.database, options.later))
    broker = {"bootstrap.servers": options.bootstrap}
    for name, _, value in (pair.partition("=") for pair in options.property):
        broker[name] = open(value[1:]).read().strip() if value.startswith("@") else value
    requests, replies = (f"{options.topic_prefix}{which}.{options.system}" for which in ("requests", "replies"))
    # A request is asked again where this ends between its answer and its mark: the same instruction has the effect of once.
    consumer = Consumer({**broker, "group.id": f"{options.topic_prefix}remote.{options.system}", "auto.offset.reset": "earliest",
                         "enable.auto.offset.store": False, "topic.metadata.refresh.interval.ms": 5000})
    producer = Producer({**broker, "enable.idempotence": True, "linger.ms": 0, "message.max.bytes": 2_000_000})
    consumer.subscribe([requests])
    print(f"reading {requests}", flush=True)
    try:
        while True:
            message = consumer.poll(1.0)
            if message is None or message.error() and message.error().code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                continue  # Lethe makes the topics when it starts
            if message.error():
                raise KafkaException(message.error())
            reply = answer(program, sealing, message)
            if reply is not None:
                failed = []
                producer.produce(replies, reply, message.key(), on_delivery=lambda error, _, to=failed: error and to.append(error))
                if producer.flush(30) or failed:
                    sys.exit("no reply could be written: the supervisor starts this again, and Lethe asks again")
            consumer.store_offsets(message)
    except KeyboardInterrupt:
        pass
    finally:
        consumer.close()


if __name__ == "__main__":
    main()
