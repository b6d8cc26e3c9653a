"""For read_ledger.py: ed25519 (RFC 8032, section 5.1.7), and signed notes against a policy (C2SP signed-note, tlog-cosignature, tlog-policy).

In plain Python, so that a ledger can be checked where nothing can be installed. It only verifies, so it handles no secret.
"""
import base64
import hashlib

P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D, ROOT = -121665 * pow(121666, -1, P) % P, pow(2, (P - 1) // 4, P)


def point(octets):
    y, odd = int.from_bytes(octets, "little") % 2**255, octets[31] >> 7
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    x = x if (x * x - square) % P == 0 else x * ROOT % P
    if y >= P or (x * x - square) % P or (x == 0 and odd):
        raise ValueError("not a point of the curve")
    x = x if x % 2 == odd else P - x
    return x, y, 1, x * y % P


def add(p, q):
    a, b = (p[1] - p[0]) * (q[1] - q[0]), (p[1] + p[0]) * (q[1] + q[0])
    c, d = 2 * p[3] * q[3] * D, 2 * p[2] * q[2]
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(number, p):
    total = (0, 1, 1, 0)
    while number:
        total, p, number = (add(total, p) if number & 1 else total), add(p, p), number >> 1
    return total


BASE = point((4 * pow(5, -1, P) % P).to_bytes(32, "little"))


def is_signed(key, signature, message):
    """Whether the 64-byte `signature` over `message` is by the 32-byte public `key`."""
    try:
        r, s = signature[:32], int.from_bytes(signature[32:], "little")
        k = int.from_bytes(hashlib.sha512(r + key + message).digest(), "little") % L
        left, right = times(s, BASE), add(point(r), times(k, point(key)))
    except (ValueError, IndexError):
        return False
    return len(signature) == 64 and s < L and all((left[i] * right[2] - right[i] * left[2]) % P == 0 for i in (0, 1))


def check(holds, what):
    if not holds:
        raise SystemExit(f"not verified: {what}")


def decode(text):
    """Base64 in its one spelling: other spellings of the same bytes are refused."""
    octets = base64.b64decode(text, validate=True)
    check(base64.b64encode(octets).decode() == text, f"base64 in another spelling: {text[:40]}")
    return octets


def checkpoint(note, policy):
    """Origin, size, root and cosigners of a checkpoint that its log signed and the policy's quorum cosigned."""
    lines = [line.split() for line in policy.splitlines() if line.strip() and not line.startswith("#")]
    vkeys = [(line[1], *line[2 if line[0] == "witness" else 1].split("+", 2)) for line in lines if line[0] in ("log", "witness")]
    keys = {(name, number): (listed, decode(key)) for listed, name, number, key in vkeys}
    text, _, signatures = note.rpartition("\n\n")
    agreed, cosigners, text = {"none"}, [], text + "\n"
    check(signatures.endswith("\n"), "checkpoint: it was cut")
    for dash, name, data in (line.split(" ") for line in signatures[:-1].split("\n")):
        number, signature, message = decode(data)[:4].hex(), decode(data)[4:], text
        check(dash == "\u2014" and (name, number) in keys, f"checkpoint: the policy lists no signer {name} {number}")
        listed, key = keys[name, number]
        if key[0] == 4:  # a cosignature states its time
            message, signature = f"cosignature/v1\ntime {int.from_bytes(signature[:8], 'big')}\n{text}", signature[8:]
        check(is_signed(key[1:], signature, message.encode()), f"checkpoint: the signature by {name} does not verify")
        agreed.add(listed if key[0] == 4 else "log " + name)
        cosigners += [listed] if key[0] == 4 else []
    for group in (line for line in lines if line[0] == "group"):
        needed = {"any": 1, "all": len(group) - 3}.get(group[2]) or int(group[2])
        agreed |= {group[1]} if len(agreed & set(group[3:])) >= needed else set()
    origin, size, root = text.split("\n")[:3]
    check("log " + origin in agreed, f"checkpoint: {origin} itself has not signed it")
    check(all(line[1] in agreed for line in lines if line[0] == "quorum"), f"checkpoint: only {cosigners} cosigned it")
    return origin, int(size), decode(root), cosigners
