"""A spool gives back places in order, in both directions, from anywhere."""

import itertools
import random

import pytest

from commandstore.command import INT64_MAX, INT64_MIN
from commandstore.sql.spool import Place, Spool, key_of, place_of

TIMES = [
    (0, 0),
    (1, INT64_MIN),
    (1, -1.5),
    (1, 0),
    (1, 7),
    (1, 7.5),
    (1, INT64_MAX),
    (1, float("inf")),
    (2, b""),
    (3, b"\xff"),
]
PLACES = [
    Place(rank, time, name, row_id)
    for (rank, time), name, row_id in itertools.product(TIMES, [b"", b"a", b"\xff\0"], [INT64_MIN, 0, INT64_MAX])
]


@pytest.fixture
def spool():
    made = Spool()
    mixed = PLACES.copy()
    random.Random(1).shuffle(mixed)  # noqa: S311 - an order, not a secret
    made.add(mixed[:50])
    made.add(mixed[50:])
    made.sort()
    yield made
    made.close()


@pytest.mark.parametrize("limit", [1, 7, 1000])
@pytest.mark.parametrize("ascending", [True, False])
def test_every_place_comes_once_in_order(spool, limit, ascending):
    found, last = [], None
    while part := spool.after(last, limit, ascending=ascending):
        assert len(part) <= limit
        found += part
        last = part[-1]
    assert found == (PLACES if ascending else PLACES[::-1])


def test_it_goes_on_after_a_place_that_is_not_there(spool):
    assert spool.after(Place(1, 1, b"", 5), 1) == [Place(1, 7, b"", INT64_MIN)]
    assert spool.after(Place(3, b"\xff\xff", b"", 0), 1) == []


def test_an_empty_one_has_nothing():
    spool = Spool()
    spool.sort()
    assert spool.after(None, 10) == []
    spool.close()


@pytest.mark.parametrize("place", PLACES)
def test_a_key_of_a_page_says_the_place(place):
    assert place_of(key_of(place)) == place
    assert type(place_of(key_of(place)).time) is type(place.time)


def test_a_key_of_a_feed_has_no_name():
    assert place_of((7, 3)) == Place(1, 7, b"", 3)
    assert place_of((None, 3)) == Place(0, 0, b"", 3)


def test_it_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setenv("SQLITE_TMPDIR", str(tmp_path))
    large = Spool()
    large.add((1, number, b"x" * 100, number) for number in range(200_000))
    large.sort()
    assert large.after(None, 1)[0].id == 0
    assert list(tmp_path.iterdir()) == []
    large.close()
