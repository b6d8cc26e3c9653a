#!/usr/bin/env python3
"""Reads a published Leben ledger with nothing but Python 3, checks its signatures against a policy that you trust, and prints it.

    python3 read_ledger.py LEDGER POLICY      LEDGER: a folder or an http(s) address; POLICY: a file (C2SP tlog-policy)

Checked: the log's signature, the witnesses' cosignatures and the policy's quorum, every hash tile and the root (C2SP tlog-tiles, RFC 6962),
and each entry's signatures (DSSE) under the keys that the ledger had in force at that entry. Not checked: whether each step was allowed;
`leben verify` replays that. The first thing that is wrong is named on standard error and ends it with exit code 1.
"""
import datetime, hashlib, json, sys, urllib.request
from signatures import check, checkpoint, decode, is_signed

def sha(octets): return hashlib.sha256(octets).digest()

def root(hashes):  # RFC 6962, section 2.1
    left = 1 << (len(hashes) - 1).bit_length() - 1 if len(hashes) > 1 else 0
    return sha(b"\1" + root(hashes[:left]) + root(hashes[left:])) if left else hashes[0] if hashes else sha(b"")

def read(ledger, name):
    with urllib.request.urlopen(f"{ledger}/{name}") if ledger.startswith("http") else open(f"{ledger}/{name}", "rb") as file: return file.read()

def tile(ledger, level, number, width):  # tile/0/x001/234.p/44
    *upper, last = [group.zfill(3) for group in f"{number:,}".split(",")]
    return read(ledger, "/".join(["tile", level, *("x" + group for group in upper), last]) + (f".p/{width}" if width < 256 else ""))

def leaves(ledger, size, head):
    found = []
    for first in range(0, size, 256):
        bundle = tile(ledger, "entries", first // 256, min(256, size - first))
        while bundle:  # a length of two bytes, then the entry
            end = 2 + int.from_bytes(bundle[:2], "big")
            found.append(bundle[2:end])
            bundle = bundle[end:]
    hashes, level = [sha(b"\0" + leaf) for leaf in found], 0
    check(len(found) == size and root(hashes) == head, "the entries do not lead to the root that was signed")
    while hashes:
        parts = [hashes[at:at + 256] for at in range(0, len(hashes), 256)]
        for number, part in enumerate(parts): check(tile(ledger, str(level), number, len(part)) == b"".join(part), f"hash tile {level}/{number}")
        hashes, level = [root(part) for part in parts if len(part) == 256], level + 1
    return found

def signers(place, action, envelope, ring):  # ring: key id -> party and key; changed as the action says
    body, message = action["body"], b"DSSEv1 %d %s %%d %%s" % (len(envelope["payloadType"]), envelope["payloadType"].encode())
    founders = action["kind"] in ("Genesis", "Handover")
    joining = [body["coordinator"], *body.get("admins", [])] if founders else [{"party": action["actor"], **body}]
    new = {sha(bytes.fromhex(one["keys"]["party"])).hex(): (one["party"], bytes.fromhex(one["keys"]["party"])) for one in joining if "keys" in one}
    payload, keys, signed = decode(envelope["payload"]), {**ring, **new}, []
    for each in envelope["signatures"]:
        check(each["keyid"] in keys, f"{place}: signed by the key {each['keyid'][:16]}, which is nobody's")
        party, key = keys[each["keyid"]]
        check(is_signed(key, decode(each["sig"]), message % (len(payload), payload)), f"{place}: the signature by {party} does not verify")
        signed.append(party)
    gone = {party for party, _ in new.values()} | ({body["party"]} if action["kind"] == "KeyRevoke" else set())
    if founders:  # the coordinator under no key id: a Handover to another party ends its keys
        gone |= {ring[""][0]} if ring else set()
        new[""] = (body["coordinator"]["party"], b"")
    for keyid in [keyid for keyid in ring if ring[keyid][0] in gone]: del ring[keyid]
    ring.update(new)
    return signed

def main(ledger, policy):
    origin, size, head, cosigners = checkpoint(read(ledger, "checkpoint").decode(), open(policy, encoding="utf-8").read())
    ring, network = {}, sha(b"leben/network/1" + origin.encode()).hex()
    for index, leaf in enumerate(leaves(ledger, size, head)):
        entry, place = json.loads(leaf), f"entry {index}"
        action = json.loads(decode(entry["envelope"]["payload"]))
        for octets, value in ((leaf, entry), (decode(entry["envelope"]["payload"]), action)):
            check(json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode() == octets, f"{place} is not canonical")
        check(action["network"] == network, f"{place} was signed for another ledger")
        signed = signers(place, action, entry["envelope"], ring)
        check(action["actor"] in signed, f"{place}: {action['actor']} acts and has not signed")
        time = datetime.datetime.fromtimestamp(entry["seq_ms"] // 1000, datetime.timezone.utc)
        print(f"{index:7} {time:%Y-%m-%d %H:%M:%S} {action['kind']:14} {action.get('contract', '-')[:12]:12} {' '.join(signed)}")
    print(f"verified: {size} entries of {origin}, cosigned by {', '.join(cosigners)}")

if __name__ == "__main__":
    if len(sys.argv) != 3: sys.exit(__doc__)
    try: main(*sys.argv[1:])
    except (OSError, ValueError, KeyError, TypeError) as error: sys.exit(f"not verified: {type(error).__name__}: {error}")
