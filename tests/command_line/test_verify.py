"""``commandstore verify``: what it shows, what a repair does, and how it exits."""

import pytest

from command_line.program import PAYLOAD
from commandstore import Command, StoreUnavailable, VerifyReport, open_store
from commandstore.cli.verify import account
from commandstore.memory import MemoryBackend

TIME = 1_760_000_000_000_000_000


def fill(url, numbers, **fields):
    with open_store(url) as store:
        store.create_many(Command(f"c{n:02}", TIME + n, **fields) for n in numbers)


def uuids(url):
    with open_store(url) as store:
        return [command.command_uuid for command in store.scan()]


@pytest.fixture
def source(memory):
    return memory("source")


@pytest.fixture
def destination(memory):
    return memory("destination")


@pytest.fixture
def differing(source, destination):
    """One of each kind."""
    fill(source, range(10), data_bytes=PAYLOAD.encode())
    fill(destination, [*range(1, 5), *range(6, 10)], data_bytes=PAYLOAD.encode())
    fill(destination, [5], data_bytes=b"other")
    fill(destination, [77])
    return source, destination


def test_equal_stores_exit_with_0_and_one_line(cli, source, destination):
    fill(source, range(10))
    fill(destination, range(10))
    result = cli("verify", source, destination)
    assert result.code == 0
    assert result.out.startswith("10 compared = 10 equal + 0 missing + 0 extra + 0 altered + 0 failed, in ")
    assert result.out.count("\n") == 1
    assert result.err == f"comparing {source} with {destination}\n"


def test_what_differs_is_a_table_and_exits_with_1(cli, differing):
    result = cli("verify", *differing)
    assert result.code == 1
    head, *rows, last = result.out.splitlines()
    assert head.split() == ["KIND", "COMMAND_UUID", "TIME", "REASON"]
    assert [row.split()[:3] for row in rows] == [
        ["missing", "c00", "2025-10-09T08:53:20.000000000Z"],
        ["extra", "c77", "2025-10-09T08:53:20.000000077Z"],
        ["altered", "c05", "2025-10-09T08:53:20.000000005Z"],
    ]
    assert rows[2].endswith("differs in data_bytes")
    assert last.startswith("11 compared = 8 equal + 1 missing + 1 extra + 1 altered + 0 failed, in ")
    assert PAYLOAD not in result.out + result.err


def test_json_is_the_report(cli, differing):
    result = cli("verify", *differing, "--json")
    assert result.code == 1
    assert set(result.document) == set(VerifyReport().to_dict())
    assert {finding["command_uuid"]: finding["kind"] for finding in result.document["findings"]} == {
        "c00": "missing", "c05": "altered", "c77": "extra",
    }  # fmt: skip


def test_a_repair_says_what_it_did_and_leaves_what_is_extra(cli, differing):
    result = cli("verify", *differing, "--repair")
    assert result.code == 1
    head, *rows, last = result.out.splitlines()
    assert head.split()[-1] == "DONE"
    done = {row.split()[1]: row.split("  ")[-1].strip() for row in rows}
    assert done == {
        "c00": "written", "c05": "replaced", "c77": "left: extra commands are deleted only with delete_extra",
    }  # fmt: skip
    assert " 0 failed; 2 repaired, 0 deleted, 1 left, in " in last
    assert "c77" in uuids(differing[1])


def test_when_nothing_is_left_after_a_repair_it_exits_with_0(cli, differing):
    result = cli("verify", *differing, "--repair", "--delete-extra")
    assert result.code == 0
    assert "2 repaired, 1 deleted, 0 left" in result.out
    assert uuids(differing[1]) == uuids(differing[0])
    assert cli("verify", *differing).code == 0


def test_extra_commands_are_not_deleted_without_a_repair(refused, differing):
    assert "--delete-extra goes with --repair" in refused("verify", *differing, "--delete-extra")
    assert "c77" in uuids(differing[1])


def test_twenty_are_shown_and_all_are_counted(cli, source, destination):
    fill(source, range(25))
    lines = cli("verify", source, destination).out.splitlines()
    assert len(lines) == 1 + 20 + 1 + 1
    assert lines[-2] == "... and 5 more (--json lists up to 1,000)"
    assert lines[-1].startswith("25 compared = 0 equal + 25 missing")


def test_a_tenant_and_a_range_narrow_it(cli, source, destination):
    fill(source, range(5), tenant_uuid="a")
    fill(source, range(5, 9), tenant_uuid="b")
    count = lambda *options: cli("verify", source, destination, *options, "--json").document["missing"]  # noqa: E731
    assert count("--tenant-uuid", "b") == 4
    assert count("--after", TIME + 2) == 6
    assert count("--before", TIME + 2) == 2


def test_payloads_that_do_not_fit_their_digests_are_found_when_they_are_read(cli, source, destination):
    fill(source, range(5), data_bytes=PAYLOAD.encode())
    fill(destination, range(5), data_bytes=PAYLOAD.encode())
    with open_store(destination) as store:
        records = store.core.backend._records
        record, write_id = records["c03"]
        records["c03"] = (record._replace(data=b"other"), write_id)
    assert cli("verify", source, destination).code == 0
    result = cli("verify", source, destination, "--payloads", "--repair")
    assert result.code == 0
    assert "the payload does not fit the digest" in result.out
    assert PAYLOAD in cli("get", destination, "c03").out


def test_key_files_open_both_sides(cli, source, destination, key_file, tmp_path):
    other = tmp_path / "other"
    other.write_text("ab" * 32)
    for url, key in ((source, key_file), (destination, other)):
        cli("create", url, "--command-uuid", "a", "--created-at", "5", "--data", PAYLOAD, "--key-file", key)
    keys = "--source-key-file", key_file, "--destination-key-file"
    assert cli("verify", source, destination, *keys, other).code == 0
    assert cli("verify", source, destination, *keys, key_file).code == 1
    assert PAYLOAD in cli("get", destination, "a", "--key-file", other).out


def test_a_store_is_not_compared_with_itself(cli, source):
    fill(source, range(5))
    result = cli("verify", source, source, "--repair")
    assert result.code == 0
    assert result.out.startswith("source and destination are the same store")


def test_a_verification_opens_the_destination_read_only(cli, differing, monkeypatch):
    seen = []
    opened = MemoryBackend.open

    async def watched(self, drive, *, create):
        seen.append(create)
        await opened(self, drive, create=create)

    monkeypatch.setattr(MemoryBackend, "open", watched)
    cli("verify", *differing)
    assert seen == [False, False]


def test_a_store_that_fails_exits_with_2_and_says_how_far_it_came(cli, differing, monkeypatch):
    async def unavailable(*_):
        raise StoreUnavailable("nobody answers")

    monkeypatch.setattr(MemoryBackend, "replace", unavailable)
    result = cli("verify", *differing, "--repair")
    assert result.code == 2
    assert result.err.splitlines()[-1] == "commandstore: error: nobody answers"
    assert "stopped: 9 commands compared, 1 differ, 0 of them repaired; run the same command again" in result.err


def test_an_interrupt_says_what_it_means(cli, differing, monkeypatch):
    async def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(MemoryBackend, "insert", interrupted)
    result = cli("verify", *differing, "--repair")
    assert result.code == 130
    assert "1 of them repaired; run the same command again to go on" in result.err


def test_the_account_shows_the_rate_and_that_it_was_stopped():
    report = VerifyReport(compared=3000, equal=2990, missing=10, repaired=7, seconds=1.5)
    assert account(report, repair=True) == (
        "stopped: 3,000 compared = 2,990 equal + 10 missing + 0 extra + 0 altered + 0 failed; 7 repaired, 0 deleted, "
        "3 left, in 1.5 s (2,000/s)"
    )
