"""Takes jobs, gives them to the workers of the versions in use, and lets new versions take over without a gap."""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from fetalflow.errors import InputError
from fetalflow.service.following import Followed, look
from fetalflow.service.limits import Limits
from fetalflow.service.measures import Measures
from fetalflow.service.served import BIOMETRY, EXAMINE, Found, Job, Served
from fetalflow.service.workers import NICENESS, Failed, Pool, TooSlow, WorkerLost
from fetalflow.watch.row import CHAMPION, OTHER, SHADOW, UNREADABLE, Answered

LOG = logging.getLogger("fetalflow.service")
DRAIN_S = 300  # for requests that an old version still answers
SHADOW_QUEUE = 8  # jobs that wait for the challenger; more are left out, so it delays nobody
FORGETTING = 0.1  # weight of the newest answer in the mean time of an answer
NOTHING: dict[str, Served] = {}


class NobodyAnswers(RuntimeError):
    """A task has no version that may answer."""


class Desk:
    """All methods but `start` and `close` belong to the event loop.

    followed: models of the registry by task; fixed: packages that are not followed. record: gets a row for every
    answer; pseudonym: of a true identifier, for these rows.
    """

    def __init__(
        self,
        limits: Limits,
        followed: Mapping[str, Followed] | None = None,
        fixed: Mapping[str, Served] | None = None,
        record: Callable[[Answered], None] = lambda row: None,
        pseudonym: Callable[[str], str] = lambda identifier: "",
        shadow: bool = True,
    ) -> None:
        self.limits, self.followed, self.fixed = limits, dict(followed or {}), dict(fixed or {})
        self.record, self.pseudonym, self.shadow = record, pseudonym, shadow
        self.measures, self.problem = Measures(), ""
        self.pool: Pool | None = None
        self.shadow_pool: Pool | None = None
        self.admitted = self.open_streams = 0
        self.background: set[asyncio.Task] = set()
        self._in_shadow = 0
        self._seconds = 1.0  # mean time of an answer
        self._known: dict[str, Served] = {}
        self._ending: list[Pool] = []
        self._failed: tuple[dict[str, Served], dict[str, Served]] | None = None

    @property
    def served(self) -> dict[str, Served]:
        """The versions that answer now, by task."""
        return self.pool.served if self.pool else NOTHING

    @property
    def is_full(self) -> bool:
        return self.admitted >= self.limits.workers + self.limits.queue

    @property
    def retry_after(self) -> int:
        """Seconds after which a request that was refused has a chance."""
        return max(1, math.ceil(self._seconds * self.admitted / self.limits.workers / 2))

    def start(self) -> None:
        """Look the versions up and start their workers.

        Raises InputError when no task has a version that can answer, TrackingFailed when the registry is out of reach.
        """
        answers, shadows = self._look()
        if not answers:
            models = ", ".join(f"{each.model}@{each.champion}" for each in self.followed.values())
            raise InputError(
                f"no version is the champion yet ({models}), so nothing can be served. Promote one with `fetalflow "
                "promote`, or let the challenger answer with --unpromoted."
            )
        self.pool = self._open(answers)
        if shadows:
            self.shadow_pool = self._open_shadow(shadows)
        self._count_models()

    def close(self) -> None:
        """End all workers, those that still answer too."""
        for pool in filter(None, (self.pool, self.shadow_pool, *self._ending)):
            pool.drain()
            pool.join(0)
        self.pool = self.shadow_pool = None

    async def follow(self, every_s: float) -> None:
        """Look the aliases up for ever, and let new versions take over."""
        while True:
            await asyncio.sleep(every_s)
            await self.look_again()

    async def look_again(self) -> None:
        """Look the aliases up once. Where that fails, the versions in use go on answering."""
        loop = asyncio.get_running_loop()
        try:
            answers, shadows = await loop.run_in_executor(None, self._look)
        except Exception as error:  # noqa: BLE001 - whatever it is, the versions in use go on, and the next look comes
            self.measures.failed_looks.inc()
            self._trouble(f"the registry cannot be read ({type(error).__name__}: {error})")
            return
        if (answers, shadows) == self._failed:
            return  # these files were tried and cannot be loaded
        shadow_now = self.shadow_pool.served if self.shadow_pool else NOTHING
        try:
            if answers != self.served:
                await self._swap(answers)
            if shadows != shadow_now:
                new = await loop.run_in_executor(None, self._open_shadow, shadows) if shadows else None
                old, self.shadow_pool = self.shadow_pool, new
                self._let_end(old)
        except Exception as error:  # noqa: BLE001 - as above
            if isinstance(
                error, InputError
            ):  # the same files would fail again; anything else may be over at the next look
                self._failed = answers, shadows
            self.measures.failed_swaps.inc()
            self._trouble(f"a new version cannot be loaded, and the earlier one goes on answering: {error}")
            return
        self._failed, self.problem = None, ""
        self._count_models()

    async def _swap(self, answers: dict[str, Served]) -> None:
        new = await asyncio.get_running_loop().run_in_executor(None, self._open, answers) if answers else None
        # Between these two lines nothing else runs, so every job goes either to the old workers or to the new ones.
        old, self.pool = self.pool, new
        self._let_end(old)
        self.measures.swaps.inc()
        for each in answers.values():
            LOG.warning("%s: %s (%s) answers now", each.task, each.uri, each.alias)

    def _let_end(self, pool: Pool | None) -> None:
        if pool is None:
            return
        pool.drain()
        self._ending.append(pool)

        def wait() -> None:
            pool.join(DRAIN_S)
            self._ending.remove(pool)

        asyncio.get_running_loop().run_in_executor(None, wait)

    def _look(self) -> tuple[dict[str, Served], dict[str, Served]]:
        answers, shadows = look(self.followed, self._known)
        self._known = {each.uri: each for each in (*answers.values(), *shadows.values())}
        return self.fixed | answers, shadows if self.shadow else {}

    def _open(self, served: Mapping[str, Served]) -> Pool:
        return Pool(served, self.limits, replaced=self.measures.workers_replaced.inc)

    def _open_shadow(self, served: Mapping[str, Served]) -> Pool:
        return Pool(served, self.limits, 1, NICENESS)

    def _trouble(self, words: str) -> None:
        if words != self.problem:
            LOG.error(words)
        self.problem = words

    def _count_models(self) -> None:
        self.measures.model.clear()
        for role, pool in (("answers", self.pool), (SHADOW, self.shadow_pool)):
            for each in (pool.served if pool else NOTHING).values():
                self.measures.model.labels(each.task, each.name, each.version, each.alias, role).set(1)

    def submit(self, job: Job) -> "tuple[Future[Found], dict[str, Served]]":
        """The answer to come, and the versions that give it. Raises InputError for a task that this service never has,
        NobodyAnswers where no version of the task answers now."""
        task = BIOMETRY if job.verb == EXAMINE else job.task
        if task not in (known := sorted({*self.followed, *self.fixed})):
            raise InputError(f"this service has no task {task!r}. Its tasks are: {', '.join(known)}.")
        if self.pool is None or task not in self.pool.served:
            raise NobodyAnswers(f"no version of the task {task} is in use now.")
        return self.pool.submit(job), self.pool.served

    def answered_in(self, seconds: float) -> None:
        """Tell the desk how long an answer took, for `retry_after`."""
        self._seconds += FORGETTING * (seconds - self._seconds)

    async def rows(
        self, job: Job, found: Found, served: Mapping[str, Served], about: Mapping[str, Any], role: str = CHAMPION
    ) -> None:
        """Record the rows of one answer. about: further fields of the rows; `input` holds digests by file name."""
        digests = about["input"]
        if found.wrong:
            task = BIOMETRY if job.verb == EXAMINE else job.task
            found = replace(found, rows=tuple({"task": task, "file": f, "refusal": UNREADABLE} for f in digests))
        for each in found.rows:
            fields = dict(each)
            model, digest = served[each["task"]], digests[fields.pop("file")]
            fields |= {"model": model.name, "version": model.version, "weights": model.weights}
            fields |= {"origin": "service", "role": role if model.is_registered else OTHER, "input": digest}
            if role == CHAMPION and fields.get("unfamiliar"):
                self.measures.unfamiliar.labels(each["task"]).inc()
            await self.add(Answered(**(dict(about) | fields)))

    async def add(self, row: Answered) -> None:
        """Record one row."""
        try:
            await asyncio.get_running_loop().run_in_executor(None, self.record, row)
        except Exception as error:  # noqa: BLE001 - a full disk must not withhold an answer; it is counted and logged
            self.measures.unrecorded.inc()
            self._trouble(f"the log cannot take answers ({type(error).__name__}: {error})")

    async def answer_in_shadow(self, job: Job, about: Mapping[str, Any]) -> None:
        """Let the challenger answer the same job; only the log sees it."""
        pool = self.shadow_pool
        if pool is None or job.verb == EXAMINE or job.task not in pool.served:
            return
        if self._in_shadow >= SHADOW_QUEUE:
            self.measures.shadowed.labels("left out").inc()
            return
        self._in_shadow += 1
        begun = time.perf_counter()
        try:
            found = await asyncio.wrap_future(pool.submit(job))
            about = dict(about) | {"latency_ms": 1000 * (time.perf_counter() - begun)}
            await self.rows(job, found, pool.served, about, SHADOW)
            self.measures.shadowed.labels("answered").inc()
        except (WorkerLost, TooSlow, Failed, InputError) as error:
            self.measures.shadowed.labels("failed").inc()
            LOG.error("in shadow: %s", error)
        finally:
            self._in_shadow -= 1


def models_of(served: Mapping[str, Served], job: Job) -> list[dict[str, str]]:
    """What an answer states of the models that gave it."""
    used = served.values() if job.verb == EXAMINE else [served[job.task]]
    return [each.as_dict() for each in used]
