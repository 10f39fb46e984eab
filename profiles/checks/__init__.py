"""The checks of a log by name, in the order they are told.

A check is a function of one promise a log must keep. FAIL: nothing good can be built on this log. WARN: it
can, but look at it first. A PASS says what was seen.
"""

from collections.abc import Callable

from profiles.checks import contents, drift, ids, order, rates, texts, times
from profiles.checks.findings import Finding, Level, Log

__all__ = ["CHECKS", "Finding", "Level", "Log", "run_checks"]

CHECKS: dict[str, Callable[[Log], Finding]] = {
    "has_events": contents.has_events,
    "has_several_users": contents.has_several_users,
    "has_several_items": contents.has_several_items,
    "times_in_range": times.times_in_range,
    "future_times": times.future_times,
    "dates_without_times": times.dates_without_times,
    "shared_moments": times.shared_moments,
    "late_events": order.late_events,
    "clock_skew": order.clock_skew,
    "shifted_types": order.shifted_types,
    "unknown_items": ids.unknown_items,
    "silent_users": ids.silent_users,
    "lookalike_ids": ids.lookalike_ids,
    "placeholder_ids": ids.placeholder_ids,
    "personal_ids": ids.personal_ids,
    "unweighted_types": contents.unweighted_types,
    "repeated_events": contents.repeated_events,
    "missing_values": contents.missing_values,
    "constant_values": contents.constant_values,
    "heavy_users": rates.heavy_users,
    "heavy_items": rates.heavy_items,
    "robots": rates.robots,
    "gaps_in_days": times.gaps_in_days,
    "volume_drift": drift.volume_drift,
    "type_drift": drift.type_drift,
    "items_without_title": texts.items_without_title,
    "texts_present": texts.texts_present,
    "html_in_text": texts.html_in_text,
    "broken_encoding": texts.broken_encoding,
    "personal_data": texts.personal_data,
}


def run_checks(log: Log) -> list[Finding]:
    """Run every check, in the order of CHECKS."""
    return [check(log) for check in CHECKS.values()]
