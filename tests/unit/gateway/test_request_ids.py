"""Request ids: none twice, none to be guessed, in the order of their time."""

import os
import re
from itertools import count

from trollproxy.gateway.request_ids import RequestIds


def test_an_id_has_its_time_and_eighty_random_bits() -> None:
    ids = RequestIds(wall=lambda: 1_760_000_000.125, random_bytes=lambda size: bytes(size - 1) + b"\xff")
    assert ids() == "req_" + f"{1_760_000_000_125:012x}" + "0" * 18 + "ff"
    assert re.fullmatch(r"req_[0-9a-f]{32}", RequestIds()())


def test_later_ones_sort_behind_earlier_ones_for_thousands_of_years() -> None:
    times = iter([0.0, 1_760_000_000.0, 1_760_000_000.001, 4_102_444_800.0, 250_000_000_000.0])
    ids = RequestIds(wall=lambda: next(times))
    found = [ids() for _ in range(5)]
    assert found == sorted(found)
    assert {len(each) for each in found} == {36}


def test_many_of_one_moment_differ_and_share_system_calls() -> None:
    asked = count()

    def random_bytes(size: int) -> bytes:
        next(asked)
        return os.urandom(size)

    ids = RequestIds(wall=lambda: 1.0, random_bytes=random_bytes)
    assert len({ids() for _ in range(10_000)}) == 10_000
    assert next(asked) <= 40


def test_a_forked_process_makes_others() -> None:
    ids = RequestIds(wall=lambda: 1.0)
    ids()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, " ".join(ids() for _ in range(100)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reading, 1 << 16).decode().split()
    assert len(theirs) == 100
    assert not set(theirs) & {ids() for _ in range(1000)}
