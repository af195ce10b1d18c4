"""Times as Mixpanel writes them, as microseconds since 1970 in UTC, by the rules of the server: rows are the same each way.

A number is an epoch: below 10^11 seconds, below 10^14 milliseconds, below 10^17 microseconds, else nanoseconds. Text is
ISO 8601, or a number in quotes; an offset is honoured, and none means UTC.
"""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta, timezone

_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
_ISO = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})"
    r"(?:[Tt ](\d{2}):?(\d{2})(?::?(\d{2})(?:[.,](\d{1,9}))?)?\s?(?:([Zz])|([+-])(\d{2}):?(\d{2})?)?)?",
    re.ASCII,
)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)
_INT64 = range(-(1 << 63), 1 << 63)


def epoch(value: int) -> int:
    """Microseconds of an epoch of any unit, told by its magnitude."""
    size = abs(value)
    if size < 10**11:
        return value * 1_000_000
    if size < 10**14:
        return value * 1_000
    return value if size < 10**17 else value // 1_000


def parse(text: str) -> int | None:
    """The time that ``text`` says; none if it is no time."""
    if _INTEGER.fullmatch(text) and len(text) < 40 and int(text) in _INT64:
        return epoch(int(text))
    return _epoch_of_float(float(text)) if _NUMBER.fullmatch(text) else _iso(text)


def _epoch_of_float(value: float) -> int | None:
    size = abs(value)
    if size < 1e11:
        micros = value * 1e6
    elif size < 1e14:
        micros = value * 1e3
    elif size < 1e17:
        micros = value
    elif size < 9e18:
        micros = value / 1e3
    else:
        return None
    # Halves go away from zero.
    whole = math.floor(abs(micros))
    return int(math.copysign(whole + (abs(micros) - whole >= 0.5), micros))


def _iso(text: str) -> int | None:
    found = _ISO.fullmatch(text)
    if not found:
        return None
    year, month, day, hour, minute, second, fraction, _, sign, offset_hours, offset_minutes = found.groups(default="0")
    try:
        # A leap second is the last second of its minute.
        time = datetime(int(year), int(month), int(day), int(hour), int(minute), min(int(second), 59), tzinfo=timezone.utc)
    except ValueError:
        return None
    if int(second) > 60 or int(offset_hours) > 25 or int(offset_minutes) > 59:
        return None
    offset = timedelta(hours=int(offset_hours), minutes=int(offset_minutes))
    micros = (time - _EPOCH) // _MICROSECOND + int(fraction.ljust(6, "0")[:6])
    return micros + (offset // _MICROSECOND if sign == "-" else -(offset // _MICROSECOND))
