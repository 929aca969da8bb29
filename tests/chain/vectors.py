#!/usr/bin/env python3
"""Golden vectors of the chain, and the auditor's second opinion.

    vectors.py write                    write proto/vectors/*.json
    vectors.py check                    make them again and compare with what is committed, byte by byte
    vectors.py check-proof FILE... [--log FILE]...
                                        verify delivered proof files (of one account, region and trail, oldest first):
                                        opens, headers, seals, leaves, receipts; with log files, each of their records

Exit status: 0 all holds, 1 something does not, 2 usage.
"""

import argparse
import json
import sys
from pathlib import Path

import chain
import proof

FOLDER = Path(__file__).resolve().parents[2] / "proto" / "vectors"
U64_MAX = 2**64 - 1


def some(label, length=32):
    """Bytes that look random and are the same every time."""
    return b"".join(chain.sha256(f"{label}/{i}".encode()) for i in range(-(-length // 32)))[:length]


def stated(value):
    """A dataclass or dict for JSON: bytes as hex."""
    fields = value if isinstance(value, dict) else vars(value)
    return {name: item.hex() if isinstance(item, bytes) else item for name, item in fields.items()}


def bindings():
    cases = [
        ([("111122223333", "dc-tokyo-1")], "host-1"),
        ([("999999999999", "a"), ("111122223333", "b"), ("111122223333", "a-1"), ("111122223333", "a")], "gateway"),
        ([("000000000000", "z")], "håst.example"),
        # The collector's internal stream, bound to all: a line of its own, by docs/protocol.md.
        ([("*", "*")], "collector"),
    ]
    return [
        {"scopes": scopes, "host": host, "bytes": chain.binding(scopes, host).hex(), "hash": chain.sha256(chain.binding(scopes, host)).hex()}
        for scopes, host in cases
    ]


def opens():
    first = chain.Open(
        some("stream", 16), some("agent", 16), some("pk"), chain.ZERO16, 0, chain.ZERO32, 0, 1_714_596_960_000_000_001,
        chain.sha256(chain.binding([("111122223333", "dc-tokyo-1")], "host-1")), chain.sha256(b"a certificate"),
    )
    cases = [first]
    for cause in range(1, 6):
        cases.append(chain.Open(
            some(f"stream {cause}", 16), some("agent", 16), some(f"pk {cause}"), some("stream", 16), 41 + cause, some("head"), cause,
            1_714_596_960_000_000_001 + cause, first.binding_hash, first.certificate_hash,
        ))
    # The open without a slot: succeeded with prev_k = 2^64-1 and prev_H its H_{-1}.
    cases.append(chain.Open(
        some("stream 9", 16), some("agent", 16), some("pk 9"), some("stream", 16), U64_MAX, first.hash(), 2, U64_MAX,
        first.binding_hash, first.certificate_hash,
    ))
    return [{"fields": stated(it), "bytes": it.to_bytes().hex(), "hash": it.hash().hex()} for it in cases]


def headers():
    base = dict(
        stream_id=some("stream", 16), k=0, kind=chain.RECORDS, first_seq=0, count=3, root=some("root"), previous=some("open"),
        next_pk=some("pk 1"), boot_id=some("boot", 16), t_sealed=1_714_596_961_000_000_000, t_min=1_714_596_960_000_000_000,
        t_max=1_714_596_960_500_000_000, observed=5, refused=2, own=0, lost_agent=0, lost_source=0, last_receipt=chain.ZERO32,
    )
    cases = [
        base,
        base | dict(k=1, kind=chain.HEARTBEAT, first_seq=3, count=0, root=chain.mth([]), t_min=0, t_max=0, last_receipt=some("receipt")),
        base | dict(k=2, kind=chain.CLOSE, first_seq=3, count=0, root=chain.mth([]), t_min=0, t_max=0),
        {name: U64_MAX if isinstance(value, int) else b"\xff" * len(value) for name, value in base.items()}
        | dict(kind=chain.RECORDS, count=2**32 - 1),
    ]
    made = [chain.Header(**case) for case in cases]
    return [{"fields": stated(it), "bytes": it.to_bytes().hex(), "hash": it.hash().hex()} for it in made]


def merkle():
    records = [f"record {i}".encode() for i in range(33)]
    leaves = [chain.leaf(record) for record in records]
    return {"leaves": [leaf.hex() for leaf in leaves], "roots": [chain.mth(leaves[:n]).hex() for n in range(len(leaves) + 1)]}


def ratchet():
    steps, seed, stream = [], some("seed"), some("stream", 16)
    for k in [*range(4), 2**32, U64_MAX]:
        head = some(f"head {k}")
        steps.append({
            "k": k, "seed": seed.hex(), "signing_seed": chain.signing_seed(seed).hex(), "pk": chain.public_key(seed).hex(),
            "head": head.hex(), "seal": chain.seal(seed, head).hex(), "next_seed": chain.next_seed(seed, stream, k).hex(),
        })
        seed = chain.next_seed(seed, stream, k)
    return {"stream_id": stream.hex(), "steps": steps}


def receipts():
    key = some("receipt key")
    public = chain.ed25519.public_key(key)
    cases = [(0, some("head"), 0, 1_714_596_962_000_000_000), (U64_MAX, b"\xff" * 32, U64_MAX, U64_MAX)]
    made = [chain.Receipt(chain.sha256(public), some("stream", 16), k, head, index, t) for k, head, index, t in cases]
    return {
        "key_seed": key.hex(), "public_key": public.hex(),
        "key_statement": {"not_before": 1, "not_after": U64_MAX, "bytes": chain.receipt_key_statement(public, 1, U64_MAX).hex()},
        "receipts": [
            {"fields": stated(it), "message": it.message().hex(), "message_hash": chain.sha256(it.message()).hex(), "bytes": it.signed(key).hex()}
            for it in made
        ],
    }


def event_ids():
    cases = [("audit", "1714596960.123:4711", 0), ("audit", "1714596960.123:4711", 1), ("", "", 0), ("api", "é" * 100, 2**32 - 1)]
    agent = some("agent", 16)
    return [
        {"agent_id": agent.hex(), "source": source, "position": position, "index": index, "event_id": chain.event_id(agent, source, position, index).hex()}
        for source, position, index in cases
    ]


def slots():
    cases = [(1, some("stream", 16), 0, some("open"), some("seed")), (U64_MAX, some("stream", 16), U64_MAX, b"\xff" * 32, b"\xff" * 32)]
    names = ["generation", "stream_id", "next_k", "head", "seed"]
    # The padding is zeros to 4,096 bytes: only what stands before it is written out.
    return [{"fields": stated(dict(zip(names, case))), "bytes": chain.slot(*case)[:128].hex()} for case in cases]


def stream():
    """A whole stream: records, a heartbeat, records behind a receipt, with a gap and refusals, a close."""
    stream_id, agent_id, boot_id, seed = some("whole stream", 16), some("agent", 16), some("boot", 16), some("whole seed")
    key = some("receipt key")
    bound = chain.binding([("111122223333", "dc-tokyo-1")], "host-1")
    t = 1_714_596_960_000_000_000
    opened = chain.Open(
        stream_id, agent_id, chain.public_key(seed), chain.ZERO16, 0, chain.ZERO32, 0, t, chain.sha256(bound), chain.sha256(b"a certificate")
    )
    head, first_seq, observed, refused, own, lost_agent, lost_source = opened.hash(), 0, 0, 0, 0, 0, 0
    last_receipt, batches, receipts_ = chain.ZERO32, [], []
    # kind, records, own among them, refused, lost_agent and lost_source they report, whether a receipt follows
    script = [
        (chain.RECORDS, ["a", "b", "c"], 0, 2, 0, 0, True),
        (chain.HEARTBEAT, [], 0, 0, 0, 0, False),
        (chain.RECORDS, ["d", "gap", "e"], 1, 1, 4, 7, True),
        (chain.RECORDS, ["f"], 0, 0, 0, 0, False),
        (chain.CLOSE, [], 0, 0, 0, 0, True),
    ]
    for k, (kind, names, owned, refusals, lost_here, lost_there, answered) in enumerate(script):
        records = [json.dumps({"eventName": name, "k": k}, separators=(",", ":")).encode() for name in names]
        t += 1_000_000_000
        own, refused = own + owned, refused + refusals
        lost_agent, lost_source = lost_agent + lost_here, lost_source + lost_there
        observed += len(records) - owned + refusals + lost_here
        following = chain.next_seed(seed, stream_id, k)
        header = chain.Header(
            stream_id, k, kind, first_seq, len(records), chain.mth([chain.leaf(it) for it in records]), head,
            chain.public_key(following), boot_id, t, t - 900_000_000 if records else 0, t - 100_000_000 if records else 0,
            observed, refused, own, lost_agent, lost_source, last_receipt,
        )
        assert header.counters_hold()
        head = header.hash()
        batches.append({
            "records": [it.decode() for it in records], "seed": seed.hex(), "fields": stated(header), "header": header.to_bytes().hex(),
            "hash": head.hex(), "seal": chain.seal(seed, head).hex(),
        })
        if answered:
            receipt = chain.Receipt(chain.sha256(chain.ed25519.public_key(key)), stream_id, k, head, 100 + k, t + 500_000_000)
            last_receipt = chain.sha256(receipt.message())
            receipts_.append(receipt.signed(key).hex())
        seed, first_seq = following, first_seq + len(records)
    return {
        "open": opened.to_bytes().hex(), "binding": bound.hex(), "receipt_key": chain.ed25519.public_key(key).hex(),
        "batches": batches, "receipts": receipts_,
    }


VECTORS = {
    "binding": bindings, "open": opens, "header": headers, "merkle": merkle, "ratchet": ratchet, "receipt": receipts,
    "event_id": event_ids, "slot": slots, "stream": stream,
}


def text_of(make):
    return json.dumps(make(), indent=1, ensure_ascii=True) + "\n"


def write():
    FOLDER.mkdir(exist_ok=True)
    for name, make in VECTORS.items():
        (FOLDER / f"{name}.json").write_text(text_of(make))
    return 0


def check():
    bad = 0
    for name, make in VECTORS.items():
        path = FOLDER / f"{name}.json"
        if not path.exists() or path.read_text() != text_of(make):
            print(f"{path} is not what this implementation makes", file=sys.stderr)
            bad += 1
    extra = {path.stem for path in FOLDER.glob("*.json")} - set(VECTORS)
    for name in sorted(extra):
        print(f"{FOLDER / name}.json is made by nobody", file=sys.stderr)
    whole = stream()
    problems = verify_stream(whole)
    for problem in problems:
        print(f"stream: {problem}", file=sys.stderr)
    if bad or extra or problems:
        return 1
    print(f"{len(VECTORS)} files of vectors hold")
    return 0


def verify_stream(whole):
    """Walks the stream as a verifier would: from bytes alone."""
    opened = chain.Open.parse(bytes.fromhex(whole["open"]))
    problems, head, pk, seq = [], opened.hash(), opened.pk_0, 0
    for k, batch in enumerate(whole["batches"]):
        header = chain.Header.parse(bytes.fromhex(batch["header"]))
        leaves = [chain.leaf(record.encode()) for record in batch["records"]]
        checks = {
            "k": header.k == k, "previous": header.previous == head, "first_seq": header.first_seq == seq,
            "root": header.root == chain.mth(leaves), "count": header.count == len(leaves), "counters": header.counters_hold(),
            "seal": chain.seal_holds(pk, header.hash(), bytes.fromhex(batch["seal"])),
        }
        problems += [f"batch {k}: {name}" for name, holds in checks.items() if not holds]
        head, pk, seq = header.hash(), header.next_pk, seq + header.count
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("write")
    commands.add_parser("check")
    of_proof = commands.add_parser("check-proof")
    of_proof.add_argument("files", nargs="+", type=Path)
    of_proof.add_argument("--log", action="append", default=[], type=Path)
    arguments = parser.parse_args()
    match arguments.command:
        case "write":
            return write()
        case "check":
            return check()
        case _:
            return proof.check(arguments.files, arguments.log)


if __name__ == "__main__":
    sys.exit(main())
