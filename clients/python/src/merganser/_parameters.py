"""Parameters of statements: ``?`` takes a sequence, ``$name`` a mapping."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import adbc_driver_flightsql.dbapi as adbc
import pyarrow as pa

from merganser._status import Params
from merganser.errors import InvalidDataError


def bind(cursor: adbc.Cursor, sql: str, params: Params) -> pa.RecordBatch | None:
    """The row of parameters in the order in which the statement has them. The driver binds by position only."""
    if not params:
        return None
    if isinstance(params, (str, bytes)):
        raise InvalidDataError("parameters are a sequence for `?`, or a mapping for `$name`; one alone is `[value]`")
    if isinstance(params, Mapping):
        params = _in_order(params, cursor.adbc_prepare(sql))
    arrays = [_array(position, value) for position, value in enumerate(params, start=1)]
    return pa.RecordBatch.from_arrays(arrays, names=[str(position) for position in range(1, len(arrays) + 1)])


def _in_order(params: Mapping[str, Any], wanted: pa.Schema | None) -> list[Any]:
    names = wanted.names if wanted is not None else []
    given = {name.removeprefix("$"): value for name, value in params.items()}
    missing = [name for name in names if name not in given]
    if missing:
        raise InvalidDataError(f"the statement has a parameter ${missing[0]}, and there is no value for it")
    unknown = [name for name in given if name not in names]
    if unknown:
        raise InvalidDataError(f"there is a value for ${unknown[0]}, and the statement has no such parameter")
    return [given[name] for name in names]


def _array(position: int, value: Any) -> pa.Array[Any]:
    if isinstance(value, uuid.UUID):
        value = str(value)
    try:
        return pa.array([value])
    except (pa.ArrowException, OverflowError) as error:
        raise InvalidDataError(f"parameter {position}: {type(value).__name__} cannot be sent: {error}") from error
