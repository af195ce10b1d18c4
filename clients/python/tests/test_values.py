"""The plain values: results and exceptions."""

import pickle
from datetime import datetime, timezone
from pathlib import Path

import pytest

import merganser
from merganser import ColumnInfo, MerganserError, SQLResult, TableInfo, TableMetadata, TableSchema
from merganser._status import exception, status_of
from merganser.relation import nested

NOW = datetime(2024, 1, 2, tzinfo=timezone.utc)


def test_values_are_frozen_and_plain():
    metadata = TableMetadata(type="events", fetched_at=NOW, from_date="2024-01-01", filter_events=("a", "b"))
    assert metadata.to_dict()["fetched_at"] == "2024-01-02T00:00:00+00:00"
    assert metadata.to_dict()["filter_events"] == ["a", "b"]
    with pytest.raises(AttributeError):
        metadata.type = "profiles"
    info = TableInfo("t", "events", 5, NOW)
    assert info.to_dict() == {
        "name": "t",
        "type": "events",
        "row_count": 5,
        "fetched_at": "2024-01-02T00:00:00+00:00",
        "size_bytes": None,
    }
    schema = TableSchema("t", (ColumnInfo("a", "INTEGER", nullable=True),))
    assert schema.to_dict() == {
        "table_name": "t",
        "kind": "table",
        "columns": [{"name": "a", "type": "INTEGER", "nullable": True, "primary_key": False}],
    }


def test_rows_with_their_columns():
    result = SQLResult(("a", "b"), ((1, 2), (3, 4)))
    assert (len(result), list(result), result[1], result[:1]) == (2, [(1, 2), (3, 4)], (3, 4), ((1, 2),))
    assert result.to_dicts() == [{"a": 1, "b": 2}, {"a": 3, "b": 4}]
    assert result.to_dict() == {"columns": ["a", "b"], "rows": [[1, 2], [3, 4]], "row_count": 2}


ERRORS = [
    merganser.TableExistsError("t"),
    merganser.TableNotFoundError("t"),
    merganser.InvalidDataError("row 1: bad", field="a", row=1),
    merganser.QueryError("bad", {"query": "SELECT"}),
    merganser.DatabaseLockedError("/tmp/a.db", 5),
    merganser.DatabaseNotFoundError(Path("/tmp/a.db")),
    merganser.UnavailableError("gone"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors_say_what_they_are_about(error):
    assert isinstance(error, MerganserError)
    assert str(error) == error.message
    assert error.to_dict() == {"code": error.code, "message": error.message, "details": error.details}
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.to_dict(), str(copy)) == (type(error), error.to_dict(), str(error))
    assert vars(copy) == vars(error)


def test_errors_that_python_has_a_class_for():
    assert isinstance(merganser.InvalidDataError("x"), ValueError)
    assert isinstance(merganser.DatabaseNotFoundError("x"), FileNotFoundError)
    assert isinstance(merganser.DatabaseLockedError("x"), OSError)
    assert isinstance(merganser.ClosedError("x"), RuntimeError)


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("NOT_FOUND: [FlightSQL] no (such) table (NotFound; Prepare)", "NOT_FOUND", "no (such) table"),
        ("UNKNOWN: [FlightSQL] read-only (FailedPrecondition; ExecuteQuery). Vendor code: 9", "FAILED_PRECONDITION", "read-only"),
        ("CANCELLED: [FlightSQL] gone (Canceled; DoGet: endpoint 0: [])", "CANCELLED", "gone"),
        (
            "Flight returned not found error, with message: a\nb. gRPC client debug context: UNKNOWN:Error. Client context: OK",
            "NOT_FOUND",
            "a\nb",
        ),
        ("something else", "UNKNOWN", "something else"),
    ],
)
def test_what_a_server_answered(text, code, message):
    status = status_of(Exception(text))
    assert (status.code, status.message) == (code, message)


@pytest.mark.parametrize(
    ("code", "of_a_query", "of_a_table"),
    [
        ("NOT_FOUND", merganser.QueryError, merganser.TableNotFoundError),
        ("ALREADY_EXISTS", merganser.QueryError, merganser.TableExistsError),
        ("INVALID_ARGUMENT", merganser.QueryError, merganser.InvalidDataError),
        ("FAILED_PRECONDITION", merganser.QueryError, merganser.QueryError),
        ("UNAUTHENTICATED", merganser.AuthError, merganser.AuthError),
        ("PERMISSION_DENIED", merganser.AuthError, merganser.AuthError),
        ("CANCELLED", merganser.QueryCancelled, merganser.QueryCancelled),
        ("DEADLINE_EXCEEDED", merganser.QueryTimeout, merganser.QueryTimeout),
        ("RESOURCE_EXHAUSTED", merganser.ResourceError, merganser.ResourceError),
        ("UNAVAILABLE", merganser.UnavailableError, merganser.UnavailableError),
        ("INTERNAL", merganser.InternalError, merganser.InternalError),
    ],
)
def test_each_code_has_its_exception(code, of_a_query, of_a_table):
    from merganser._status import Status

    error = exception(Status(code, "m"), query="SELECT 1", params=[1])
    assert type(error) is of_a_query
    assert error.details["query"] == error.details["response_body"]["query"] == "SELECT 1"
    assert (error.details["code"], error.details["params"]) == (code, [1])
    assert type(exception(Status(code, "m"), table="t")) is of_a_table


@pytest.mark.parametrize("end", ["", ";", " ; ", ";\n-- done\n", "; ;", "; -- done", " /* done; */;"])
def test_a_statement_as_the_table_of_another(end):
    assert nested("SELECT 1" + end).split() == ["(", "SELECT", "1", ")"]
