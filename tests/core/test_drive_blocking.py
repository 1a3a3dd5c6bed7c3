"""Running coroutines without an event loop: on this thread, and several at once on others."""

import asyncio
import contextvars
import signal
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from commandstore.drive import BlockingClient, BlockingDrive, OperationStopped, run
from commandstore.errors import SuspendedError

# Seconds that only what hangs takes.
HANG = 120
NAME: contextvars.ContextVar[str] = contextvars.ContextVar("NAME", default="unset")


@pytest.fixture
def drive():
    others = set(threading.enumerate())  # of stores that earlier tests left to the collector
    drive = BlockingDrive()
    yield drive
    drive.close()
    for thread in set(threading.enumerate()) - others:
        if thread.name.startswith("commandstore"):
            # One that an interrupt caught while it was started is unknown to its pool, but ends all the same.
            thread.join(HANG)
            assert not thread.is_alive()


class Interrupt:
    """Interrupts the main thread, as Ctrl-C does: a real signal, which also wakes a thread that waits for a lock."""

    def __init__(self) -> None:
        self.noticed = threading.Event()

    def __call__(self) -> None:
        # Again, as one that comes just before the main thread begins to wait doesn't wake it.
        while not self.noticed.is_set():
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            self.noticed.wait(0.1)

    def arrives(self, *_: object) -> None:
        if not self.noticed.is_set():  # once, however often it was sent
            self.noticed.set()
            raise KeyboardInterrupt


@pytest.fixture
def interrupt():
    interrupt = Interrupt()
    before = signal.signal(signal.SIGINT, interrupt.arrives)
    yield interrupt
    signal.signal(signal.SIGINT, before)


async def value(result: Any) -> Any:
    return result


def job(function: Callable[[], Any]) -> Callable[[], Coroutine[Any, Any, Any]]:
    async def work() -> Any:
        return function()

    return work


class TestRun:
    def test_it_gives_the_result(self) -> None:
        assert run(value(7)) == 7

    def test_it_raises_the_error(self) -> None:
        async def fail() -> None:
            raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            run(fail())

    def test_a_coroutine_that_suspends_is_named_and_closed(self) -> None:
        closed = []

        async def reaches_for_a_loop() -> None:
            try:
                await asyncio.sleep(0)
            finally:
                closed.append(True)

        with pytest.raises(SuspendedError, match=r"reaches_for_a_loop suspended in a blocking store"):
            run(reaches_for_a_loop())
        assert closed == [True]


class TestGather:
    def test_results_are_in_the_order_of_the_jobs(self, drive: BlockingDrive) -> None:
        # The first job waits for the last: they are done in another order than they were given.
        last_is_done = threading.Event()
        jobs = [job(lambda: last_is_done.wait(HANG) and 0), job(lambda: 1), job(lambda: last_is_done.set() or 2)]
        assert run(drive.gather(jobs, 3)) == [0, 1, 2]

    @pytest.mark.parametrize("limit", [1, 2, 3, 100])
    def test_no_more_than_the_limit_run_at_once(self, drive: BlockingDrive, limit: int) -> None:
        lock, running, most = threading.Lock(), 0, 0

        def work() -> None:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            with lock:
                running -= 1

        run(drive.gather([job(work)] * 50, limit))
        assert most <= limit

    def test_as_many_as_the_limit_do_run_at_once(self, drive: BlockingDrive) -> None:
        together = threading.Barrier(4)
        assert sorted(run(drive.gather([job(lambda: together.wait(HANG))] * 4, 4))) == [0, 1, 2, 3]

    def test_no_jobs_give_no_results(self, drive: BlockingDrive) -> None:
        assert run(drive.gather([], 4)) == []

    def test_after_a_failure_no_more_jobs_start_and_that_very_error_is_raised(self, drive: BlockingDrive) -> None:
        error, started = KeyError("first"), []
        both = threading.Barrier(2)

        def fail() -> None:
            both.wait(HANG)
            raise error

        def last_in_flight() -> None:
            both.wait(HANG)
            while error.__traceback__ is None or error.__traceback__.tb_next is None:
                pass  # until the failure has left its job: frames are added on its way up
            started.append("in flight")

        jobs = [job(fail), job(last_in_flight), *[job(lambda: started.append("late"))] * 20_000]
        with pytest.raises(KeyError) as caught:
            run(drive.gather(jobs, 2))
        assert caught.value is error
        assert "in flight" in started
        assert started.count("late") < 20_000  # the other thread may begin some before the failure is seen, never all

    def test_jobs_in_flight_are_waited_for_after_a_failure(self, drive: BlockingDrive) -> None:
        failing, ended = threading.Event(), []

        def fail() -> None:
            failing.set()
            raise KeyError("first")

        def slow() -> None:
            failing.wait(HANG)
            ended.append(True)

        with pytest.raises(KeyError):
            run(drive.gather([job(slow), job(fail)], 2))
        assert ended == [True]

    def test_one_job_runs_here(self, drive: BlockingDrive) -> None:
        assert run(drive.gather([job(threading.current_thread)], 8)) == [threading.current_thread()]

    def test_context_variables_reach_the_jobs(self, drive: BlockingDrive) -> None:
        token = NAME.set("mine")
        try:
            assert run(drive.gather([job(NAME.get)] * 3, 3)) == ["mine"] * 3
        finally:
            NAME.reset(token)

    def test_what_a_job_sets_stays_in_that_job(self, drive: BlockingDrive) -> None:
        def change() -> str:
            found = NAME.get()
            NAME.set("changed")
            return found

        assert run(drive.gather([job(change)] * 20, 2)) == ["unset"] * 20

    def test_a_gather_in_a_gather_runs_its_jobs_one_by_one(self, drive: BlockingDrive) -> None:
        async def outer() -> list[Any]:
            inner = await drive.gather([job(threading.current_thread)] * 3, 3)
            return [thread is threading.current_thread() for thread in inner]

        # More outer jobs than threads: were they to wait for the pool that they fill, this would not end.
        assert run(drive.gather([outer] * 6, 2)) == [[True] * 3] * 6

    def test_a_larger_limit_gets_more_threads(self, drive: BlockingDrive) -> None:
        run(drive.gather([job(lambda: None)] * 2, 2))
        together = threading.Barrier(5)
        run(drive.gather([job(lambda: together.wait(HANG))] * 5, 5))

    def test_several_threads_may_gather_at_once(self, drive: BlockingDrive) -> None:
        def gather() -> None:
            found.append(run(drive.gather([job(lambda: 1)] * 10, 3)))

        found: list[list[int]] = []
        threads = [threading.Thread(target=gather) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [[1] * 10] * 4

    def test_a_closed_drive_starts_anew(self, drive: BlockingDrive) -> None:
        for _ in range(2):
            assert run(drive.gather([job(lambda: 1)] * 3, 3)) == [1] * 3
            drive.close()

    def test_an_interrupt_stops_workers_before_their_next_request_and_joins_them(
        self, drive: BlockingDrive, interrupt: Interrupt
    ) -> None:
        requests, ended = [], []
        both = threading.Barrier(2, timeout=HANG)

        class Client:
            def request(self) -> None:
                requests.append(1)

        client = BlockingClient(Client(), drive)

        def worker(*, interrupts: bool) -> Callable[[], Coroutine[Any, Any, None]]:
            async def work() -> None:
                await client.request()
                both.wait()
                if interrupts:
                    interrupt()
                try:
                    await drive.sleep(HANG)  # ends when the interrupt has reached the main thread
                except OperationStopped:
                    with pytest.raises(OperationStopped):
                        await client.request()
                    ended.append(1)
                    raise

            return work

        with pytest.raises(KeyboardInterrupt):
            run(drive.gather([worker(interrupts=False), worker(interrupts=True)], 2))
        assert (len(requests), len(ended)) == (2, 2)
        drive.check()  # the main thread is free to go on, to save a checkpoint
        run(client.request())


class TestPipeline:
    def test_done_is_called_for_every_item_in_order(self, drive: BlockingDrive) -> None:
        later = [threading.Event() for _ in range(5)]

        def work(item: int) -> int:
            # Each waits for the one behind it, two at a time.
            if item % 2 == 0 and item < 4:
                later[item + 1].wait(HANG)
            later[item].set()
            return item * 10

        pipeline = Pipeline(drive, range(5), work)
        pipeline.run(limit=2)
        assert pipeline.done == [(0, 0), (1, 10), (2, 20), (3, 30), (4, 40)]

    @pytest.mark.parametrize("limit", [1, 3])
    def test_items_are_produced_and_done_on_the_calling_thread(self, drive: BlockingDrive, limit: int) -> None:
        pipeline = Pipeline(drive, range(4), lambda _: threading.current_thread())
        pipeline.run(limit)
        assert set(pipeline.threads) == {threading.current_thread()}
        assert ({worker for _, worker in pipeline.done} == {threading.current_thread()}) == (limit == 1)

    @pytest.mark.parametrize("limit", [1, 2, 4])
    def test_done_is_called_for_what_comes_before_a_failure_and_nothing_behind(
        self, drive: BlockingDrive, limit: int
    ) -> None:
        error = KeyError("of item 3")

        def work(item: int) -> int:
            if item == 3:
                raise error
            return item

        pipeline = Pipeline(drive, range(100), work)
        with pytest.raises(KeyError) as caught:
            pipeline.run(limit)
        assert caught.value is error
        assert [item for item, _ in pipeline.done] == [0, 1, 2]
        assert len(pipeline.produced) <= 4 + limit

    def test_items_behind_a_failure_are_not_done_though_they_were_worked(self, drive: BlockingDrive) -> None:
        behind = threading.Event()

        def work(item: int) -> int:
            if item == 0:
                behind.wait(HANG)
                raise KeyError("of item 0")
            behind.set()
            return item

        pipeline = Pipeline(drive, range(2), work)
        with pytest.raises(KeyError):
            pipeline.run(limit=3)
        assert pipeline.done == []

    def test_nothing_more_is_produced_after_a_failure_behind_a_slow_item(self, drive: BlockingDrive) -> None:
        failed = threading.Event()

        def work(item: int) -> int:
            if item == 0:
                failed.wait(HANG)
            if item == 1:
                failed.set()
                raise KeyError("of item 1")
            return item

        pipeline = Pipeline(drive, range(100), work, before_producing={2: lambda: failed.wait(HANG)})
        with pytest.raises(KeyError):
            pipeline.run(limit=50)
        assert [item for item, _ in pipeline.done] == [0]
        assert len(pipeline.produced) < 100

    def test_what_was_produced_is_done_when_producing_fails(self, drive: BlockingDrive) -> None:
        error = KeyError("while producing")
        pipeline = Pipeline(drive, range(9), lambda item: item, before_producing={3: error})
        with pytest.raises(KeyError) as caught:
            pipeline.run(limit=4)
        assert caught.value is error
        assert [item for item, _ in pipeline.done] == [0, 1, 2]

    def test_after_done_fails_it_is_not_called_again(self, drive: BlockingDrive) -> None:
        pipeline = Pipeline(drive, range(9), lambda item: item, done_fails_at=1)
        with pytest.raises(KeyError, match="done"):
            pipeline.run(limit=4)
        assert [item for item, _ in pipeline.done] == [0, 1]

    def test_a_job_may_gather(self, drive: BlockingDrive) -> None:
        def work(item: int) -> list[int]:
            return run(drive.gather([job(lambda: item)] * 3, 3))

        pipeline = Pipeline(drive, range(6), work)
        pipeline.run(limit=2)
        assert pipeline.done == [(item, [item] * 3) for item in range(6)]

    def test_an_interrupt_stops_the_jobs_and_what_came_before_is_done(
        self, drive: BlockingDrive, interrupt: Interrupt
    ) -> None:
        both = threading.Barrier(2, timeout=HANG)

        def work(item: int) -> int:
            both.wait()
            if item == 1:
                interrupt()
                run(drive.sleep(HANG))
            assert interrupt.noticed.wait(HANG)  # so that the interrupt finds it waiting for the first item
            return item

        pipeline = Pipeline(drive, range(9), work)
        with pytest.raises(KeyboardInterrupt):
            pipeline.run(limit=2)
        assert [item for item, _ in pipeline.done] == [0]


class TestClient:
    def test_methods_of_the_client_become_coroutines_that_never_suspend(self, drive: BlockingDrive) -> None:
        class Client:
            def add(self, one: int, *, other: int) -> int:
                return one + other

        client = BlockingClient(Client(), drive)
        assert run(client.add(1, other=2)) == 3
        assert client.add is client.add
        with pytest.raises(AttributeError):
            _ = client.nothing

    def test_call_and_sleep_block_here(self, drive: BlockingDrive) -> None:
        assert run(drive.call(threading.current_thread)) is threading.current_thread()
        run(drive.sleep(0))
        drive.check()


class Pipeline:
    """A pipeline over some items, and what it did."""

    def __init__(
        self,
        drive: BlockingDrive,
        items: range,
        work: Callable[[int], Any],
        *,
        before_producing: dict[int, Any] | None = None,
        done_fails_at: int | None = None,
    ) -> None:
        self.drive = drive
        self.items = iter(items)
        self.work = work
        self.before_producing = before_producing or {}
        self.done_fails_at = done_fails_at
        self.produced: list[int] = []
        self.done: list[tuple[int, Any]] = []
        self.threads: list[threading.Thread] = []

    def run(self, limit: int) -> None:
        run(self.drive.pipeline(self._produce, self._work, self._done, limit))

    async def _produce(self) -> int | None:
        self.threads.append(threading.current_thread())
        item = next(self.items, None)
        before = self.before_producing.get(-1 if item is None else item)
        if isinstance(before, Exception):
            raise before
        if before is not None:
            before()
        if item is not None:
            self.produced.append(item)
        return item

    async def _work(self, item: int) -> Any:
        return self.work(item)

    async def _done(self, item: int, result: Any) -> None:
        self.threads.append(threading.current_thread())
        self.done.append((item, result))
        if item == self.done_fails_at:
            raise KeyError("done")


class TestLock:
    def test_one_thread_is_inside_at_a_time(self, drive: BlockingDrive) -> None:
        lock, inside, most = drive.lock(), [0], [0]
        barrier = threading.Barrier(4, timeout=HANG)

        async def work() -> None:
            barrier.wait()
            for _ in range(200):
                async with lock:
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                    inside[0] -= 1

        run(drive.gather([work] * 4, 4))
        assert (inside, most) == ([0], [1])

    def test_an_error_inside_lets_go(self, drive: BlockingDrive) -> None:
        lock = drive.lock()

        async def fails() -> None:
            async with lock:
                raise KeyError("mine")

        for _ in range(2):
            with pytest.raises(KeyError, match="mine"):
                run(fails())
