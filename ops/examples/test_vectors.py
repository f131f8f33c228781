"""Holds publish.py against the test vectors of schemas/json/vectors.json: it must make the very same events, and open them."""

import base64, json, pathlib, struct

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from pyhpke import KEMKey, KEMKeyPair

from publish import SUITE, Session, event

vectors = json.loads((pathlib.Path(__file__).parent / "../../schemas/json/vectors.json").read_text())
unbase = base64.b64decode
sender = X25519PrivateKey.from_private_bytes(unbase(vectors["sender"]["private"]))
session = Session(unbase(vectors["intake"]["public"]), sender, eks=SUITE.kem.derive_key_pair(unbase(vectors["ephemeral"])))
intake = KEMKey.from_pyca_cryptography_key(X25519PrivateKey.from_private_bytes(unbase(vectors["intake"]["private"])))
known = KEMKey.from_pyca_cryptography_key(X25519PublicKey.from_public_bytes(unbase(vectors["sender"]["public"])))

for vector in vectors["events"]:
    sealed, context = unbase(vector["event"]["data_base64"]), vector["context"].encode()
    made = session.seal(vector["plain"].encode(), context)
    assert made == sealed, f"event {vector['number']} is sealed otherwise"
    opened = SUITE.create_recipient_context(sealed[17:49], intake, vectors["info"].encode(), pks=known)
    cipher = ChaCha20Poly1305(opened.export(b"lethe/session/v1", 32))
    assert struct.unpack(">Q", sealed[49:57]) == (vector["number"],)
    assert cipher.decrypt(bytes(4) + sealed[49:57], sealed[57:], context) == vector["plain"].encode()
    shard, number = vector["event"]["shard"], int(vector["event"]["sequence"])
    frame = event("crm", shard, number, json.loads(vector["plain"]), session)
    assert {**frame, "data_base64": ""} == {**vector["event"], "data_base64": ""}
    session.number -= 1
session.process = 0
try:
    session.seal(b"{}", b"")
    raise SystemExit("a session seals on behind a fork")
except RuntimeError:
    pass
print(f"{len(vectors['events'])} events are made and opened as the test vectors say")
