"""The proof check itself: a straight proof passes, and each way of bending it is named.

    python3 -m unittest discover -s tests/chain
"""

import base64
import contextlib
import copy
import gzip
import io
import json
import tempfile
import unittest
from pathlib import Path

import chain
import ed25519
import p256
import proof
import vectors


def b64(data):
    return base64.b64encode(data).decode()


def ecdsa_sign(secret, message):
    """For tests only: the nonce is the message's hash."""
    h = int.from_bytes(chain.sha256(message), "big")
    nonce = int.from_bytes(chain.sha256(b"nonce" + message), "big") % p256.N
    r = p256.multiply(nonce, p256.G)[0] % p256.N
    s = pow(nonce, -1, p256.N) * (h + r * secret) % p256.N
    numbers = b""
    for number in (r, s):
        raw = number.to_bytes(33, "big").lstrip(b"\x00")
        raw = b"\x00" + raw if raw[0] & 0x80 else raw
        numbers += bytes([2, len(raw)]) + raw
    return bytes([0x30, len(numbers)]) + numbers


def straight_proof():
    """The whole stream of the vectors, delivered."""
    whole, secret = vectors.stream(), int.from_bytes(vectors.some("p256"), "big") % p256.N
    x, y = p256.multiply(secret, p256.G)
    certificate = b"DER..." + p256.SPKI + x.to_bytes(32, "big") + y.to_bytes(32, "big")
    opened = chain.Open.parse(bytes.fromhex(whole["open"]))
    # The vectors' open names no real certificate: this stream is opened, and so sealed, anew.
    opened.certificate_hash = chain.sha256(certificate)
    head, batches, seed = opened.hash(), [], vectors.some("whole seed")
    for k, batch in enumerate(whole["batches"]):
        header = chain.Header.parse(bytes.fromhex(batch["header"]))
        header.previous = head
        head = header.hash()
        entry = {
            "ledgerIndex": 100 + k, "tReceived": header.t_sealed + 500_000_000, "header": b64(header.to_bytes()),
            "seal": b64(chain.seal(seed, head)),
        }
        if header.count:
            entry["leaves"] = b64(b"".join(chain.leaf(record.encode()) for record in batch["records"]))
            entry["marks"] = "d" * header.count
        batches.append(entry)
        seed = chain.next_seed(seed, header.stream_id, k)
    key = vectors.some("receipt key")
    receipt = chain.Receipt(
        chain.sha256(ed25519.public_key(key)), opened.stream_id, len(batches) - 1, head, 100 + len(batches) - 1, batches[-1]["tReceived"]
    )
    document = {
        "version": "1", "awsAccountId": "111122223333", "awsRegion": "dc-tokyo-1", "digestStartTime": "", "digestEndTime": "",
        "ledgerFrom": 100, "ledgerTo": 100 + len(batches),
        "streams": [{
            "streamId": opened.stream_id.hex(), "open": b64(opened.to_bytes()), "binding": b64(bytes.fromhex(whole["binding"])),
            "signature": b64(ecdsa_sign(secret, opened.to_bytes())), "certificateChain": [b64(certificate)], "internal": False,
        }],
        "receiptKeys": [{"publicKey": b64(ed25519.public_key(key)), "notBefore": 0, "notAfter": 2**64 - 1, "caSignature": ""}],
        "batches": batches, "receipts": [b64(receipt.signed(key))],
    }
    records = [record for batch in whole["batches"] for record in batch["records"]]
    return document, '{"Records":[' + ",".join(records) + "]}"


def flipped(text, at=-1):
    """Base64 with one bit of its bytes changed."""
    data = bytearray(base64.b64decode(text))
    data[at] ^= 1
    return b64(bytes(data))


class ProofCheck(unittest.TestCase):
    document, log = straight_proof()

    def check(self, documents, logs=()):
        """(status, what was printed)"""
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()) as out:
            paths = []
            for i, content in enumerate([*map(json.dumps, documents), *logs]):
                paths.append(Path(folder) / f"{i}.json.gz")
                paths[-1].write_bytes(gzip.compress(content.encode()))
            status = proof.check(paths[:len(documents)], paths[len(documents):])
        return status, out.getvalue()

    def assert_found(self, words, bend):
        document = copy.deepcopy(self.document)
        bend(document)
        status, out = self.check([document])
        self.assertEqual(status, 1, out)
        self.assertIn(words, out)

    def test_a_straight_proof_and_its_log_file_pass(self):
        status, out = self.check([self.document], [self.log])
        self.assertEqual(status, 0, out)
        for line in ["1 opens", "5 headers", "5 seals", "7 leaves", "1 receipts", "7 records"]:
            self.assertIn(line + "\n", out)

    def test_a_stream_goes_on_from_one_file_to_the_next(self):
        first, second = copy.deepcopy(self.document), copy.deepcopy(self.document)
        first.update(ledgerTo=102, batches=first["batches"][:2], receipts=[])
        second.update(ledgerFrom=102, batches=second["batches"][2:])
        status, out = self.check([first, second])
        self.assertEqual((status, "5 seals\n" in out), (0, True), out)
        status, out = self.check([second])
        self.assertEqual((status, "1 seals whose key lies in an earlier file" in out), (0, True), out)

    def taken_up(self):
        """The window from batch 2 on, with batch 1 and its receipt as take-up."""
        document = copy.deepcopy(self.document)
        header, key = base64.b64decode(document["batches"][1]["header"]), vectors.some("receipt key")
        parsed = chain.Header.parse(header)
        receipt = chain.Receipt(chain.sha256(ed25519.public_key(key)), parsed.stream_id, 1, parsed.hash(), 101, 7)
        document["streams"][0]["takeUp"] = {"header": b64(header), "receipt": b64(receipt.signed(key))}
        document.update(ledgerFrom=102, batches=document["batches"][2:])
        return document

    def test_a_stream_is_taken_up_where_a_receipt_names_it(self):
        status, out = self.check([self.taken_up()])
        self.assertEqual((status, "1 take-ups\n" in out, "3 seals\n" in out), (0, True, True), out)

    def test_a_bent_take_up_is_named(self):
        for words, member, at in [
            ("the receipt does not hold", "receipt", -1),
            ("the receipt does not hold", "receipt", 30),
            ("the receipt names another batch", "receipt", 80),
            ("the receipt names another batch", "header", -1),
            ("the header is of another stream", "header", 20),
            ("does not begin with", "header", 0),
        ]:
            document = self.taken_up()
            bent = document["streams"][0]["takeUp"]
            bent[member] = flipped(bent[member], at)
            status, out = self.check([document])
            self.assertEqual((status, words in out), (1, True), out)
        other = self.taken_up()
        other["batches"][0]["seal"] = flipped(other["batches"][0]["seal"])
        self.assertIn("the seal does not hold", self.check([other])[1])

    def test_every_bend_is_named(self):
        def stream(name, value):
            return lambda it: it["streams"][0].update({name: value(it["streams"][0][name])})

        def batch(k, name, value):
            return lambda it: it["batches"][k].update({name: value(it["batches"][k][name])})

        bends = [
            ("the binding is not the open's", stream("binding", flipped)),
            ("the open's signature does not hold", stream("signature", flipped)),
            ("the open's signature does not hold", stream("open", lambda text: flipped(text, 140))),
            ("the certificate is not the open's", stream("certificateChain", lambda all_: [flipped(all_[0], 0)])),
            ("no certificate", stream("certificateChain", lambda _: [])),
            ("the open is of another stream", stream("streamId", lambda _: "00" * 16)),
            ("open: cause", stream("open", lambda text: b64(base64.b64decode(text)[:138] + b"\x09" + base64.b64decode(text)[139:]))),
            ("the seal does not hold", batch(2, "seal", flipped)),
            ("the seal does not hold", batch(4, "header", flipped)),
            ("does not follow the batch before it", batch(1, "header", flipped)),
            ("the counters do not add up", batch(0, "header", lambda text: flipped(text, 199))),
            ("the leaves do not make the header's root", batch(0, "leaves", flipped)),
            ("leaves, marks and count differ in number", batch(0, "marks", lambda marks: marks[1:])),
            ("an unknown mark", batch(0, "marks", lambda marks: "x" + marks[1:])),
            ("header: ", batch(0, "header", lambda text: b64(base64.b64decode(text)[1:]))),
            ("the signature does not hold", lambda it: it.update(receipts=[flipped(it["receipts"][0])])),
            ("its key is not in the file", lambda it: it.update(receiptKeys=[])),
            ("names another head", lambda it: it["batches"][4].update(header=flipped(it["batches"][4]["header"]))),
            ("batches are not in ledger order", lambda it: it["batches"].reverse()),
            ("a batch lies outside the window", lambda it: it.update(ledgerTo=104)),
            ("unknown version", lambda it: it.update(version="2")),
            ("not of a proof's form", lambda it: it.pop("streams")),
        ]
        for words, bend in bends:
            with self.subTest(words):
                self.assert_found(words, bend)

    def test_records_that_were_not_delivered_are_named(self):
        for bent in [self.log.replace('"a"', '"A"'), self.log.replace("]}", "," + self.log[len('{"Records":['):]), "{" + self.log]:
            status, out = self.check([self.document], [bent])
            self.assertEqual(status, 1, out)

    def test_bytes_that_are_no_proof_are_named(self):
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()) as out:
            for i, content in enumerate([b"", b"\x1f\x8b\x00", b"[]", b"{", gzip.compress(b"{}")[:-9]]):
                path = Path(folder) / str(i)
                path.write_bytes(content)
                self.assertEqual(proof.check([path], []), 1)
        self.assertEqual(out.getvalue().count("BAD"), 5)


class Rfc8032(unittest.TestCase):
    def test_the_rfcs_second_vector_is_reproduced(self):
        seed = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
        public = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
        signature = bytes.fromhex(
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        )
        self.assertEqual((ed25519.public_key(seed), ed25519.sign(seed, b"\x72")), (public, signature))
        self.assertTrue(ed25519.verify(public, b"\x72", signature))
        self.assertFalse(ed25519.verify(public, b"\x73", signature))


if __name__ == "__main__":
    unittest.main()
