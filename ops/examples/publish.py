"""Publishes one person to Lethe both ways: in the clear over HTTP(S), and sealed to an intake topic. ops/publishing.md has the format."""

import argparse, base64, hashlib, json, os, pathlib, struct, sys, time

import requests
from confluent_kafka import Producer
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from pyhpke import AEADId, CipherSuite, KDFId, KEMId, KEMKey

SUITE = CipherSuite.new(KEMId.DHKEM_X25519_HKDF_SHA256, KDFId.HKDF_SHA256, AEADId.CHACHA20_POLY1305)
TYPE, SEALED = "org.lethe.record.published.v1", "application/vnd.lethe.sealed"


class Session:
    """One encapsulation; then each event is sealed symmetrically. Never store it: begin a new one at each start, and after each fork."""

    def __init__(self, intake: bytes, sender: X25519PrivateKey, eks=None):
        public = sender.public_key().public_bytes_raw()
        recipient = KEMKey.from_pyca_cryptography_key(X25519PublicKey.from_public_bytes(intake))
        sks = KEMKey.from_pyca_cryptography_key(sender)
        enc, context = SUITE.create_sender_context(recipient, b"lethe/intake/v1", sks=sks, eks=eks)
        self.cipher, self.number = ChaCha20Poly1305(context.export(b"lethe/session/v1", 32)), 0
        self.process = os.getpid()
        self.head = b"\x02" + hashlib.sha256(intake).digest()[:8] + hashlib.sha256(public).digest()[:8] + enc

    def seal(self, plain: bytes, context: bytes) -> bytes:
        if os.getpid() != self.process:
            raise RuntimeError("this session was begun before a fork: expected one of this process, or numbers are used twice")
        number = struct.pack(">Q", self.number)
        self.number += 1
        return self.head + number + self.cipher.encrypt(bytes(4) + number, plain, context)


def event(system: str, shard: str, sequence: int, record: dict, session: Session | None = None) -> dict:
    source, number = f"/lethe/systems/{system}", f"{sequence:020}"
    out = {"specversion": "1.0", "type": TYPE, "source": source, "id": f"{shard}/{number}", "shard": shard, "sequence": number}
    if session is None:
        return out | {"data": record}
    sealed = base64.b64encode(session.seal(json.dumps(record).encode(), f"{TYPE}\n{source}\n{shard}\n{number}".encode()))
    return out | {"datacontenttype": SEALED, "data_base64": sealed.decode()}


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, epilog="One program writes a shard: the two ways take one each.")
    for name in ("server", "key-file", "system", "dataset", "key", "email", "shard"):
        ask.add_argument(f"--{name}", required=True)
    for name in ("kafka", "topic", "topic-key", "topic-shard", "sender-file"):
        ask.add_argument(f"--{name}", help="to publish another record to the intake topic: all five")
    ask.add_argument("--property", action="append", default=[], help="NAME=VALUE for librdkafka, such as security.protocol=SSL")
    said, now = ask.parse_args(), time.time_ns() // 1000
    http = requests.Session()
    http.headers["authorization"] = "Bearer " + pathlib.Path(said.key_file).read_text().strip()
    record = {"dataset": said.dataset, "key": said.key, "identifiers": [{"kind": "email", "value": said.email}]}
    answer = http.post(f"{said.server}/v1/events", json=[event(said.system, said.shard, now, record)], timeout=30)
    print(json.dumps(answer.json()))
    if not answer.ok or any(one["result"] == "refused" for one in answer.json()["results"]):
        sys.exit(1)
    if said.kafka:
        intake = http.get(f"{said.server}/v1/intake-keys", timeout=30).json()["keys"][0]["public_key"]
        sender = X25519PrivateKey.from_private_bytes(base64.b64decode(pathlib.Path(said.sender_file).read_text()))
        session = Session(base64.b64decode(intake), sender)
        sealed = event(said.system, said.topic_shard, now, record | {"key": said.topic_key}, session)
        broker = dict(pair.split("=", 1) for pair in said.property)
        producer, failed = Producer({**broker, "bootstrap.servers": said.kafka, "enable.idempotence": True}), []
        producer.produce(said.topic, key=f"{said.system}/{said.topic_shard}", value=json.dumps(sealed),
                         on_delivery=lambda error, _: error and failed.append(error))
        left = producer.flush(30)
        sys.exit(f"not published: {failed or 'no answer'}" if left or failed else 0)


if __name__ == "__main__":
    main()
