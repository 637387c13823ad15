"""A server's measurements in words: what is not zero, histograms as their mean, units that people read."""

from __future__ import annotations

import re
from collections.abc import Mapping

_NAME = re.compile(r'(?:asynclm_)?(?P<name>[^{]+?)(?P<total>_total)?(?:\{\w+="(?P<label>[^"]*)"\})?')
_SCALES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"))


def said(metrics: Mapping[str, float]) -> dict[str, str]:
    """Rows for people, in the order of the names; what is zero is left out, except where a limit is meant."""
    rows = {}
    for key in sorted(metrics):
        value = metrics[key]
        if "_sum" in key and (counted := key.replace("_sum", "_count", 1)) in metrics:
            if metrics[counted]:
                rows[_words(key.replace("_sum", "", 1))] = _mean(key, value, metrics[counted])
        elif "_count" in key and key.replace("_count", "_sum", 1) in metrics:
            continue
        elif value:
            rows[_words(key)] = _amount(key, value)
    return rows


def _words(key: str) -> str:
    found = _NAME.fullmatch(key)
    if found is None:
        return key
    name = re.sub(r"_(seconds|bytes)$", "", found["name"]).replace("_", " ")
    return f"{name}, {found['label']}" if found["label"] else name


def _mean(key: str, total: float, count: float) -> str:
    return f"{_amount(key.replace('_sum', '', 1), total / count)} on average, of {count:,.0f}"


def _amount(key: str, value: float) -> str:
    name = key.partition("{")[0]
    if name.endswith("_bytes"):
        return f"{value / (1 << 20):,.1f} MiB"
    if name.endswith("_seconds"):
        scale, unit = next(((s, u) for s, u in _SCALES if abs(value) >= s), _SCALES[-1])
        return f"{value / scale:.3g} {unit}"
    return f"{value:,.0f}" if value == int(value) else f"{value:.3g}"
