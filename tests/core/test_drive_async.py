"""The same on asyncio, where work can be cancelled and belongs to a loop."""

import asyncio
import contextvars
import gc
import logging
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from commandstore import AsyncCommandStore, Command, StoreClosed
from commandstore.drive import AsyncDrive
from commandstore.memory import MemoryBackend

NAME: contextvars.ContextVar[str] = contextvars.ContextVar("NAME", default="unset")


async def nothing() -> None:
    pass


def giving(result: Any) -> Callable[[], Coroutine[Any, Any, Any]]:
    async def work() -> Any:
        return result() if callable(result) else result

    return work


async def cancelled_often(task: asyncio.Task[Any]) -> None:
    """Cancel a task three times, each time when it waits; it must not end by that."""
    for _ in range(3):
        task.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        assert not task.done()


class TestGather:
    def test_results_are_in_the_order_of_the_jobs(self) -> None:
        async def main() -> list[int]:
            last_is_done = asyncio.Event()

            async def first() -> int:
                await last_is_done.wait()
                return 0

            async def last() -> int:
                last_is_done.set()
                return 1

            return await AsyncDrive().gather([first, last], 2)

        assert asyncio.run(main()) == [0, 1]

    @pytest.mark.parametrize("limit", [1, 2, 100])
    def test_no_more_than_the_limit_run_at_once(self, limit: int) -> None:
        running = most = 0

        async def work() -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)
            running -= 1

        asyncio.run(AsyncDrive().gather([work] * 20, limit))
        assert most == min(limit, 20)

    def test_no_jobs_give_no_results(self) -> None:
        assert asyncio.run(AsyncDrive().gather([], 4)) == []

    def test_after_a_failure_no_more_jobs_start_and_that_very_error_is_raised(self) -> None:
        error, started, ended = KeyError("first"), [], []

        async def main() -> None:
            async def slow() -> None:
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                ended.append(1)

            async def fail() -> None:
                await asyncio.sleep(0)
                raise error

            await AsyncDrive().gather([slow, fail, *[giving(lambda: started.append(1))] * 9], 2)

        with pytest.raises(KeyError) as caught:
            asyncio.run(main())
        assert caught.value is error
        assert (started, ended) == ([], [1])

    def test_context_variables_reach_the_jobs(self) -> None:
        async def main() -> list[str]:
            NAME.set("mine")
            return await AsyncDrive().gather([giving(NAME.get)] * 3, 3)

        assert asyncio.run(main()) == ["mine"] * 3

    def test_a_gather_in_a_gather_works(self) -> None:
        drive = AsyncDrive()

        async def outer() -> list[int]:
            return await drive.gather([giving(1)] * 3, 2)

        assert asyncio.run(drive.gather([outer] * 5, 2)) == [[1] * 3] * 5

    def test_cancelling_cancels_the_jobs_and_waits_for_them(self) -> None:
        ended = []

        async def main() -> None:
            started = asyncio.Event()

            async def work() -> None:
                started.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    await asyncio.sleep(0)
                    ended.append(1)

            task = asyncio.ensure_future(AsyncDrive().gather([work] * 5, 3))
            await started.wait()
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert len(ended) == 3
            assert len(asyncio.all_tasks()) == 1

        asyncio.run(main())

    def test_cancelled_again_it_still_waits_and_no_job_is_cancelled_in_its_cleaning_up(self) -> None:
        async def main() -> None:
            started, cleaned, ended = asyncio.Event(), asyncio.Event(), []

            async def work() -> None:
                started.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    await cleaned.wait()
                    ended.append(1)

            task = asyncio.ensure_future(AsyncDrive().gather([work] * 5, 3))
            await started.wait()
            await asyncio.sleep(0)
            await cancelled_often(task)
            cleaned.set()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert len(ended) == 3
            assert len(asyncio.all_tasks()) == 1

        asyncio.run(main())


class TestPipeline:
    def test_done_is_called_for_every_item_in_order(self) -> None:
        async def work(item: int) -> int:
            for _ in range(5 - item):
                await asyncio.sleep(0)
            return item * 10

        pipeline = Pipeline(range(5), work)
        asyncio.run(pipeline.run(limit=3))
        assert pipeline.done == [(0, 0), (1, 10), (2, 20), (3, 30), (4, 40)]

    @pytest.mark.parametrize("limit", [1, 2, 4])
    def test_done_is_called_for_what_comes_before_a_failure_and_nothing_behind(self, limit: int) -> None:
        error = KeyError("of item 3")

        async def work(item: int) -> int:
            if item == 3:
                raise error
            return item

        pipeline = Pipeline(range(100), work)
        with pytest.raises(KeyError) as caught:
            asyncio.run(pipeline.run(limit))
        assert caught.value is error
        assert [item for item, _ in pipeline.done] == [0, 1, 2]
        assert len(pipeline.produced) <= 4 + limit

    def test_items_behind_a_failure_are_not_done_though_they_were_worked(self) -> None:
        async def work(item: int) -> int:
            if item == 0:
                for _ in range(5):
                    await asyncio.sleep(0)
                raise KeyError("of item 0")
            return item

        pipeline = Pipeline(range(2), work)
        with pytest.raises(KeyError):
            asyncio.run(pipeline.run(limit=3))
        assert pipeline.done == []

    def test_nothing_more_is_produced_after_a_failure_behind_a_slow_item(self) -> None:
        async def work(item: int) -> int:
            if item == 0:
                for _ in range(30):
                    await asyncio.sleep(0)
            if item == 1:
                raise KeyError("of item 1")
            return item

        pipeline = Pipeline(range(100), work)
        with pytest.raises(KeyError):
            asyncio.run(pipeline.run(limit=50))
        assert [item for item, _ in pipeline.done] == [0]
        assert len(pipeline.produced) < 5

    def test_what_was_produced_is_done_when_producing_fails(self) -> None:
        pipeline = Pipeline(range(9), giving_item, fails_producing=3)
        with pytest.raises(KeyError, match="producing"):
            asyncio.run(pipeline.run(limit=4))
        assert [item for item, _ in pipeline.done] == [0, 1, 2]

    def test_after_done_fails_it_is_not_called_again(self) -> None:
        pipeline = Pipeline(range(9), giving_item, fails_done=1)
        with pytest.raises(KeyError, match="done"):
            asyncio.run(pipeline.run(limit=4))
        assert [item for item, _ in pipeline.done] == [0, 1]

    def test_cancelling_cancels_the_jobs_and_waits_for_them(self) -> None:
        ended, full = [], asyncio.Event()

        async def work(item: int) -> int:
            if item == 0:
                return 0
            if item == 3:
                full.set()
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                ended.append(item)
            return item

        async def main() -> None:
            pipeline = Pipeline(range(9), work)
            task = asyncio.ensure_future(pipeline.run(limit=3))
            await full.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert pipeline.done == [(0, 0)]
            assert sorted(ended) == [1, 2, 3]
            assert len(asyncio.all_tasks()) == 1

        asyncio.run(main())

    @pytest.mark.parametrize("fails_producing", [None, 3])
    def test_cancelled_again_it_still_waits_and_what_came_before_is_done(self, fails_producing: int | None) -> None:
        async def main() -> None:
            cleaned, full, ended = asyncio.Event(), asyncio.Event(), []

            async def work(item: int) -> int:
                if item == 0:
                    return 0
                if item == 2:
                    full.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    await cleaned.wait()
                    ended.append(item)
                return item

            # Where producing fails, it is the first cancellation that finds it waiting for the jobs.
            pipeline = Pipeline(range(3), work, fails_producing=fails_producing)
            task = asyncio.ensure_future(pipeline.run(limit=4))
            await full.wait()
            await cancelled_often(task)
            cleaned.set()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert pipeline.done == [(0, 0)]
            assert sorted(ended) == [1, 2]
            assert len(asyncio.all_tasks()) == 1

        asyncio.run(main())


class TestCall:
    def test_it_runs_on_a_thread_of_its_own_one_at_a_time(self) -> None:
        async def main() -> set[threading.Thread]:
            drive = AsyncDrive()
            threads = await drive.gather([lambda: drive.call(threading.current_thread)] * 5, 5)
            drive.close()
            return set(threads)

        [thread] = asyncio.run(main())
        assert thread is not threading.current_thread()
        assert not thread.is_alive()

    def test_context_variables_reach_it(self) -> None:
        async def main() -> str:
            NAME.set("mine")
            drive = AsyncDrive()
            try:
                return await drive.call(NAME.get)
            finally:
                drive.close()

        assert asyncio.run(main()) == "mine"

    def test_cancelled_it_waits_for_its_thread(self, caplog: pytest.LogCaptureFixture) -> None:
        ended = []

        async def main() -> None:
            drive, loop = AsyncDrive(), asyncio.get_running_loop()
            started, go = asyncio.Event(), threading.Event()

            def block() -> None:
                loop.call_soon_threadsafe(started.set)
                go.wait(120)
                ended.append(1)
                raise KeyError("unheard")

            task = asyncio.ensure_future(drive.call(block))
            await started.wait()
            await cancelled_often(task)
            go.set()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert ended == [1]
            drive.close()

        with caplog.at_level(logging.DEBUG, "asyncio"):
            asyncio.run(main())
            gc.collect()
        assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


class TestLoop:
    def test_a_store_used_from_another_loop_says_so(self) -> None:
        store = AsyncCommandStore(MemoryBackend())

        async def opened() -> None:
            await store.init()
            await store.create(Command("c1", 5))

        asyncio.run(opened())
        for call in (store.get("c1"), store.create(Command("c2", 5)), store.list(), store.total(), store.info()):
            with pytest.raises(StoreClosed, match="another event loop"):
                asyncio.run(call)

    def test_a_closed_store_can_be_opened_in_another_loop(self) -> None:
        store = AsyncCommandStore(MemoryBackend())

        async def use(number: int) -> int:
            await store.init()
            await store.create(Command(f"c{number}", 5))
            total = await store.total()
            await store.close()
            return total

        assert [asyncio.run(use(number)) for number in range(3)] == [1, 2, 3]

    def test_a_drive_that_was_never_bound_may_be_used_anywhere(self) -> None:
        drive = AsyncDrive()

        async def main() -> None:
            drive.check()
            await drive.sleep(0)

        asyncio.run(main())
        asyncio.run(main())


async def giving_item(item: int) -> int:
    return item


class Pipeline:
    """A pipeline over some items, and what it did."""

    def __init__(
        self,
        items: range,
        work: Callable[[int], Coroutine[Any, Any, Any]],
        *,
        fails_producing: int | None = None,
        fails_done: int | None = None,
    ) -> None:
        self.items = iter(items)
        self.work = work
        self.fails_producing = fails_producing
        self.fails_done = fails_done
        self.produced: list[int] = []
        self.done: list[tuple[int, Any]] = []

    async def run(self, limit: int) -> None:
        await AsyncDrive().pipeline(self._produce, self.work, self._done, limit)

    async def _produce(self) -> int | None:
        item = next(self.items, None)
        if item is not None and item == self.fails_producing:
            raise KeyError("producing")
        if item is not None:
            self.produced.append(item)
        return item

    async def _done(self, item: int, result: Any) -> None:
        self.done.append((item, result))
        if item == self.fails_done:
            raise KeyError("done")


class TestLock:
    def test_one_task_is_inside_at_a_time(self) -> None:
        async def main() -> list[str]:
            lock, seen = AsyncDrive().lock(), []

            async def work(name: str) -> None:
                async with lock:
                    seen.append(name)
                    await asyncio.sleep(0)
                    seen.append(name)

            await asyncio.gather(*(work(name) for name in "abc"))
            return seen

        assert asyncio.run(main()) == ["a", "a", "b", "b", "c", "c"]
