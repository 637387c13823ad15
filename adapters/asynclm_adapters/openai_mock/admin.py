"""The routes below `/admin`: load scripts, move plays, look at what was asked, start over."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from asynclm_adapters.openai_mock.fields import read, required
from asynclm_adapters.openai_mock.records import RequestLog
from asynclm_adapters.openai_mock.request import read_object
from asynclm_adapters.openai_mock.script_json import read_script
from asynclm_adapters.openai_mock.scripts import Play, ScriptStore


class Admin:
    """What tests ask of the server beside the API."""

    def __init__(self, scripts: ScriptStore, log: RequestLog, reset: Callable[[], None]) -> None:
        self._scripts = scripts
        self._log = log
        self._reset = reset

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Adds the routes."""
        router.add_post("/admin/scripts/{id}", self._load)
        router.add_get("/admin/scripts/{id}/position", self._get_position)
        router.add_post("/admin/scripts/{id}/position", self._set_position)
        router.add_get("/admin/requests", self._requests)
        router.add_post("/admin/reset", self._start_over)

    async def _load(self, request: web.Request) -> web.Response:
        script = read_script(request.match_info["id"], read_object(await request.read()))
        self._scripts.load(script)
        return web.json_response({"id": script.id, "pieces": len(script.pieces)})

    async def _get_position(self, request: web.Request) -> web.Response:
        return _position(self._scripts.standing(request.match_info["id"], request.query.get("session", "")))

    async def _set_position(self, request: web.Request) -> web.Response:
        body = read_object(await request.read())
        play = self._scripts.standing(request.match_info["id"], read(body, "session", "a string") or "")
        play.keep(required(body, "characters", "an integer"), read(body, "ends", "an integer") or 0)
        return _position(play)

    async def _requests(self, _: web.Request) -> web.Response:
        return web.json_response({"requests": [record.to_json() for record in self._log.records]})

    async def _start_over(self, _: web.Request) -> web.Response:
        self._reset()
        return web.json_response({})


def _position(play: Play) -> web.Response:
    return web.json_response(
        {"characters": play.characters, "pieces_done": play.index, "pieces": len(play.script.pieces)}
    )
