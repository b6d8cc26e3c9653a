#!/usr/bin/env python3
"""Reads a published Leben ledger with nothing but Python 3, checks its signatures against a policy that you trust, and prints it.

    python3 read_ledger.py LEDGER POLICY      LEDGER: a folder or an http(s) address; POLICY: a file (C2SP tlog-policy)

Checked: the log's signature, the witnesses' cosignatures and the policy's quorum, every hash tile and the root (C2SP tlog-tiles, RFC 6962),
each entry's form, and its signatures (DSSE) under the keys that the ledger had in force at that entry. Not checked: whether each step was allowed;
`leben verify` replays that. The first thing that is wrong is named on standard error and ends it with exit code 1.
"""
import datetime, hashlib, http.client, json, sys, urllib.request
from signatures import check, checkpoint, clean, decode, is_signed

BYTES_MAX = 256 * 65537  # of a full bundle; no other file is longer
PAYLOAD = "application/vnd.leben.action+json;v=1"

def sha(octets): return hashlib.sha256(octets).digest()

def root(hashes):  # RFC 6962, section 2.1
    left = 1 << (len(hashes) - 1).bit_length() - 1 if len(hashes) > 1 else 0
    return sha(b"\1" + root(hashes[:left]) + root(hashes[left:])) if left else hashes[0] if hashes else sha(b"")

def read(ledger, name):
    web = ledger.startswith(("http://", "https://"))
    with urllib.request.urlopen(f"{ledger}/{name}", timeout=60) if web else open(f"{ledger}/{name}", "rb") as file: octets = file.read(BYTES_MAX + 1)
    check(len(octets) <= BYTES_MAX, f"{name} is longer than it can be")
    return octets

def parse(octets, place):  # canonical JSON: whole numbers up to 2^53 and one spelling
    def refuse(number): raise ValueError(f"{place} holds the number {number[:20]}")
    value = json.loads(octets, parse_float=refuse, parse_constant=refuse, parse_int=lambda number: int(number) if abs(int(number[:20])) <= 2**53 else refuse(number))
    check(json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode() == octets, f"{place} is not canonical")
    return value

def tile(ledger, level, number, width):  # tile/0/x001/234.p/44
    *upper, last = [group.zfill(3) for group in f"{number:,}".split(",")]
    return read(ledger, "/".join(["tile", level, *("x" + group for group in upper), last]) + (f".p/{width}" if width < 256 else ""))

def leaves(ledger, size, head):
    found = []
    for first in range(0, size, 256):
        width = min(256, size - first)
        bundle = tile(ledger, "entries", first // 256, width)
        for _ in range(width):  # a length of two bytes, then the entry
            end = 2 + int.from_bytes(bundle[:2], "big")
            check(2 <= end <= len(bundle), f"entry bundle {first // 256} was cut")
            found.append(bundle[2:end])
            bundle = bundle[end:]
        check(not bundle, f"entry bundle {first // 256} holds more than its {width} entries")
    hashes, level = [sha(b"\0" + leaf) for leaf in found], 0
    check(root(hashes) == head, "the entries do not lead to the root that was signed")
    while hashes:
        parts = [hashes[at:at + 256] for at in range(0, len(hashes), 256)]
        for number, part in enumerate(parts): check(tile(ledger, str(level), number, len(part)) == b"".join(part), f"hash tile {level}/{number}")
        hashes, level = [root(part) for part in parts if len(part) == 256], level + 1
    return found

def signers(place, action, envelope, ring):  # ring: key id -> party and key; changed as the action says
    body, actor, kind = action["body"], action["actor"], action["kind"]
    payload, signed, founders = decode(envelope["payload"]), [], kind in ("Genesis", "Handover")
    joining = [body["coordinator"], *body.get("admins", [])] if founders else [{"party": actor, **body}] if kind in ("PartyEnrol", "KeyRotate") else []
    new = {sha(bytes.fromhex(one["keys"]["party"])).hex(): (one["party"], bytes.fromhex(one["keys"]["party"])) for one in joining}
    brought = list(new)[:1]  # signs as well; admins that Genesis names do not
    keys = {**{keyid: new[keyid] for keyid in brought}, **{keyid: one for keyid, one in ring.items() if keyid}}
    message = b"DSSEv1 %d %s %d %s" % (len(PAYLOAD), PAYLOAD.encode(), len(payload), payload)
    for each in envelope["signatures"]:
        check(each["keyid"] in keys, f"{place}: signed by the key {each['keyid'][:16]}, which is nobody's")
        party, key = keys[each["keyid"]]
        check(is_signed(key, decode(each["sig"]), message), f"{place}: the signature by {party} does not verify")
        signed.append((party, each["keyid"]))
    check(envelope["payloadType"] == PAYLOAD, f"{place}: the payload is of another type")
    enters = founders or kind == "PartyEnrol"  # with the key that it brings; anybody else with the one in force, too
    check(any(party == actor and (enters or keyid in ring) for party, keyid in signed), f"{place}: {actor} acts and has not signed")
    check(all(any(keyid == one for _, one in signed) for keyid in brought), f"{place}: the key that it brings has not signed")
    gone = {party for party, _ in new.values()} | ({body["party"]} if action["kind"] == "KeyRevoke" else set())
    if founders:  # the coordinator under no key id: a Handover to another party ends its keys
        gone |= {ring[""][0]} if ring else set()
        new[""] = (body["coordinator"]["party"], b"")
    for keyid in [keyid for keyid in ring if ring[keyid][0] in gone]: del ring[keyid]
    ring.update(new)
    return [party for party, _ in signed]

def main(ledger, policy):
    origin, size, head, cosigners = checkpoint(read(ledger, "checkpoint").decode(), open(policy, encoding="utf-8").read())
    ring, network = {}, sha(b"leben/network/1" + origin.encode()).hex()
    for index, leaf in enumerate(leaves(ledger, size, head)):
        place = f"entry {index}"
        entry = parse(leaf, place)
        action = parse(decode(entry["envelope"]["payload"]), place)
        check(action["network"] == network, f"{place} was signed for another ledger")
        signed = signers(place, action, entry["envelope"], ring)
        time = datetime.datetime.fromtimestamp(entry["seq_ms"] // 1000, datetime.timezone.utc)
        print(clean(f"{index:7} {time:%Y-%m-%d %H:%M:%S} {action['kind']:14} {action.get('contract', '-')[:12]:12} {' '.join(signed)}"))
    print(clean(f"verified: {size} entries of {origin}, cosigned by {', '.join(cosigners)}"))

if __name__ == "__main__":
    if len(sys.argv) != 3: sys.exit(__doc__)
    try: main(*sys.argv[1:])
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, http.client.HTTPException) as error: sys.exit(clean(f"not verified: {type(error).__name__}: {error}"))
