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
from fetalflow.service.recorder import Recorder
from fetalflow.service.served import BIOMETRY, EXAMINE, PLANES, Found, Job, Served
from fetalflow.service.unloadable import Unloadable
from fetalflow.service.uploads import Scratch
from fetalflow.service.workers import NICENESS, Failed, Pool, TooSlow, WorkerLost
from fetalflow.watch.row import CHAMPION, OTHER, SHADOW, UNREADABLE, Answered

LOG = logging.getLogger("fetalflow.service")
DRAIN_S = 300  # for requests that an old version still answers
SHADOW_QUEUE = 8  # jobs that wait for the challenger; more are left out, so it delays nobody
FORGETTING = 0.1  # weight of the newest answer in the mean time of an answer
NIQE_EVERY = 8
NOTHING: dict[str, Served] = {}


class NobodyAnswers(RuntimeError):
    """A task has no version that may answer."""


class Desk:
    """All methods but `start` and `close` belong to the event loop.

    followed: models of the registry by task; fixed: packages that are not followed. record, pseudonym, pictures: of the
    log, see `service.recorder.Recorder`.
    """

    def __init__(
        self,
        limits: Limits,
        followed: Mapping[str, Followed] | None = None,
        fixed: Mapping[str, Served] | None = None,
        record: Callable[..., None] | None = None,
        pseudonym: Callable[[str], str] = lambda identifier: "",
        shadow: bool = True,
        pictures: bool = False,
    ) -> None:
        self.limits, self.followed, self.fixed = limits, dict(followed or {}), dict(fixed or {})
        self.shadow, self.measures, self.scratch = shadow, Measures(), Scratch()
        self.recorder = Recorder(record, pseudonym, self.measures.unrecorded.inc, pictures)
        self.pool: Pool | None = None
        self.shadow_pool: Pool | None = None
        self.admitted = self.arriving = self.open_streams = 0  # requests, bytes of their bodies, streams
        self.background: set[asyncio.Task] = set()
        self._in_shadow = self._rows = 0
        self._seconds = 1.0  # mean time of an answer
        self._trouble = ""
        self._gone: set[str] = set()  # tasks whose alias was taken away, until workers without them have started
        self._known: dict[str, Served] = {}
        self._ending: list[Pool] = []
        self._unloadable = Unloadable()

    @property
    def problem(self) -> str:
        """What a person must look at; empty: nothing."""
        return "; ".join(filter(None, (self._trouble, self.recorder.problem)))

    @property
    def served(self) -> dict[str, Served]:
        """The versions that answer now, by task."""
        served = self.pool.served if self.pool else NOTHING
        return {task: each for task, each in served.items() if task not in self._gone}

    @property
    def in_shadow(self) -> dict[str, Served]:
        """The challengers in shadow, by task; their worker also has the planes model that `examine` needs."""
        shadows = self.shadow_pool.served if self.shadow_pool else NOTHING
        return {task: each for task, each in shadows.items() if each.uri != getattr(self.served.get(task), "uri", "")}

    @property
    def is_full(self) -> bool:
        return self.admitted >= self.limits.workers + self.limits.queue

    @property
    def retry_after(self) -> int:
        """Seconds after which a request that was refused has a chance."""
        return max(1, math.ceil(self._seconds * self.admitted / self.limits.workers / 2))

    def has_time_for_niqe(self) -> bool:
        """Whether the next row has NIQE, which costs a tenth of an answer of movement: where nobody waits for a worker;
        else once in NIQE_EVERY times, so that a service that is never idle knows it too."""
        self._rows += 1
        return self.admitted <= self.limits.workers or self._rows % NIQE_EVERY == 0

    def start(self) -> None:
        """Look the versions up and start their workers. A version that cannot be loaded does not answer.

        Raises InputError when no task has a version that can answer, TrackingFailed when the registry is out of reach.
        """
        seen = look(self.followed, {})
        answers = self.fixed | seen.answers
        if not answers and not seen.missing:
            models = ", ".join(f"{each.model}@{each.champion}" for each in self.followed.values())
            raise InputError(
                f"no version is the champion yet ({models}), so nothing can be served. Promote one with `fetalflow "
                "promote`, or let the challenger answer with --unpromoted."
            )
        self.pool, problems = self._renewed(answers, None, self._open)
        if self.pool is None:
            raise InputError(f"nothing can be served. {'; '.join([*seen.problems, *problems])}")
        self.shadow_pool, more = self._renewed(self._for_shadow(seen.shadows), None, self._open_shadow)
        self._count_models()
        self._say([*seen.problems, *problems, *more])

    def close(self) -> None:
        """End all workers, those that still answer too."""
        for pool in filter(None, (self.pool, self.shadow_pool, *self._ending)):
            pool.drain()
            pool.join(0)
        self.pool = self.shadow_pool = None
        self.recorder.close()
        self.scratch.close()

    async def follow(self, every_s: float) -> None:
        """Look the aliases up for ever, and let new versions take over."""
        while True:
            await asyncio.sleep(every_s)
            await self.look_again()

    async def look_again(self) -> None:
        """Look the aliases up once. Where that fails, the versions in use go on answering."""
        in_thread = asyncio.get_running_loop().run_in_executor
        try:
            seen = await in_thread(None, look, self.followed, self._known)
        except Exception as error:  # noqa: BLE001 - whatever it is, the versions in use go on, and the next look comes
            self.measures.failed_looks.inc()
            self._say([f"the registry cannot be read ({type(error).__name__}: {error})"])
            return
        self._known = {each.uri: each for each in (*seen.answers.values(), *seen.shadows.values())}
        problems = [*seen.problems]
        # A task whose champion has no files keeps its version; one whose alias was taken away has none any more.
        kept = {task: self.served[task] for task in seen.missing if task in self.served}
        wanted = self.fixed | seen.answers | kept
        self._gone = set(self.pool.served if self.pool else NOTHING) - set(wanted)
        try:
            new, more = await in_thread(None, self._renewed, wanted, self.pool, self._open)
            problems += more
            if new is not self.pool:
                # Nothing else runs between these lines, so every job goes either to the old workers or to the new ones.
                old, self.pool, self._gone = self.pool, new, set()
                self._let_end(old)
                self.measures.swaps.inc()
                for each in self.served.values():
                    LOG.warning("%s: %s (%s) answers now", each.task, each.uri, each.alias)
            shadows = self._for_shadow(seen.shadows)
            new, more = await in_thread(None, self._renewed, shadows, self.shadow_pool, self._open_shadow)
            problems += more
            if new is not self.shadow_pool:
                old, self.shadow_pool = self.shadow_pool, new
                self._let_end(old)
        except Exception as error:  # noqa: BLE001 - as above
            self.measures.failed_swaps.inc()
            problems.append(f"new workers do not start, and the earlier ones go on ({type(error).__name__}: {error})")
        self._count_models()
        self._say(problems)

    def _renewed(
        self, wanted: dict[str, Served], old: Pool | None, start: Callable[[dict[str, Served]], Pool]
    ) -> tuple[Pool | None, list[str]]:
        """Workers for these versions, `old` where it has them; None for no version. A version that cannot be loaded is
        left out, and the earlier one of its task goes on answering; a sentence says why."""
        before = old.served if old else NOTHING
        while True:
            possible, problems = self._unloadable.left_out(wanted, before)
            if possible == before or not possible:
                return (old if possible else None), problems
            try:
                return start(possible), problems
            except InputError as error:
                new = {task: each for task, each in possible.items() if each != before.get(task)}
                if not self._unloadable.find(new, error, self._load):
                    raise
                self.measures.failed_swaps.inc()

    def _load(self, served: Mapping[str, Served]) -> None:
        pool = Pool(served, self.limits, 1, scratch=self.scratch.folder)
        pool.drain()
        pool.join(0)

    def _let_end(self, pool: Pool | None) -> None:
        if pool is None:
            return
        pool.drain()
        self._ending.append(pool)

        def wait() -> None:
            pool.join(DRAIN_S)
            self._ending.remove(pool)

        asyncio.get_running_loop().run_in_executor(None, wait)

    def _open(self, served: Mapping[str, Served]) -> Pool:
        return Pool(served, self.limits, replaced=self.measures.workers_replaced.inc, scratch=self.scratch.folder)

    def _open_shadow(self, served: Mapping[str, Served]) -> Pool:
        return Pool(served, self.limits, 1, NICENESS, scratch=self.scratch.folder)

    def _for_shadow(self, shadows: Mapping[str, Served]) -> dict[str, Served]:
        """The models of the worker in shadow: to examine, a challenger of biometry needs the planes that are in use."""
        if not self.shadow or self.recorder.record is None:  # nobody would see its answers
            return {}
        planes = {PLANES: self.served[PLANES]} if BIOMETRY in shadows and PLANES in self.served else {}
        return planes | dict(shadows)

    def _say(self, problems: list[str]) -> None:
        words = "; ".join(problems)
        if words and words != self._trouble:
            LOG.error(words)
        self._trouble = words

    def _count_models(self) -> None:
        self.measures.model.clear()
        for role, models in (("answers", self.served), (SHADOW, self.in_shadow)):
            for each in models.values():
                self.measures.model.labels(each.task, each.name, each.version, each.alias, role).set(1)

    def submit(self, job: Job) -> "tuple[Future[Found], dict[str, Served]]":
        """The answer to come, and the versions that give it. Raises InputError for a task that this service never has,
        NobodyAnswers where no version of the task answers now."""
        task = BIOMETRY if job.verb == EXAMINE else job.task
        if task not in (known := sorted({*self.followed, *self.fixed})):
            raise InputError(f"this service has no task {task!r}. Its tasks are: {', '.join(known)}.")
        if self.pool is None or task not in self.served or (job.verb == EXAMINE and self._gone):
            raise NobodyAnswers(f"no version of the task {task} is in use now.")
        return self.pool.submit(job), self.pool.served

    def answered_in(self, seconds: float) -> None:
        """Tell the desk how long an answer took, for `retry_after`."""
        self._seconds += FORGETTING * (seconds - self._seconds)

    async def rows(
        self, job: Job, found: Found, served: Mapping[str, Served], about: Mapping[str, Any], role: str = CHAMPION
    ) -> None:
        """Record the rows of one answer. about: further fields of the rows; `input` holds digests by file name, and
        `patient` the true identifier, which becomes a pseudonym. What the request leaves out is taken from the file."""
        digests = about["input"]
        if found.wrong and not found.rows:
            task = BIOMETRY if job.verb == EXAMINE else job.task
            found = replace(found, rows=tuple({"task": task, "file": f, "refusal": UNREADABLE} for f in digests))
        for each in found.rows:
            fields = dict(each)
            if role == SHADOW and fields["task"] not in self.in_shadow:
                continue
            model, digest, header = served[each["task"]], digests[fields.pop("file")], fields.pop("header", {})
            picture = fields.pop("picture", None)
            fields |= {name: about.get(name) or header.get(name, "") for name in ("site", "device")}
            fields |= {"model": model.name, "version": model.version, "weights": model.weights}
            fields |= {"origin": "service", "role": role if model.is_registered else OTHER, "input": digest}
            if role == CHAMPION and fields.get("unfamiliar"):
                self.measures.unfamiliar.labels(each["task"]).inc()
            row = Answered(latency_ms=about.get("latency_ms"), **fields)
            await self.recorder.add(row, about.get("patient") or header.get("patient", ""), picture)

    async def answer_in_shadow(self, job: Job, about: Mapping[str, Any]) -> None:
        """Let the challenger answer the same job; only the log sees it."""
        pool = self.shadow_pool
        if pool is None or (BIOMETRY if job.verb == EXAMINE else job.task) not in self.in_shadow:
            return
        if self._in_shadow >= SHADOW_QUEUE:
            self.measures.shadowed.labels("left out").inc()
            return
        self._in_shadow += 1
        begun = time.perf_counter()
        try:
            found = await asyncio.wrap_future(pool.submit(job))
            if found.wrong and job.frames is not None:  # the challenger needs another window: no fault of the input
                raise InputError(found.wrong)
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
