"""Flower's own SecAgg+ primitives on one client's vector and on the server's sum: what `secaggplus_mod` and
`secaggplus_workflow` of flwr 1.41 do with them, in their order, without the network.

usage: python - HOSPITALS PARAMS DROPPED < flower.py      (a Python that has flwr; prints one JSON object)"""

import importlib.metadata
import json
import os
import resource
import sys
import time

import numpy as np
from flwr.common import bytes_to_ndarray, ndarray_to_bytes
from flwr.common.secure_aggregation.crypto.shamir import combine_shares, create_shares
from flwr.common.secure_aggregation.crypto.symmetric_encryption import decrypt, encrypt, generate_shared_key
from flwr.common.secure_aggregation.ndarrays_arithmetic import (
    factor_combine,
    factor_extract,
    parameters_addition,
    parameters_mod,
    parameters_multiply,
    parameters_subtraction,
)
from flwr.common.secure_aggregation.quantization import dequantize, quantize
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen

try:
    from flwr.supercore.primitives.asymmetric import generate_key_pairs, private_key_to_bytes
except ImportError:
    from flwr.common.secure_aggregation.crypto.symmetric_encryption import generate_key_pairs, private_key_to_bytes

hospitals, params, dropped = (int(word) for word in sys.argv[1:4])
survivors = hospitals - dropped
# The defaults of SecAggPlusWorkflow: clip 8, 2^22 levels, ring 2^32; 16-bit values do not change what it costs.
CLIP, TARGET, MOD, RATIO = 8.0, 1 << 22, 1 << 32, 1000
threshold = 2 * hospitals // 3 + 1


class Clock:
    """Adds up wall and processor time of a part."""

    def __init__(self):
        self.wall = self.cpu = 0.0

    def __enter__(self):
        self.started = time.perf_counter(), time.process_time()

    def __exit__(self, *_):
        self.wall += time.perf_counter() - self.started[0]
        self.cpu += time.process_time() - self.started[1]


def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


client, server = Clock(), Clock()
vector = np.random.default_rng(0).standard_normal(params, dtype=np.float32) * np.float32(0.01)
before = peak_mib()
own_private, own_public = generate_key_pairs()
others = [generate_key_pairs() for _ in range(hospitals - 1)]

with client:
    generate_key_pairs()
    generate_key_pairs()
    seed = os.urandom(32)
    shares = create_shares(seed, threshold, hospitals), create_shares(private_key_to_bytes(own_private), threshold, hospitals)
    for index, (_, public) in enumerate(others):
        key = generate_shared_key(own_private, public)
        decrypt(key, encrypt(key, shares[0][index] + shares[1][index]))
    values = parameters_multiply([vector], RATIO / TARGET)
    values = factor_combine(RATIO, quantize(values, CLIP, TARGET))
    shapes = [value.shape for value in values]
    values = parameters_addition(values, pseudo_rand_gen(seed, MOD, shapes))
    for index, (_, public) in enumerate(others):
        mask = pseudo_rand_gen(generate_shared_key(own_private, public), MOD, shapes)
        values = (parameters_addition if index % 2 else parameters_subtraction)(values, mask)
    values = parameters_mod(values, MOD)
    upload = [ndarray_to_bytes(value) for value in values]
client_extra = peak_mib() - before

total = None
for _ in range(survivors):
    with server:
        received = [bytes_to_ndarray(part) for part in upload]
        total = received if total is None else parameters_addition(total, received)
with server:
    total = parameters_mod(total, MOD)
    shapes = [value.shape for value in total]
for _ in range(survivors):
    shares = create_shares(os.urandom(32), threshold, hospitals)
    with server:
        secret = combine_shares(shares[:threshold])
        total = parameters_subtraction(total, pseudo_rand_gen(secret, MOD, shapes))
for index in range(dropped):
    private, _ = others[index]
    shares = create_shares(private_key_to_bytes(private), threshold, hospitals)
    with server:
        combine_shares(shares[:threshold])
        for other, (_, public) in enumerate(others):
            mask = pseudo_rand_gen(generate_shared_key(private, public), MOD, shapes)
            total = (parameters_addition if other % 2 else parameters_subtraction)(total, mask)
with server:
    _, total = factor_extract(parameters_mod(total, MOD))
    for value in dequantize(total, CLIP, TARGET):
        value += -(survivors - 1) * CLIP
        value *= 1 / survivors

print(
    json.dumps(
        {
            "system": "flwr " + importlib.metadata.version("flwr"),
            "client_s": round(client.wall, 6),
            "server_s": round(server.wall, 6),
            "client_cpu_s": round(client.cpu, 6),
            "server_cpu_s": round(server.cpu, 6),
            "bytes_per_param": sum(map(len, upload)) / params,
            "client_extra_mib": round(client_extra, 1),
        }
    )
)
