"""The REST API and the page of the app. ``GET /openapi.json`` describes it; what it refuses is ``{"detail": one line}``, never a traceback.

POST   /assets                    ask for an asset                    202, the asset as it stands
GET    /assets                    all of them, the last changed first
GET    /assets/{id}               one
DELETE /assets/{id}               take it out of the queue, or end it after its step; ?keep=true keeps it as it is
GET    /assets/{id}/files/{name}  its files, of the names it lists
GET    /assets/{id}/events        server-sent events until it has ended
GET    /events                    the same of all assets
GET    /words                     how a prompt could go on, and what of it is not understood
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, field_validator
from starlette.exceptions import HTTPException

from fsd_gs import __version__
from fsd_gs.app import files
from fsd_gs.app.guard import VIEWER_POLICY
from fsd_gs.app.jobs import FINAL, ConflictError, Job, NotFoundError, Queue, QueueFullError
from fsd_gs.app.limits import Limits
from fsd_gs.catalogue.vocabulary import Vocabulary
from fsd_gs.config import Config, load_config
from fsd_gs.core.pages import page_style, render_page, resource
from fsd_gs.core.quality import QUALITIES
from fsd_gs.errors import FsdGsError, InputError
from fsd_gs.viewer.completion import completions, misunderstood
from fsd_gs.viewer.form import DEFAULTS, presets, requested_config
from fsd_gs.viewer.form import Request as Form

_HERE = "fsd_gs.app"
_POLL_SECONDS = 0.2
STATUS: dict[type[FsdGsError], int] = {NotFoundError: 404, ConflictError: 409, QueueFullError: 429}


class Problem(BaseModel):
    """What is wrong, in the one line that the terminal would show."""

    detail: str


class NewAsset(BaseModel):
    """An asset to be made."""

    model_config = ConfigDict(extra="forbid")

    prompt: str = Field(min_length=1, max_length=500, description="what to make, in words", examples=["a red chair"])
    seed: int | None = Field(None, ge=0, le=2**63 - 1, description="another seed gives another asset; left out: the lowest that is free")
    preset: str = Field(
        DEFAULTS, max_length=100, description="a name of GET /presets", json_schema_extra=lambda s: s.update(enum=[*presets()])
    )
    quality: Literal["draft", "good", "best"] | None = Field(
        None, description="steps, views, sizes and splats in one word; settings win; left out: what the preset or the app's start says"
    )
    settings: list[Annotated[str, Field(max_length=200)]] = Field(
        [], max_length=50, description='more settings, "key=value"; neither paths nor hub ids', examples=[["steps=200"]]
    )
    by: str = Field("", max_length=40, description="who asks, for the others to see")

    @field_validator("prompt", "by", "preset")
    @classmethod
    def printable(cls, text: str) -> str:
        """Text that can be stored and shown."""
        if not all(sign.isprintable() for sign in text):
            raise ValueError("expected printable characters")
        return text.strip()

    @field_validator("settings")
    @classmethod
    def pairs(cls, settings: list[str]) -> list[str]:
        """One setting an entry."""
        for entry in settings:
            if "=" not in entry or not all(sign.isprintable() for sign in entry) or any(sign.isspace() for sign in entry):
                raise ValueError("expected key=value without blanks")
        return settings


class Asset(BaseModel):
    """An asset, from being asked for to its end."""

    id: str
    prompt: str
    seed: int
    quality: str
    by: str
    state: Literal["waiting", "making", "finished", "kept", "stopped", "failed", "cancelled"]
    position: int | None = Field(description="in the queue; 1 is next")
    step: int
    steps: int
    seconds_left: float | None
    error: str | None
    notes: list[str]
    asked: float = Field(description="seconds since 1970")
    version: int = Field(description="of the last change; rises over all assets")
    files: list[str] = Field(description="names for GET /assets/{id}/files/{name}")


class Presets(BaseModel):
    """What may be asked for, and how much."""

    presets: list[str]
    waiting: int
    steps: int
    size: int
    splats: int
    views: int


class Words(BaseModel):
    """A prompt that is being typed."""

    completions: list[str] = Field(description="whole prompts that it could become")
    misunderstood: list[str] = Field(description="one line for each part that the prior cannot take")


def refusals(*codes: int) -> dict[int | str, dict[str, Any]]:
    """The answers besides success, for the description."""
    return {code: {"model": Problem} for code in (403, 413, *codes)}


def make_api(
    queue: Queue,
    *,
    output: str,
    limits: Limits,
    overrides: tuple[str, ...] = (),
    check: Callable[[Config], None] = lambda _: None,
    vocabulary: Vocabulary | None = None,
) -> FastAPI:
    """The application around ``queue``.

    Args:
        queue: Is closed when the application ends.
        output: Folder for results.
        limits: What may be asked for.
        overrides: Settings of every asset, ``key=value``, which may name anything.
        check: Raises FsdGsError for what can be known to be wrong before the asset's turn.
        vocabulary: The words of the prior of the default preset; None where any will do.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(queue.close)

    api = FastAPI(title="fsd-gs app", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan)
    _explain_errors(api)
    _add_assets(api, queue, output, limits, overrides, check)
    _add_events(api, queue, limits)
    _add_words(api, vocabulary)
    _add_page(api, limits, load_config(overrides=overrides).quality)
    return api


def shown(queue: Queue, job: Job) -> Asset:
    """``job`` as the API shows it."""
    return Asset(
        id=job.id,
        prompt=job.config.prompt,
        seed=job.config.seed,
        quality=job.config.quality,
        by=job.by,
        state=job.state,
        position=queue.position(job.id),
        step=job.step,
        steps=job.config.steps,
        seconds_left=job.seconds_left,
        error=job.error,
        notes=list(job.notes),
        asked=job.asked,
        version=job.version,
        files=files.names(job),
    )


def _add_assets(
    api: FastAPI, queue: Queue, output: str, limits: Limits, overrides: tuple[str, ...], check: Callable[[Config], None]
) -> None:
    @api.post("/assets", status_code=202, responses=refusals(400, 409, 422, 429))
    def ask(new: NewAsset, response: Response) -> Asset:
        """Ask for an asset. The same prompt, seed and settings again give the asset there is."""
        config = _config(new, 0 if new.seed is None else new.seed)
        if new.seed is None:
            config = _config(new, queue.free_seed(config))
        job = queue.submit(config, new.by)
        response.headers["Location"] = f"/assets/{job.id}"
        return shown(queue, job)

    def _config(new: NewAsset, seed: int) -> Config:
        if not new.prompt:
            raise InputError('prompt: expected words that say what to make, got nothing; for example "a red chair"')
        word = [f"quality={new.quality}"] if new.quality else []
        config = requested_config(Form(new.prompt, new.preset, seed, 1, " ".join([*word, *new.settings])), output, overrides)
        limits.check(config)
        check(config)
        return config

    @api.get("/assets", responses=refusals(422))
    def list_assets(
        after: Annotated[int, Query(ge=0, description="only what changed after this version")] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 200,
    ) -> list[Asset]:
        """All assets, the last changed first."""
        return [shown(queue, job) for job in queue.jobs(after)[: -limit - 1 : -1]]

    @api.get("/assets/{asset_id}", responses=refusals(404, 422))
    def get(asset_id: str) -> Asset:
        """One asset."""
        return shown(queue, queue.get(asset_id))

    @api.delete("/assets/{asset_id}", responses=refusals(404, 409, 422))
    def cancel(asset_id: str, keep: bool = False) -> Asset:
        """Take it out of the queue, or end it after its step: to be gone on with when it is asked for again, or kept as it is."""
        return shown(queue, queue.cancel(asset_id, keep=keep))

    @api.get(
        "/assets/{asset_id}/files/{name}",
        response_class=FileResponse,
        responses={**refusals(404, 422), 200: {"content": {kind.partition(";")[0]: {} for kind in files.MEDIA.values()}}},
    )
    def download(asset_id: str, name: str) -> Response:
        """A file of an asset, of the names that it lists."""
        found = files.file_of(queue.get(asset_id), name)
        own = {"Content-Security-Policy": VIEWER_POLICY} if name.endswith(".html") else {}
        if isinstance(found, bytes):
            return Response(found, media_type=files.MEDIA[name], headers=own)
        saved_as = None if files.MEDIA[name].startswith(("text/html", "image", "video")) else _download_name(asset_id, name)
        return FileResponse(found, media_type=files.MEDIA[name], filename=saved_as, headers={**own, "Cache-Control": "no-cache"})

    @api.get("/presets", responses=refusals())
    def get_presets() -> Presets:
        """What may be asked for, and how much."""
        return Presets(
            presets=presets(), waiting=limits.waiting, steps=limits.steps, size=limits.size, splats=limits.splats, views=limits.views
        )


def _download_name(asset_id: str, name: str) -> str:
    return f"{asset_id}{name.removeprefix('asset')}" if name.startswith("asset.") else f"{asset_id}-{name}"


def _add_events(api: FastAPI, queue: Queue, limits: Limits) -> None:
    data = {"type": "string", "contentMediaType": "application/json", "description": "an Asset"}
    event = {"type": "object", "properties": {"id": {"type": "string"}, "event": {"const": "asset"}, "data": data}, "required": ["data"]}
    stream: dict[int | str, dict[str, Any]] = {
        200: {"description": "an event for each change", "content": {"text/event-stream": {"schema": event}}}
    }

    @api.get("/events", response_class=StreamingResponse, responses={**refusals(422), **stream})
    async def events(after: Annotated[int, Query(ge=0)] = 0) -> StreamingResponse:
        """Changes of all assets as they come; ends after a while, and browsers come back by themselves."""
        return _stream(_changes(queue, lambda seen: queue.jobs(seen), after, limits.stream_seconds))

    @api.get("/assets/{asset_id}/events", response_class=StreamingResponse, responses={**refusals(404, 422), **stream})
    async def asset_events(asset_id: str) -> StreamingResponse:
        """Changes of one asset, first as it stands, until it has ended."""
        queue.get(asset_id)

        def newer(seen: int) -> list[Job]:
            job = queue.get(asset_id)
            return [job] if job.version > seen else []

        return _stream(_changes(queue, newer, 0, limits.stream_seconds, ends=True))


def _add_words(api: FastAPI, vocabulary: Vocabulary | None) -> None:
    @api.get("/words", responses=refusals(422))
    def words(prompt: Annotated[str, Query(max_length=500)] = "") -> Words:
        """How a prompt could go on, and what of it is not understood, in the words of the default preset's prior."""
        if vocabulary is None:
            return Words(completions=[], misunderstood=[])
        return Words(completions=completions(prompt, vocabulary), misunderstood=misunderstood(prompt, vocabulary))


async def _changes(queue: Queue, newer: Callable[[int], list[Job]], seen: int, seconds: float, *, ends: bool = False) -> AsyncIterator[str]:
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    yield ": here\n\n"
    while loop.time() < until:
        for job in newer(seen):
            seen = job.version
            body = (await asyncio.to_thread(shown, queue, job)).model_dump_json()
            yield f"id: {seen}\nevent: asset\ndata: {body}\n\n"
            if ends and job.state in FINAL:
                return
        await asyncio.sleep(_POLL_SECONDS)


def _stream(lines: AsyncIterator[str]) -> StreamingResponse:
    return StreamingResponse(lines, media_type="text/event-stream", headers={"Cache-Control": "no-store"})


def _add_page(api: FastAPI, limits: Limits, quality: str) -> None:
    page = render_page(f"{_HERE}/page.html.j2", presets=presets(), qualities=QUALITIES, quality=quality, limits=limits)
    parts = {"app.css": (page_style, "text/css"), "app.js": (resource, "text/javascript")}

    @api.get("/", include_in_schema=False)
    def home() -> Response:
        return Response(page, media_type="text/html")

    @api.get("/static/{name}", include_in_schema=False)
    def part(name: str) -> Response:
        if name not in parts:
            raise NotFoundError(f"there is no '{name[:100]}'")
        read, media_type = parts[name]
        return Response(str(read(_HERE, name)), media_type=media_type)


# -- errors ------------------------------------------------------------------------------------------------------------------


def _explain_errors(api: FastAPI) -> None:
    @api.exception_handler(FsdGsError)
    async def known(_: Request, error: FsdGsError) -> JSONResponse:
        code = next((status for kind, status in STATUS.items() if isinstance(error, kind)), 422)
        return _problem(code, " ".join(str(error).split()), {"Retry-After": "30"} if code == 429 else None)

    @api.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return _problem(422, _line(error.errors()))

    @api.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        return _problem(error.status_code, str(error.detail), dict(error.headers or {}))

    @api.exception_handler(Exception)
    async def unexpected(_: Request, error: Exception) -> JSONResponse:
        return _problem(500, f"{type(error).__name__}: this is a fault of the app; its terminal says more")


def _problem(code: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    body = json.dumps({"detail": detail}).encode("ascii")  # text that cannot be UTF-8 stays escaped
    return Response(body, code, headers, "application/json")  # type: ignore[return-value]


def _line(errors: Iterable[Any]) -> str:
    """The first thing that is wrong with a request, in one line."""
    first = next(iter(errors))
    where = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
    words = str(first["msg"]).removeprefix("Value error, ")
    return f"{where}: {words[:1].lower()}{words[1:]}"
