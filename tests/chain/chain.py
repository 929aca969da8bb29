"""The chain's bytes, a second time: written from the protocol's text, not from the Rust code.

Builds and takes apart opens, bindings, headers, seals, receipts, event ids and key slots. Everything is big-endian and
of fixed width; ids are 16 raw bytes. Parsers raise Malformed and nothing else, whatever bytes they get.
"""

import hashlib
import hmac
import struct
from dataclasses import dataclass

import ed25519

OPEN_TAG = b"edgetrail/open/v1\n"
BATCH_TAG = b"edgetrail/batch/v1\n"
RATCHET_TAG = b"edgetrail/ratchet/v1\n"
SIGN_TAG = b"edgetrail/sign/v1\n"
SEAL_TAG = b"edgetrail/seal/v1\n"
RECEIPT_TAG = b"edgetrail/receipt/v1\n"
RECEIPT_KEY_TAG = b"edgetrail/receipt-key/v1\n"
EVENT_TAG = b"edgetrail/event/v1\n"

RECORDS, HEARTBEAT, CLOSE = 0, 1, 2
SLOT_BYTES = 4096
ZERO16 = bytes(16)
ZERO32 = bytes(32)


class Malformed(Exception):
    """Bytes that are not what they should be."""


def sha256(data):
    return hashlib.sha256(data).digest()


def unpack(layout, tag, data):
    """The fields behind the tag, where length and tag are right."""
    layout = struct.Struct(">" + layout)
    if len(data) != len(tag) + layout.size:
        raise Malformed(f"{len(data)} bytes instead of {len(tag) + layout.size}")
    if not data.startswith(tag):
        raise Malformed(f"does not begin with {tag!r}")
    return layout.unpack(data[len(tag):])


# --- binding and open ------------------------------------------------------------------------------------------------


def binding(scopes, host):
    """scopes: (account, region) pairs. Lines sorted as UTF-8 bytes, then the host's line."""
    lines = sorted(f"{account}/{region}\n".encode() for account, region in scopes)
    return b"".join(lines) + host.encode() + b"\n"


@dataclass
class Open:
    stream_id: bytes
    agent_id: bytes
    pk_0: bytes
    prev_stream: bytes
    prev_k: int
    prev_h: bytes
    cause: int
    t_opened: int
    binding_hash: bytes
    certificate_hash: bytes

    LAYOUT = "16s16s32s16sQ32sBQ32s32s"

    def to_bytes(self):
        return OPEN_TAG + struct.pack(
            ">" + self.LAYOUT, self.stream_id, self.agent_id, self.pk_0, self.prev_stream, self.prev_k, self.prev_h,
            self.cause, self.t_opened, self.binding_hash, self.certificate_hash,
        )

    @classmethod
    def parse(cls, data):
        value = cls(*unpack(cls.LAYOUT, OPEN_TAG, data))
        if value.cause > 5:
            raise Malformed(f"cause {value.cause}")
        return value

    def hash(self):
        """H_{-1}."""
        return sha256(self.to_bytes())


# --- records -> root -> header ---------------------------------------------------------------------------------------


def leaf(record):
    return sha256(b"\x00" + record)


def mth(leaves):
    """RFC 6962 section 2.1, as it is defined there, over leaf hashes."""
    if not leaves:
        return sha256(b"")
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return sha256(b"\x01" + mth(leaves[:split]) + mth(leaves[split:]))


@dataclass
class Header:
    stream_id: bytes
    k: int
    kind: int
    first_seq: int
    count: int
    root: bytes
    previous: bytes
    next_pk: bytes
    boot_id: bytes
    t_sealed: int
    t_min: int
    t_max: int
    observed: int
    refused: int
    own: int
    lost_agent: int
    lost_source: int
    last_receipt: bytes

    LAYOUT = "16sQBQI32s32s32s16s3Q5Q32s"

    def to_bytes(self):
        return BATCH_TAG + struct.pack(
            ">" + self.LAYOUT, self.stream_id, self.k, self.kind, self.first_seq, self.count, self.root, self.previous,
            self.next_pk, self.boot_id, self.t_sealed, self.t_min, self.t_max, self.observed, self.refused, self.own,
            self.lost_agent, self.lost_source, self.last_receipt,
        )

    @classmethod
    def parse(cls, data):
        value = cls(*unpack(cls.LAYOUT, BATCH_TAG, data))
        if value.kind > CLOSE:
            raise Malformed(f"kind {value.kind}")
        return value

    def hash(self):
        """H_k."""
        return sha256(self.to_bytes())

    def counters_hold(self):
        """observed = refused + lost_agent + (first_seq + count - own)"""
        return self.observed == self.refused + self.lost_agent + self.first_seq + self.count - self.own


# --- ratchet and seal ------------------------------------------------------------------------------------------------


def next_seed(seed, stream_id, k):
    """seed_{k+1} of seed_k."""
    return hmac.digest(seed, RATCHET_TAG + stream_id + struct.pack(">Q", k), "sha256")


def signing_seed(seed):
    return hmac.digest(seed, SIGN_TAG, "sha256")


def public_key(seed):
    """pk_k of seed_k."""
    return ed25519.public_key(signing_seed(seed))


def seal(seed, header_hash):
    return ed25519.sign(signing_seed(seed), SEAL_TAG + header_hash)


def seal_holds(pk, header_hash, signature):
    return ed25519.verify(pk, SEAL_TAG + header_hash, signature)


# --- receipts --------------------------------------------------------------------------------------------------------


@dataclass
class Receipt:
    key_hash: bytes
    stream_id: bytes
    k: int
    head: bytes
    ledger_index: int
    t_received: int

    LAYOUT = "32s16sQ32sQQ"

    def message(self):
        return RECEIPT_TAG + struct.pack(
            ">" + self.LAYOUT, self.key_hash, self.stream_id, self.k, self.head, self.ledger_index, self.t_received
        )

    def signed(self, key_seed):
        return self.message() + ed25519.sign(key_seed, self.message())

    @classmethod
    def parse(cls, data):
        """(receipt, signature) of a receipt as sent."""
        if len(data) < 64:
            raise Malformed("no room for a signature")
        return cls(*unpack(cls.LAYOUT, RECEIPT_TAG, data[:-64])), data[-64:]


def receipt_key_statement(public_key, not_before, not_after):
    """What the CA signs of a receipt key: by docs/protocol.md, section 4."""
    return RECEIPT_KEY_TAG + public_key + struct.pack(">QQ", not_before, not_after)


# --- event ids and key slots -----------------------------------------------------------------------------------------


def event_id(agent_id, source, position, index):
    source, position = source.encode(), position.encode()
    digest = sha256(
        EVENT_TAG + agent_id + struct.pack(">H", len(source)) + source + struct.pack(">H", len(position)) + position
        + struct.pack(">I", index)
    )
    raw = bytearray(digest[:16])
    raw[6] = raw[6] & 0x0F | 0x80
    raw[8] = raw[8] & 0x3F | 0x80
    return bytes(raw)


def slot(generation, stream_id, next_k, head, seed):
    body = struct.pack(">Q16sQ32s32s", generation, stream_id, next_k, head, seed)
    return (body + sha256(body)).ljust(SLOT_BYTES, b"\x00")


def parse_slot(data):
    if len(data) != SLOT_BYTES:
        raise Malformed(f"{len(data)} bytes instead of {SLOT_BYTES}")
    if sha256(data[:96]) != data[96:128]:
        raise Malformed("the slot's hash does not match")
    if any(data[128:]):
        raise Malformed("the slot's padding is not zero")
    return struct.unpack(">Q16sQ32s32s", data[:96])
