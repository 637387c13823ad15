"""Random histories of the session machine keep every ambient rule, in both units; told as a server would tell them."""

from __future__ import annotations

import pytest
from hypothesis import settings
from tests.conformance.recordings import Recorder
from tests.session.test_stateful import HISTORIES, Sessions

from asynclm.session.config import SessionConfig
from asynclm_conformance.ambient import check


class Judged(Sessions):
    """Sessions whose streams are judged when they are over."""

    def start(self, settings: SessionConfig) -> None:
        if hasattr(self, "player"):
            self.judge()
        super().start(settings)
        self.player: Recorder = Recorder(settings)

    def judge(self) -> None:
        events = self.player.events
        broken = check(events, self.player.start, self.player.sent, complete=self.player.session.finished)
        assert not broken, "\n".join([*map(str, broken), str(self.player.config), *map(str, events[1:])])

    def teardown(self) -> None:
        super().teardown()
        if hasattr(self, "player") and self.player.sound:
            self.judge()


@pytest.mark.slow
class TestJudgedSessions(Judged.TestCase):  # type: ignore[misc]
    settings = settings(HISTORIES, max_examples=200)
