"""DuckDB 1.5.5 with the Quack extension, for both of its ends. Runs in Quack's own environment."""

import pathlib

import duckdb
import duckdb_extension_httpfs
import duckdb_extension_quack

TOKEN = "benchmark"


def connect(database=":memory:", **config):
    """A DuckDB with the extension that its package brings; nothing is fetched from elsewhere."""
    connection = duckdb.connect(database, config={"allow_unsigned_extensions": "true"} | config)
    for package in (duckdb_extension_httpfs, duckdb_extension_quack):
        [file] = pathlib.Path(package.__file__).parent.glob("extensions/*/*.duckdb_extension")
        connection.execute(f"LOAD '{file}'")
    return connection
