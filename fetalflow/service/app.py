"""The HTTP server: `predict`, `measure` and `examine` for uploaded files, a stream of frames, health and metrics."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any
from uuid import uuid4

from fastapi import FastAPI, File, Form, HTTPException, Request, Response, UploadFile
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.middleware.trustedhost import TrustedHostMiddleware

from fetalflow.errors import InputError
from fetalflow.service import streams
from fetalflow.service.desk import Desk, NobodyAnswers, models_of
from fetalflow.service.gate import Gate
from fetalflow.service.served import BIOMETRY, EXAMINE, MEASURE, MOVEMENT, PREDICT, Found, Job, Served
from fetalflow.service.tokens import Tokens
from fetalflow.service.uploads import Uploads
from fetalflow.service.workers import Failed, TooSlow, WorkerLost
from fetalflow.study.result import FOR_RESEARCH

LOG = logging.getLogger("fetalflow.service")
POLL_S = 5  # between two looks at the aliases
Files = Annotated[list[UploadFile], File(description="Images, DICOMs or cines; for measure and examine of one fetus.")]
Patient = Annotated[str, Form(max_length=200, description="Her identifier; the log gets only a pseudonym of it.")]
Site = Annotated[str, Form(max_length=200, description="Where the input was recorded, for the log.")]
Device = Annotated[str, Form(max_length=200, description="On what it was recorded, for the log.")]
Scale = Annotated[float | None, Form(gt=0, description="mm per pixel of the recorded frames; default: of each file.")]
Weeks = Annotated[float | None, Form(gt=0, le=45, description="Gestational age in weeks.")]
REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"description": "There is no valid token."},
    408: {"description": "The request did not arrive in time."},
    413: {"description": "The request is too large."},
    422: {"description": "The input cannot be read or does not fit; `detail` says why."},
    500: {"description": "The answer failed through a fault of the service."},
    503: {"description": "All places are taken, or no version answers now. Retry after `Retry-After` seconds."},
    504: {"description": "The answer took longer than the limit."},
}


def service(desk: Desk, tokens: Tokens, hosts: Sequence[str] = ("*",), poll_s: float = POLL_S) -> FastAPI:
    """The application. desk: started (`Desk.start`); it is closed with the server. hosts: names under which clients
    may reach it; "*": any, since every request needs a token. poll_s: seconds between two looks at the aliases."""

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        following = asyncio.create_task(desk.follow(poll_s))
        yield
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
        await run_in_threadpool(desk.close)

    app = FastAPI(
        title="fetalflow", version="1", summary=FOR_RESEARCH, lifespan=life, docs_url=None, redoc_url=None
    )  # the pages of the documentation would load scripts from another site; /openapi.json is there
    app.state.desk = desk
    _add_checks(app, desk)
    _add_answers(app, desk)
    app.include_router(streams.router)

    @app.exception_handler(RequestValidationError)
    async def wrong_form(request: Request, error: RequestValidationError) -> Response:
        faults = (f"{'.'.join(str(part) for part in each['loc'][1:])}: {each['msg']}" for each in error.errors())
        return JSONResponse({"detail": "; ".join(faults)}, 422)

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> Response:
        return JSONResponse({"detail": "The service failed. Its log has the reason."}, 500)

    app.add_middleware(Gate, desk=desk, tokens=tokens)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    return app


def _add_checks(app: FastAPI, desk: Desk) -> None:
    @app.get("/health", tags=["state"])
    async def health() -> dict[str, str]:
        """The server lives."""
        return {"status": "alive"}

    @app.get("/ready", tags=["state"], responses={503: REFUSALS[503]})
    async def ready() -> Response:
        """Whether requests are answered now."""
        if desk.pool is None:
            return JSONResponse({"status": "no version answers"}, 503)
        return JSONResponse({"status": "degraded" if desk.problem else "ready"})

    @app.get("/metrics", tags=["state"], response_class=Response)
    async def metrics() -> Response:
        """Counts and times, for Prometheus."""
        return Response(desk.measures.text(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/v1/models", tags=["state"])
    async def models() -> dict[str, Any]:
        """The versions that answer now, and what speaks against the state of the service."""
        models, shadow = ([each.as_dict() for each in of.values()] for of in (desk.served, desk.in_shadow))
        return {"for": FOR_RESEARCH, "models": models, "shadow": shadow, "problem": desk.problem}


def _add_answers(app: FastAPI, desk: Desk) -> None:
    @app.post("/v1/predict", tags=["answers"], responses=REFUSALS, response_class=JSONResponse)
    async def predict(
        files: Files,
        task: Annotated[str, Form()] = MOVEMENT,
        at_most_error: Annotated[
            float | None, Form(gt=0, lt=1, description="Give a label only where this error rate is promised.")
        ] = None,
        patient: Patient = "",
        site: Site = "",
        device: Device = "",
    ) -> Response:
        """Label, probabilities, set of labels and unfamiliarity of every file."""
        options = {} if at_most_error is None else {"at_most_error": at_most_error}
        return await _answer(desk, PREDICT, task, files, options, (patient, site, device))

    @app.post("/v1/measure", tags=["answers"], responses=REFUSALS, response_class=JSONResponse)
    async def measure(
        files: Files,
        mm_per_px: Scale = None,
        weeks: Weeks = None,
        structure: Annotated[str | None, Form(description="head, abdomen or femur; default: as predicted.")] = None,
        show_unfamiliar: Annotated[bool, Form(description="Also lengths of what is unlike the training data.")] = False,
        patient: Patient = "",
        site: Site = "",
        device: Device = "",
    ) -> Response:
        """Lengths in mm of every file; several files of one fetus together also give age and weight."""
        options = {"mm_per_px": mm_per_px, "weeks": weeks, "structure": structure, "show_unfamiliar": show_unfamiliar}
        return await _answer(desk, MEASURE, BIOMETRY, files, options, (patient, site, device))

    @app.post("/v1/examine", tags=["answers"], responses=REFUSALS, response_class=JSONResponse)
    async def examine(
        files: Files,
        mm_per_px: Annotated[
            float | None, Form(gt=0, description="mm per pixel of the recorded frames, for files that state none.")
        ] = None,
        weeks: Weeks = None,
        fetus: Annotated[
            str, Form(pattern="^[A-Da-d]?$", description="Of several: only the files that say they show this one.")
        ] = "",
        patient: Patient = "",
        site: Site = "",
        device: Device = "",
    ) -> Response:
        """All files of one examination: planes, lengths, age, weight, movement, and what speaks against each."""
        options = {"mm_per_px": mm_per_px, "weeks": weeks, "fetus": fetus}
        return await _answer(desk, EXAMINE, "", files, options, (patient, site, device))


async def _answer(
    desk: Desk, verb: str, task: str, files: list[UploadFile], options: dict[str, Any], who: tuple[str, str, str]
) -> Response:
    begun, status = time.perf_counter(), 500
    try:
        if len(files) > desk.limits.max_files:
            raise HTTPException(413, f"A request may have {desk.limits.max_files} files; this one has {len(files)}.")
        answered = await _of_uploads(desk, verb, task, files, options, who, begun)
        status = 200
        return answered
    except HTTPException as refused:
        status = refused.status_code
        raise
    finally:
        seconds = time.perf_counter() - begun
        desk.measures.requests.labels(verb, status).inc()
        if status == 200:
            desk.answered_in(seconds)
            desk.measures.seconds.labels(verb).observe(seconds)


async def _of_uploads(
    desk: Desk,
    verb: str,
    task: str,
    given: list[UploadFile],
    options: dict[str, Any],
    who: tuple[str, str, str],
    begun: float,
) -> Response:
    request = uuid4().hex
    uploads = _room(desk, lambda: Uploads(desk.scratch.folder))
    try:
        files = [(each.filename, each.file) for each in given]
        await run_in_threadpool(_room, desk, lambda: uploads.take(files))
        logged = desk.recorder.record is not None
        pictures = logged and desk.recorder.pictures
        job = Job(verb, task, tuple(uploads.files), options, logged, pictures, logged and desk.has_time_for_niqe())
        found, served = await _found(desk, job, request)
        about = dict(zip(("patient", "site", "device"), who, strict=True)) | {"input": uploads.digests}
        await desk.rows(job, found, served, about | {"latency_ms": 1000 * (time.perf_counter() - begun)})
        if found.wrong:
            raise HTTPException(422, found.wrong)
        if desk.shadow_pool is not None:
            _begin_shadow(desk, job, about, uploads)
        return _response(request, models_of(served, job), found)
    finally:
        uploads.release()


def _room(desk: Desk, write: Callable[[], Any]) -> Any:
    """What `write` returns. A full disk is no fault of the service: there is room when other requests are answered."""
    try:
        return write()
    except OSError as error:
        LOG.error("an upload cannot be written: %s", error)
        head = {"Retry-After": str(desk.retry_after)}
        raise HTTPException(503, "There is no room for the files of this request now. Send it again.", head) from None


async def _found(desk: Desk, job: Job, request: str) -> tuple[Found, dict[str, Served]]:
    try:
        future, served = desk.submit(job)
    except InputError as error:
        raise HTTPException(422, str(error)) from None
    except NobodyAnswers as error:
        raise HTTPException(503, str(error), {"Retry-After": str(desk.retry_after)}) from None
    try:
        return await asyncio.wrap_future(future), served
    except TooSlow:
        raise HTTPException(504, f"The answer took longer than {desk.limits.seconds:g} s. Send less.") from None
    except (WorkerLost, Failed, InputError) as error:
        LOG.error("request %s: %s", request, error)
        raise HTTPException(500, f"The answer failed. The log of the service has it as request {request}.") from None


def _begin_shadow(desk: Desk, job: Job, about: dict[str, Any], uploads: Uploads) -> None:
    uploads.hold()
    running = asyncio.create_task(desk.answer_in_shadow(job, about))
    desk.background.add(running)  # the loop itself keeps only a weak reference
    running.add_done_callback(lambda done: (desk.background.discard(done), uploads.release()))


def _response(request: str, models: list[dict[str, str]], found: Found) -> Response:
    """The answer is JSON already, so that large masks are not written twice."""
    head = json.dumps({"for": FOR_RESEARCH, "request": request, "models": models})
    return Response(f'{head[:-1]}, "result": {found.body}}}', media_type="application/json")
