"""Reads from a compiled program's text what it sends between devices."""

import math
import re
from typing import NamedTuple

SIZES = {"f64": 8, "s64": 8, "f32": 4, "s32": 4, "u32": 4, "f16": 2, "pred": 1}
RECORDED = 0.1  # of the epochs: what stands in the branch that records the loss
# Bytes sent by a device for each byte of the result, at most.
FACTORS = {
    "collective-permute": 1,
    "all-gather": 1,
    "all-to-all": 1,
    "reduce-scatter": 1,
    "all-reduce": 2,
}
LINE = re.compile(rf"= (.*?) ({'|'.join(FACTORS)})(?:-start)?\((.*)")
ARRAY = re.compile(r"(\w+)\[([\d,]*)\]")


class Collective(NamedTuple):
    """One exchange of an epoch: `sent` bytes by a device, on average over epochs."""

    kind: str
    largest: int
    sent: float


def collectives(text: str, devices: int) -> list[Collective]:
    """Returns all exchanges of an epoch.

    Args:
        text: The program of `run`, as `lower(...).compile().as_text()` has it.
        devices: How many it runs on.
    """
    exchanges = []
    for line in text.splitlines():
        match = LINE.search(line)
        if match is None:
            continue
        arrays = [_bytes(*array) for array in ARRAY.findall(match[1])]
        pairs = re.search(r"source_target_pairs=\{\{(.*?)\}\}", line)
        share = (pairs[1].count("},{") + 1) / devices if pairs else 1.0
        frequency = RECORDED if "cond/" in line else 1.0
        sent = sum(arrays) * FACTORS[match[2]] * share * frequency
        exchanges.append(Collective(match[2], max(arrays), sent))
    return exchanges


def _bytes(kind: str, shape: str) -> int:
    return SIZES[kind] * math.prod(map(int, filter(None, shape.split(","))))
