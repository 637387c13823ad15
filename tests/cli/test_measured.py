"""Measurements in words."""

from __future__ import annotations

from asynclm.cli.measured import said


def test_histograms_are_told_as_means_and_zeros_not_at_all() -> None:
    rows = said(
        {
            'asynclm_step_seconds_sum{engine="torch"}': 24.0,
            'asynclm_step_seconds_count{engine="torch"}': 2000.0,
            'asynclm_step_sequences_sum{engine="torch"}': 3000.0,
            'asynclm_step_sequences_count{engine="torch"}': 2000.0,
            "asynclm_interrupt_commit_seconds_sum": 0.0,
            "asynclm_interrupt_commit_seconds_count": 0.0,
            'asynclm_sessions_finished_total{reason="STOP"}': 1234.0,
            'asynclm_sessions_finished_total{reason="LENGTH"}': 0.0,
            "asynclm_kv_bytes": 5 * (1 << 20),
            "kv.swap_ms": 0.25,
        }
    )
    assert rows == {
        "kv": "5.0 MiB",
        "sessions finished, STOP": "1,234",
        "step, torch": "12 ms on average, of 2,000",
        "step sequences, torch": "1.5 on average, of 2,000",
        "kv.swap ms": "0.25",
    }


def test_durations_have_the_unit_that_fits() -> None:
    rows = said(
        {f"asynclm_{name}_seconds": value for name, value in (("a", 3.0), ("b", 0.002), ("c", 7e-6), ("d", 4e-9))}
    )
    assert list(rows.values()) == ["3 s", "2 ms", "7 us", "0.004 us"]
