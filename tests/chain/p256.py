"""ECDSA over P-256 with SHA-256 (FIPS 186-5), verification only: what certificates and opens are signed with.

Takes exactly what it needs out of DER: the certificate's public point and a signature's two integers.
"""

import hashlib

P = 2**256 - 2**224 + 2**192 + 2**96 - 1
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)

# SubjectPublicKeyInfo of an uncompressed P-256 point, up to the point.
SPKI = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")


def add(p, q):
    if p is None or q is None:
        return q if p is None else p
    if p[0] == q[0]:
        if (p[1] + q[1]) % P == 0:
            return None
        slope = (3 * p[0] * p[0] - 3) * pow(2 * p[1], -1, P)
    else:
        slope = (q[1] - p[1]) * pow(q[0] - p[0], -1, P)
    x = (slope * slope - p[0] - q[0]) % P
    return (x, (slope * (p[0] - x) - p[1]) % P)


def multiply(scalar, point):
    result = None
    while scalar:
        if scalar & 1:
            result = add(result, point)
        point = add(point, point)
        scalar >>= 1
    return result


def point_of_certificate(der):
    """The certificate's public point; None where its key is not an uncompressed P-256 one."""
    at = der.find(SPKI)
    if at < 0 or len(der) < at + len(SPKI) + 64:
        return None
    at += len(SPKI)
    x, y = int.from_bytes(der[at:at + 32], "big"), int.from_bytes(der[at + 32:at + 64], "big")
    on_curve = x < P and y < P and (y * y - (x * x * x - 3 * x + B)) % P == 0
    return (x, y) if on_curve else None


def integers_of_signature(der):
    """(r, s) of SEQUENCE { INTEGER, INTEGER }; None where it is none."""
    if len(der) < 8 or der[0] != 0x30 or der[1] != len(der) - 2:
        return None
    numbers, at = [], 2
    while at + 2 <= len(der) and der[at] == 0x02:
        end = at + 2 + der[at + 1]
        numbers.append(int.from_bytes(der[at + 2:end], "big"))
        at = end
    return tuple(numbers) if at == len(der) and len(numbers) == 2 else None


def verify(point, message, signature):
    numbers = integers_of_signature(signature)
    if point is None or numbers is None or not all(0 < number < N for number in numbers):
        return False
    r, s = numbers
    inverse = pow(s, -1, N)
    h = int.from_bytes(hashlib.sha256(message).digest(), "big")
    sum_ = add(multiply(h * inverse % N, G), multiply(r * inverse % N, point))
    return sum_ is not None and sum_[0] % N == r
