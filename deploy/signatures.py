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
    """Whether the 64-byte `signature` over `message` is by the 32-byte public `key`; never by a weak one, for which anybody can sign."""
    if len(signature) != 64 or len(key) != 32:
        return False
    r, s = signature[:32], int.from_bytes(signature[32:], "little")
    k = int.from_bytes(hashlib.sha512(r + key + message).digest(), "little") % L
    try:
        nonce, public = point(r), point(key)
    except ValueError:
        return False
    if s >= L or any(times(8, each)[0] == 0 for each in (nonce, public)):  # weak: of small order
        return False
    left, right = times(s, BASE), add(nonce, times(k, public))
    return all((left[i] * right[2] - right[i] * left[2]) % P == 0 for i in (0, 1))


def clean(text):
    """What others wrote, without anything that could drive a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def check(holds, what):
    if not holds:
        raise SystemExit(clean(f"not verified: {what}"))


def decode(text):
    """Base64 in its one spelling: other spellings of the same bytes are refused."""
    octets = base64.b64decode(text, validate=True)
    check(base64.b64encode(octets).decode() == text, f"base64 in another spelling: {text[:40]}")
    return octets


def read_policy(text):
    """Keys by name and id, groups, and the quorum's name. Nothing counts twice, and nothing that is not there counts."""
    keys, defined, grouped, groups, quorums = {}, {"none"}, set(), [], []
    for place, words in ((f"policy line {at}", line.split()) for at, line in enumerate(text.split("\n"), 1)):
        kind = words[0] if words and not words[0].startswith("#") else None
        vkey = 2 if kind == "witness" else 1
        if kind in ("log", "witness"):
            check(vkey + 1 <= len(words) <= vkey + 2 and words[vkey].count("+") >= 2, f"{place}: a key, and an address if there is one")
            (name, number, key), listed = words[vkey].split("+", 2), words[1]
            key = decode(key)
            check(len(key) == 33 and key[0] == (4 if kind == "witness" else 1), f"{place}: a log's key is of type 1, a witness's of type 4")
            check(number == hashlib.sha256(name.encode() + b"\n" + key).hexdigest()[:8], f"{place}: the key's id is not its own")
            check(all(key[1:] != other[1:] for _, other in keys.values()), f"{place}: the key of {name} is listed twice")
            keys[name, number] = listed, key
        elif kind == "group":
            check(len(words) > 3 and set(words[3:]) <= defined - {"none"}, f"{place}: a group has members that are defined above it")
            needed = {"any": 1, "all": len(words) - 3}.get(words[2]) or int(words[2])
            check(1 <= needed <= len(words) - 3, f"{place}: {needed} of {len(words) - 3} cannot be met, or mean nothing")
            check(len(set(words[3:]) - grouped) == len(words) - 3, f"{place}: a member counts twice")
            grouped |= set(words[3:])
            groups.append((words[1], needed, set(words[3:])))
        else:
            check(not kind or kind == "quorum" and len(words) == 2 and words[1] in defined, f"{place}: {' '.join(words)[:40]}")
            quorums += words[1:] if kind else []
        if kind in ("witness", "group"):
            check(words[1] not in defined, f"{place}: the name {words[1]} is taken")
            defined.add(words[1])
    check(len(quorums) == 1 and text.endswith("\n"), "policy: it has one `quorum` line, and ends in a newline")
    return keys, groups, quorums[0]


def checkpoint(note, policy):
    """Origin, size, root and cosigners of a checkpoint that its log signed and the policy's quorum cosigned."""
    keys, groups, quorum = read_policy(policy)
    text, _, signatures = note.rpartition("\n\n")
    agreed, cosigners, text = {"none"}, [], text + "\n"
    check(signatures.endswith("\n"), "checkpoint: it was cut")
    for dash, name, data in (line.split(" ") for line in signatures[:-1].split("\n")):
        number, signature, message = decode(data)[:4].hex(), decode(data)[4:], text
        check(dash == "\u2014" and (name, number) in keys, f"checkpoint: the policy lists no signer {name} {number}")
        listed, key = keys[name, number]
        if key[0] == 4:  # a cosignature states its time
            time, signature = int.from_bytes(signature[:8], "big"), signature[8:]
            check(0 < time < 2**63, f"checkpoint: {name} cosigned at the time {time}")
            message = f"cosignature/v1\ntime {time}\n{text}"
        check(is_signed(key[1:], signature, message.encode()), f"checkpoint: the signature by {name} does not verify")
        agreed.add(listed if key[0] == 4 else "log " + name)
        cosigners += [listed] if key[0] == 4 and listed not in cosigners else []
    for name, needed, members in groups:
        agreed |= {name} if len(agreed & members) >= needed else set()
    check(text.count("\n") >= 3, "checkpoint: it has no origin, size and root")
    origin, size, root = text.split("\n")[:3]
    check("log " + origin in agreed, f"checkpoint: {origin} itself has not signed it")
    check(quorum in agreed, f"checkpoint: only {cosigners} cosigned it")
    check(str(int(size)) == size, f"checkpoint: the size {size}")
    return origin, int(size), decode(root), cosigners
