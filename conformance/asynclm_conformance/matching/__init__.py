"""Holding what came against what was written down: values, statuses, events."""
