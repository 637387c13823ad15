"""The server: its options, its routes, and its life in one's own event loop.

async with MockOpenAI(MockOptions(ttft_ms=300, tpot_ms=10)) as mock:
    client = AsyncOpenAI(base_url=mock.base_url, api_key="any")
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from aiohttp import web

from asynclm_adapters.openai_mock.admin import Admin
from asynclm_adapters.openai_mock.clock import Clock, WallClock
from asynclm_adapters.openai_mock.errors import ApiError, missing_key, model_not_found, wrong_key
from asynclm_adapters.openai_mock.pieces import Echo, Model
from asynclm_adapters.openai_mock.prefix_cache import PrefixCache
from asynclm_adapters.openai_mock.rate_limit import RateLimiter
from asynclm_adapters.openai_mock.records import RequestLog, RequestRecord
from asynclm_adapters.openai_mock.reply import Pace, Reply
from asynclm_adapters.openai_mock.request import CONTEXT_LENGTH, ChatRequest, check_context, read_request
from asynclm_adapters.openai_mock.scripts import SCRIPT_PREFIX, ScriptStore
from asynclm_adapters.openai_mock.shapes import Completion, model_json, models_json
from asynclm_adapters.openai_mock.tokens import ApproximateTokenizer, Tokenizer, prompt_tokens
from asynclm_adapters.openai_mock.writing import Writer, error_response

ECHO = "echo"
"""The model that needs no script."""

_MAX_BODY = 64 * 1024 * 1024
_REQUEST_ID = web.RequestKey("request_id", str)
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, kw_only=True)
class MockOptions:
    """How the server behaves.

    Attributes:
        host: address to listen on.
        port: 0 for any free one.
        api_key: the key that requests have to carry; None: any key will do.
        ttft_ms: time to first token.
        tpot_ms: time per token after that.
        context_length: tokens of prompt and reply at most.
        requests_per_minute, tokens_per_minute: rate limits; None: none.

    Raises:
        ValueError: a value is out of bounds; the message names the field.
    """

    host: str = "127.0.0.1"
    port: int = 0
    api_key: str | None = None
    ttft_ms: float = 0.0
    tpot_ms: float = 0.0
    context_length: int = CONTEXT_LENGTH
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port is {self.port}; allowed: 0 to 65535")
        for name in ("ttft_ms", "tpot_ms"):
            value: float = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name} is {value}; allowed: 0 or more")
        for name in ("context_length", "requests_per_minute", "tokens_per_minute"):
            number: int | None = getattr(self, name)
            if number is not None and number < 1:
                raise ValueError(f"{name} is {number}; allowed: 1 or more")


class MockOpenAI:
    """An OpenAI-compatible server in this event loop, from `async with` to its end.

    Attributes:
        scripts: the scripted models, asked for as `script:ID`.
        log: what was asked.
    """

    def __init__(
        self,
        options: MockOptions | None = None,
        *,
        models: Mapping[str, Model] | None = None,
        clock: Clock | None = None,
        tokenizer: Tokenizer | None = None,
    ) -> None:
        """Sets the server up; it listens from `async with` on.

        Args:
            options: how it behaves.
            models: further models by name; a name that ends in ':' stands for all that begin with it.
            clock: what replies are paced by; None: the event loop's time.
            tokenizer: what counts tokens; None: an approximation.
        """
        self._options = options or MockOptions()
        self._clock = clock or WallClock()
        self._tokenizer = tokenizer or ApproximateTokenizer()
        self.scripts = ScriptStore()
        self.log = RequestLog(self._clock)
        self._models: dict[str, Model] = {ECHO: Echo(), SCRIPT_PREFIX: self.scripts, **(models or {})}
        self._cache = PrefixCache(self._clock)
        self._limits = RateLimiter(
            self._clock,
            requests_per_minute=self._options.requests_per_minute,
            tokens_per_minute=self._options.tokens_per_minute,
        )
        self._runner: web.AppRunner | None = None
        self._handlers: set[asyncio.Task[object]] = set()

    @property
    def base_url(self) -> str:
        """What clients take as `base_url`."""
        return f"{self.url}/v1"

    @property
    def url(self) -> str:
        """Where the server listens; `/admin` is below it."""
        if self._runner is None or not self._runner.addresses:
            raise RuntimeError("the server does not listen; use `async with`")
        host, port = self._runner.addresses[0][:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def reset(self) -> None:
        """Forgets scripts, plays, records, cached prefixes and used-up allowances."""
        self.scripts.reset()
        self.log.records.clear()
        self._cache.reset()
        self._limits.reset()

    async def __aenter__(self) -> MockOpenAI:
        app = web.Application(middlewares=[self._answer_errors], client_max_size=_MAX_BODY)
        app.router.add_post("/v1/chat/completions", self._complete)
        app.router.add_get("/v1/models", self._list_models)
        app.router.add_get("/v1/models/{model}", self._get_model)
        Admin(self.scripts, self.log, self.reset).add_routes(app.router)
        app.on_response_prepare.append(_add_headers)
        app.on_shutdown.append(self._end_open)
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._options.host, self._options.port).start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _end_open(self, _: web.Application) -> None:
        for task in list(self._handlers):
            task.cancel()

    @web.middleware
    async def _answer_errors(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Checks the key, and words every refusal as the API does."""
        request[_REQUEST_ID] = f"req_{secrets.token_hex(16)}"
        try:
            self._check_key(request)
            return await handler(request)
        except ApiError as error:
            return error_response(error)
        except web.HTTPException as error:
            said = f"Invalid URL ({request.method} {request.path})" if error.status == 404 else error.reason
            return error_response(ApiError(error.status, said))

    def _check_key(self, request: web.Request) -> None:
        given = request.headers.get("authorization", "").removeprefix("Bearer").strip()
        if not given and (self._options.api_key is not None or request.path.startswith("/v1/")):
            raise missing_key()
        expected = self._options.api_key
        if expected is not None and not hmac.compare_digest(given.encode(), expected.encode()):
            raise wrong_key(given)

    async def _list_models(self, _: web.Request) -> web.Response:
        plain = [name for name in self._models if not name.endswith(":")]
        return web.json_response(models_json([*plain, *(SCRIPT_PREFIX + name for name in self.scripts.ids)]))

    async def _get_model(self, request: web.Request) -> web.Response:
        name = request.match_info["model"]
        named = name in self._models and not name.endswith(":")
        if not named and name.removeprefix(SCRIPT_PREFIX) not in self.scripts.ids:
            raise model_not_found(name)
        return web.json_response(model_json(name))

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        record = self.log.begin(request[_REQUEST_ID])
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        try:
            return await self._reply(request, record)
        except ApiError as error:
            record.status, record.error = error.status, str(error)
            raise
        except (asyncio.CancelledError, ConnectionResetError):
            record.closed_early = not record.dropped and record.finish_reason is None
            raise
        finally:
            self._handlers.discard(task)
            self.log.end(record)

    async def _reply(self, request: web.Request, record: RequestRecord) -> web.StreamResponse:
        chat = read_request(await request.read(), request.headers.get("x-session", ""))
        record.model, record.session, record.stream = chat.model, chat.session, chat.stream
        record.messages = chat.messages
        model = self._model(chat)
        pace = Pace(self._clock, ttft_s=self._options.ttft_ms / 1000, tpot_s=self._options.tpot_ms / 1000)
        prompt = prompt_tokens(chat, self._tokenizer)
        record.prompt_tokens = len(prompt)
        check_context(chat, len(prompt), self._options.context_length)
        headers = self._limits.take(len(prompt) + (chat.max_tokens or 0))
        record.cached_tokens = self._cache.use(chat.model, prompt)
        reply = Reply(chat, model.reply(chat), self._tokenizer, pace)
        writer = Writer(request, reply, record, self._clock, headers)
        completion = Completion(chat.model, with_usage=chat.include_usage)
        return await (writer.stream(completion) if chat.stream else writer.whole(completion))

    def _model(self, chat: ChatRequest) -> Model:
        prefix, colon, _ = chat.model.partition(":")
        model = self._models.get(chat.model) or self._models.get(prefix + colon)
        if model is None or chat.model.endswith(":"):
            raise model_not_found(chat.model)
        return model


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers["x-request-id"] = request[_REQUEST_ID]
    response.headers["openai-version"] = "2020-10-01"
