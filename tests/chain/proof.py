"""Verifies delivered proof files: from opens and certificates through headers and seals to leaves and records.

The first batch of a window is sealed under a key that the batch before it names: that batch stands in the file before,
or in the stream's takeUp with the receipt that names it. Where neither shows it, the seal is counted as not checked.
Whether receipt keys and certificates are the trusted ones is not looked at: that needs the CA that the reader pinned.
"""

import base64
import gzip
import json
import zlib

import chain
import ed25519
import p256


class Findings:
    """What was wrong, and how much was looked at."""

    def __init__(self):
        self.problems = []
        self.counts = {}

    def expect(self, holds, where, what):
        if not holds:
            self.problems.append(f"{where}: {what}")
        return holds

    def count(self, what, n=1):
        self.counts[what] = self.counts.get(what, 0) + n


def read(path):
    data = path.read_bytes()
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def raw(text):
    return base64.b64decode(text, validate=True)


def check_stream(stream, findings):
    """The open's parts fit together; gives the open, or None."""
    where = f"stream {stream['streamId']}"
    data, bound, certificates = raw(stream["open"]), raw(stream["binding"]), [raw(it) for it in stream["certificateChain"]]
    try:
        opened = chain.Open.parse(data)
    except chain.Malformed as error:
        findings.expect(False, where, f"open: {error}")
        return None
    findings.expect(opened.stream_id.hex() == stream["streamId"].replace("-", ""), where, "the open is of another stream")
    findings.expect(opened.binding_hash == chain.sha256(bound), where, "the binding is not the open's")
    if findings.expect(bool(certificates), where, "no certificate"):
        findings.expect(opened.certificate_hash == chain.sha256(certificates[0]), where, "the certificate is not the open's")
        point = p256.point_of_certificate(certificates[0])
        findings.expect(p256.verify(point, data, raw(stream["signature"])), where, "the open's signature does not hold")
    findings.count("opens")
    return opened


def take_up(stream, keys, known, findings):
    """The last batch before the window, where the stream names it: anchored by the receipt that names its hash."""
    if stream.get("takeUp") is None:
        return
    where = f"take-up of stream {stream['streamId']}"
    try:
        header = chain.Header.parse(raw(stream["takeUp"]["header"]))
        receipt, signature = chain.Receipt.parse(raw(stream["takeUp"]["receipt"]))
    except chain.Malformed as error:
        findings.expect(False, where, str(error))
        return
    key = keys.get(receipt.key_hash)
    holds = [
        findings.expect(header.stream_id.hex() == stream["streamId"].replace("-", ""), where, "the header is of another stream"),
        findings.expect(
            (receipt.stream_id, receipt.k, receipt.head) == (header.stream_id, header.k, header.hash()), where, "the receipt names another batch"
        ),
        findings.expect(key is not None and ed25519.verify(key, receipt.message(), signature), where, "the receipt does not hold"),
    ]
    after = (header.hash(), header.next_pk, header.first_seq + header.count)
    if all(holds):
        findings.expect(known.setdefault((header.stream_id, header.k), after) == after, where, "an earlier file has another batch there")
        findings.count("take-ups")


def check_batch(batch, known, findings):
    """One header with seal and leaves; `known` maps (stream, k) to the header before it."""
    where = f"ledger index {batch['ledgerIndex']}"
    try:
        header = chain.Header.parse(raw(batch["header"]))
    except chain.Malformed as error:
        findings.expect(False, where, f"header: {error}")
        return []
    findings.count("headers")
    findings.expect(header.counters_hold(), where, "the counters do not add up")
    findings.expect(header.kind == chain.RECORDS or header.count == 0, where, "a batch without records counts some")
    before = known.get((header.stream_id, header.k - 1))
    if before is None:
        findings.count("seals whose key lies in an earlier file")
    else:
        previous, pk, next_seq = before
        findings.expect(header.previous == previous, where, "does not follow the batch before it")
        findings.expect(header.first_seq == next_seq, where, "its records do not follow those before them")
        findings.expect(chain.seal_holds(pk, header.hash(), raw(batch["seal"])), where, "the seal does not hold")
        findings.count("seals")
    known[(header.stream_id, header.k)] = (header.hash(), header.next_pk, header.first_seq + header.count)
    return check_leaves(batch, header, where, findings)


def check_leaves(batch, header, where, findings):
    """(leaf, mark) pairs; none where the file leaves them out."""
    if batch.get("leaves") is None:
        return []
    joined, marks = raw(batch["leaves"]), batch.get("marks") or ""
    leaves = [joined[at:at + 32] for at in range(0, len(joined), 32)]
    findings.expect(chain.mth(leaves) == header.root, where, "the leaves do not make the header's root")
    findings.expect(len(leaves) == header.count == len(marks), where, "leaves, marks and count differ in number")
    findings.expect(set(marks) <= set("deuq"), where, "an unknown mark")
    findings.count("leaves", len(leaves))
    return list(zip(leaves, marks))


def check_receipts(document, keys, known, findings):
    for text in document["receipts"]:
        try:
            receipt, signature = chain.Receipt.parse(raw(text))
        except chain.Malformed as error:
            findings.expect(False, "receipt", str(error))
            continue
        where = f"receipt of batch {receipt.k} of {receipt.stream_id.hex()}"
        key = keys.get(receipt.key_hash)
        if findings.expect(key is not None, where, "its key is not in the file"):
            findings.expect(ed25519.verify(key, receipt.message(), signature), where, "the signature does not hold")
        batch = known.get((receipt.stream_id, receipt.k))
        findings.expect(batch is None or batch[0] == receipt.head, where, "names another head")
        findings.count("receipts")


def check_logs(paths, delivered, findings):
    """Each record of the log files is a leaf that is marked as delivered, and none is there twice."""
    left = dict(delivered)
    for path in paths:
        try:
            text = read(path).decode()
        except (OSError, EOFError, zlib.error, ValueError) as error:
            findings.expect(False, path, f"unreadable: {error}")
            continue
        start = '{"Records":['
        findings.expect(text.startswith(start) and text.endswith("]}"), path, "is no log file")
        at, decoder, number = len(start), json.JSONDecoder(), 0
        while at < len(text) - 2:
            try:
                _, end = decoder.raw_decode(text, at)
            except ValueError as error:
                findings.expect(False, f"{path}, record {number}", f"is no JSON: {error}")
                break
            leaf = chain.leaf(text[at:end].encode())
            if findings.expect(left.get(leaf, 0) > 0, f"{path}, record {number}", "no unused delivered leaf has its hash"):
                left[leaf] -= 1
            findings.count("records")
            at, number = end + 1, number + 1
    return sum(left.values())


def check(files, logs):
    findings, known, delivered = Findings(), {}, {}
    for path in files:
        try:
            document = json.loads(read(path))
        except (OSError, EOFError, zlib.error, ValueError) as error:
            findings.expect(False, path, f"unreadable: {error}")
            continue
        try:
            check_file(document, known, delivered, findings)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            findings.expect(False, path, f"not of a proof's form: {error!r}")
    if logs:
        unused = check_logs(logs, delivered, findings)
        findings.count("delivered leaves that stand in no given log file", unused)
    for what, number in findings.counts.items():
        print(f"{number} {what}")
    for problem in findings.problems:
        print(f"BAD {problem}")
    return 1 if findings.problems else 0


def check_file(document, known, delivered, findings):
    findings.expect(document["version"] == "1", "proof", f"unknown version {document['version']}")
    keys = {chain.sha256(raw(key["publicKey"])): raw(key["publicKey"]) for key in document["receiptKeys"]}
    for stream in document["streams"]:
        opened = check_stream(stream, findings)
        if opened is not None:
            known[(opened.stream_id, -1)] = (opened.hash(), opened.pk_0, 0)
            take_up(stream, keys, known, findings)
    indexes = [batch["ledgerIndex"] for batch in document["batches"]]
    findings.expect(indexes == sorted(set(indexes)), "proof", "batches are not in ledger order")
    in_window = all(document["ledgerFrom"] <= index < document["ledgerTo"] for index in indexes)
    findings.expect(in_window, "proof", "a batch lies outside the window")
    for batch in document["batches"]:
        for leaf, mark in check_batch(batch, known, findings):
            if mark == "d":
                delivered[leaf] = delivered.get(leaf, 0) + 1
    check_receipts(document, keys, known, findings)
