"""Judging what was played: pure functions from events and expectations to failures."""
