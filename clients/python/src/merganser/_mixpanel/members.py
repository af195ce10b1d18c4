"""A JSON object cut into its members without changing a character of them: key order, number spelling and escapes survive."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

# The text of a number is used, so what it would be as a number is not worked out.
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)
_SPACE = re.compile(r"[ \t\r\n]*", re.ASCII)


class LineError(ValueError):
    """What is wrong with a line or a profile."""


class _Object(msgspec.Struct):
    """Any object: its members are checked and dropped."""


_check = msgspec.json.Decoder(_Object).decode


@dataclass(frozen=True)
class Member:
    """A member of an object: the key, decoded; the value's text; and where all of it is in the line."""

    key: str
    value: str
    start: int
    end: int


def decode(record: bytes) -> str:
    """The text of ``record``, which is a JSON object."""
    try:
        _check(record)
        return record.decode()
    except UnicodeDecodeError as error:
        raise LineError(f"not UTF-8 at byte {error.start + 1}") from None
    except msgspec.ValidationError:
        raise LineError("not a JSON object") from None
    except msgspec.DecodeError as error:
        raise LineError(f"not JSON: {str(error).removeprefix('JSON is malformed: ')}") from None
    except RecursionError:
        raise LineError("not JSON: nested too deep") from None


def visit(line: str, at: int = 0) -> Iterator[Member]:
    """The members, in order, of the object that begins at ``at``. ``line`` is JSON: :func:`decode` has checked it."""
    at = _after_space(line, at) + 1
    while line[at := _after_space(line, at)] != "}":
        start = at if line[at] == '"' else _after_space(line, at + 1)
        key, at = _value(line, start)
        value_start = _after_space(line, _after_space(line, at) + 1)
        _, at = _value(line, value_start)
        yield Member(key, line[value_start:at], start, at)


def column_text(member: Member | None) -> str | None:
    """A value's text as a column of strings takes it: strings decoded, numbers and booleans as written; none for null."""
    if member is None or member.value == "null":
        return None
    if member.value[0] in "{[":
        raise LineError(f"`{member.key}` is an {'object' if member.value[0] == '{' else 'array'}, not text")
    return _value(member.value, 0)[0] if member.value[0] == '"' else member.value


def _value(text: str, at: int) -> tuple[Any, int]:
    try:
        return _DECODER.raw_decode(text, at)
    except RecursionError:
        raise LineError("not JSON: nested too deep") from None


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at
