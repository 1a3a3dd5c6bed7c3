"""``commandstore sync``: the account, its exit codes, and what is shown on the way."""

import io

import pytest

from command_line.program import PAYLOAD
from commandstore import Command, StoreUnavailable, SyncProgress, SyncReport, open_store
from commandstore.cli.progress import PlainProgress
from commandstore.cli.sync import account, so_far
from commandstore.memory import MemoryBackend


def fill(url, count, start=0, **fields):
    with open_store(url) as store:
        store.create_many(Command(f"c{n}", n, **fields) for n in range(start, start + count))


def total(url):
    with open_store(url) as store:
        return store.total()


@pytest.fixture
def source(memory):
    return memory("source")


@pytest.fixture
def destination(memory):
    return memory("destination")


def test_a_sync_copies_everything_and_accounts_for_it_in_one_line(cli, source, destination):
    fill(source, 25, data_bytes=PAYLOAD.encode())
    result = cli("sync", source, destination, "--batch-size", "10")
    assert result.code == 0
    assert result.out.startswith("25 read = 25 copied + 0 duplicates + 0 conflicts + 0 failed, in ")
    assert result.out.count("\n") == 1
    assert total(destination) == 25


def test_a_second_run_copies_nothing(cli, source, destination):
    fill(source, 5)
    cli("sync", source, destination)
    result = cli("sync", source, destination)
    assert result.code == 0
    assert " 0 copied + " in result.out


def test_json_has_the_names_of_the_report(cli, source, destination):
    fill(source, 5)
    document = cli("sync", source, destination, "--json").document
    assert set(document) == set(SyncReport().to_dict())
    assert (document["read"], document["copied"], document["complete"]) == (5, 5, True)


def test_progress_and_what_is_copied_where_go_to_stderr(cli, source, destination):
    fill(source, 25)
    result = cli("sync", source, destination, "--batch-size", "10", "--concurrency", "1", "--json")
    assert result.err.splitlines() == [f"syncing {source} -> {destination}", "10 read, 10 copied"]


def test_a_dry_run_writes_nothing_and_says_what_it_would_copy(cli, source, destination):
    fill(source, 5)
    result = cli("sync", source, destination, "--dry-run")
    assert result.out.startswith("dry run: 5 read = 5 to copy + 0 duplicates")
    assert result.err.startswith(f"comparing {source} -> {destination}\n")
    assert total(destination) == 0


def test_conflicts_are_listed_and_exit_with_1(cli, source, destination):
    fill(source, 25, data_bytes=b"one")
    fill(destination, 23, data_bytes=b"another")
    result = cli("sync", source, destination)
    assert result.code == 1
    *listed, more, last = result.out.splitlines()
    assert len(listed) == 20
    assert listed[0] == "c0  conflict: the destination has other content under this uuid"
    assert more == "... and 3 more (--json lists up to 1,000)"
    assert last.startswith("25 read = 2 copied + 0 duplicates + 23 conflicts + 0 failed, in ")


def test_json_lists_all_conflicts_and_exits_with_1(cli, source, destination):
    fill(source, 25, data_bytes=b"one")
    fill(destination, 23, data_bytes=b"another")
    result = cli("sync", source, destination, "--json")
    assert result.code == 1
    assert [failure["command_uuid"] for failure in result.document["failures"]] == [f"c{n}" for n in range(23)]


@pytest.fixture
def with_a_bad_one(cli, source, key_file):
    """A source with a command, in its middle, that can't be read without the key."""
    fill(source, 5)
    cli("create", source, "--command-uuid", "bad", "--created-at", "2", "--data", PAYLOAD, "--key-file", key_file)
    return source


def test_a_command_that_can_not_be_copied_stops_the_run_with_1(cli, with_a_bad_one, destination):
    result = cli("sync", with_a_bad_one, destination)
    assert result.code == 1
    assert "stopped: " in result.out
    assert "1 failed" in result.out
    [line] = [line for line in result.err.splitlines() if "error" in line]
    assert line.startswith("commandstore: error: command bad can't be copied: ")
    assert "--skip-on-error" in line


def test_a_stopped_run_is_one_document_too(cli, with_a_bad_one, destination):
    result = cli("sync", with_a_bad_one, destination, "--json")
    assert result.code == 1
    assert (result.document["complete"], result.document["failed"]) == (False, 1)
    assert result.document["error"]["type"] == "SyncError"


def test_skip_on_error_goes_on_and_exits_with_1_as_long_as_a_command_fails(cli, with_a_bad_one, destination):
    for copied in (5, 0):
        result = cli("sync", with_a_bad_one, destination, "--skip-on-error")
        assert result.code == 1
        assert f" {copied} copied + " in result.out
        assert " 1 failed, " in result.out
        assert result.out.startswith("bad  command 'bad' is encrypted")
    assert total(destination) == 5


def test_key_files_open_the_source_and_seal_the_destination(cli, with_a_bad_one, destination, key_file, tmp_path):
    other = tmp_path / "other"
    other.write_text("ab" * 32)
    both = cli(
        "sync", with_a_bad_one, destination, "--skip-on-error", "--source-key-file", key_file, "--key-file", other
    )
    assert " 5 failed, " in both.out  # those that the source holds plain
    assert PAYLOAD in cli("get", destination, "bad", "--key-file", other).out
    assert cli("get", destination, "bad", "--key-file", key_file).code == 1


def test_a_store_that_fails_stops_the_run_with_2(cli, source, destination, monkeypatch):
    fill(source, 5)

    async def unavailable(*_):
        raise StoreUnavailable("nobody answers")

    monkeypatch.setattr(MemoryBackend, "insert", unavailable)
    result = cli("sync", source, destination)
    assert result.code == 2
    assert "commandstore: error: the sync stopped: nobody answers" in result.err
    assert result.out.startswith("stopped: 0 read = 0 copied")


def test_a_tenant_and_a_start_narrow_the_run(cli, source, destination):
    fill(source, 5, tenant_uuid="a")
    fill(source, 5, start=5, tenant_uuid="b")
    assert cli("sync", source, destination, "--tenant-uuid", "b", "--json").document["copied"] == 5
    assert cli("sync", source, destination, "--start-after-time", "2", "--json").document["copied"] == 2
    assert total(destination) == 7


def test_without_resuming_everything_is_compared(cli, source, destination):
    fill(source, 5)
    cli("sync", source, destination, "--lag", "0")
    assert cli("sync", source, destination, "--no-resume-from-dest", "--json").document["duplicates"] == 5


def test_a_source_keeps_its_checkpoint_under_its_name(cli, memory, destination):
    fill(memory("before"), 5)
    fill(memory("after"), 5)
    cli("sync", memory("before"), destination, "--source-name", "app", "--lag", "0")
    document = cli("sync", memory("after"), destination, "--source-name", "app", "--lag", "0", "--json").document
    assert document["read"] < 5


def test_a_store_synced_into_itself_is_left_alone(cli, source):
    fill(source, 5)
    assert cli("sync", source, source).code == 0
    assert total(source) == 5


def test_an_unexpected_error_is_a_bug_in_one_line(cli, source, destination, monkeypatch):
    fill(source, 5)

    async def broken(*_):
        raise RuntimeError(PAYLOAD)

    monkeypatch.setattr(MemoryBackend, "insert", broken)
    result = cli("sync", source, destination)
    assert result.code == 2
    assert "commandstore: error: a bug in commandstore: RuntimeError. COMMANDSTORE_DEBUG=1 shows" in result.err
    assert PAYLOAD not in result.err


def test_plain_progress_is_a_line_now_and_then():
    clock = iter([0.0, 0.1, 0.2, 4.9, 5.2, 5.3, 10.3])
    stream = io.StringIO()
    progress = PlainProgress(stream, so_far, at_once=True, clock=lambda: next(clock))
    for read in (10, 20, 30, 40, 50, 60):
        progress(SyncProgress(read * 1000, read * 100, 45_000))
    assert stream.getvalue().splitlines() == [
        "10,000 of about 45,000 read, 1,000 copied",
        "40,000 of about 45,000 read, 4,000 copied",
        "60,000 of about 60,000 read, 6,000 copied",
    ]


def test_the_account_shows_the_rate():
    report = SyncReport(read=3000, copied=2990, duplicates=10, complete=True, seconds=1.5)
    assert account(report) == ("3,000 read = 2,990 copied + 10 duplicates + 0 conflicts + 0 failed, in 1.5 s (2,000/s)")
