"""Writes golden.tsv: what DuckDB with its ICU extension answers to expressions.sql.

    python3 -m venv venv && venv/bin/pip install duckdb==2.0.0
    venv/bin/python tests/timezone_oracle/make.py

expressions.sql holds one expression a line. `@zones A B` names the time zones that the lines below it are evaluated
in, `@setup` begins a statement to run beforehand, and `--` a comment. Each line of the result is the zone, the
expression, the type and the text of its value; an expression that fails has the type `error`.
"""

import pathlib
import sys

import duckdb

FOLDER = pathlib.Path(__file__).parent


def main() -> None:
    source = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER / "expressions.sql"
    target = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else FOLDER / "golden.tsv"
    connection = duckdb.connect()
    connection.execute("SET TimeZone='UTC'")
    zones = ["UTC"]
    lines = []
    for line in source.read_text().splitlines():
        if not line.strip() or line.startswith("--"):
            continue
        if line.startswith("@zones "):
            zones = line.split()[1:]
        elif line.startswith("@setup "):
            connection.execute(line.removeprefix("@setup "))
            lines.append("\t".join(["", line.removeprefix("@setup "), "setup", ""]))
        else:
            for zone in zones:
                kind, value = evaluate(connection, zone, line)
                lines.append("\t".join([zone, line, kind, value]))
    target.write_text("\n".join(lines) + "\n")
    print(f"{len(lines)} lines")


def evaluate(connection: duckdb.DuckDBPyConnection, zone: str, expression: str) -> tuple[str, str]:
    connection.execute(f"SET TimeZone='{zone}'")
    try:
        row = connection.execute(f"SELECT typeof(e), e::VARCHAR FROM (SELECT {expression} AS e)").fetchone()
    except duckdb.Error as error:
        if "--errors" in sys.argv:
            print(zone, expression, error, file=sys.stderr)
        return "error", ""
    kind, value = row
    return kind, "NULL" if value is None else value.replace("\n", "\\n").replace("\t", "\\t")


if __name__ == "__main__":
    main()
