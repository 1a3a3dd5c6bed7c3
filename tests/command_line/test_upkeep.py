"""``commandstore compact`` and ``commandstore gc``."""

import pytest

from commandstore import Capability, Command, ConfigurationError, open_store
from commandstore.memory import MemoryBackend


@pytest.fixture
def kept_up(monkeypatch):
    """Stores in memory have upkeep; what they were asked for."""
    asked = []

    async def compact(_):
        asked.append("compact")
        return {"segments": 1_200, "merged": 3}

    async def gc(_, *, grace):
        asked.append(grace)
        return {"removed": 0}

    monkeypatch.setattr(MemoryBackend, "capabilities", frozenset({Capability.MAINTENANCE}))
    monkeypatch.setattr(MemoryBackend, "compact", compact)
    monkeypatch.setattr(MemoryBackend, "gc", gc)
    return asked


def test_it_says_what_was_done_by_the_counts(cli, memory, kept_up):
    result = cli("compact", memory())
    assert (result.code, result.out, result.err) == (0, f"compacted {memory()}: segments: 1,200, merged: 3\n", "")
    assert cli("gc", memory()).out == f"collected {memory()}: removed: 0\n"
    assert cli("compact", memory(), "--json").document == {"store": memory(), "segments": 1_200, "merged": 3}
    assert cli("gc", memory(), "--grace", "1.5", "--json").document == {"store": memory(), "removed": 0}
    assert kept_up == ["compact", 86400.0, "compact", 1.5]


@pytest.mark.parametrize("grace", ["-1", "nan", "inf"])
def test_a_grace_that_is_no_span_of_time_is_refused(refused, memory, kept_up, grace):
    assert "grace is a number of seconds" in refused("gc", memory(), f"--grace={grace}")
    assert kept_up == []


def test_a_store_without_upkeep_says_so(refused, memory, tmp_path):
    assert refused("compact", memory()) == "memory needs no compaction"
    assert "leaves no garbage" in refused("gc", memory())
    refused("compact", f"sqlite:///{tmp_path}/absent.db")
    assert list(tmp_path.iterdir()) == []


def test_gc_of_dynamodb_keeps_every_command(cli, refused, ministack, request):
    url = f"dynamodb://cli-{abs(hash(request.node.nodeid)):x}?endpoint_url={ministack.endpoint}"
    long = Command("long", 1, data_bytes=b"x" * 900_000)
    with open_store(url, create=True) as store:
        store.create(long)
        document = cli("gc", url, "--grace", "0", "--json").document
        assert document == {"store": str(store), "scanned": document["scanned"], "removed": 0}
        assert store.get("long") == long
        with pytest.raises(ConfigurationError):
            store.gc(-1)
    refused("compact", url)
