"""Merganser beside its peers, in one run on one machine: one table of medians and ratios. benches/README.md tells what each row is.

    python benches/compare.py target/release/merganser --load PATH_OF_LOAD_BINARY

makes the Python environments and the data that it needs, and runs all rows. Servers and clients are always separate processes.
"""

import argparse
import contextlib
import os
import pathlib
import platform
import sys
import tempfile
import time
import traceback

import environments

# Which module measures which rows, in the order of the table.
GROUPS = [
    ("rows_read", "ab"),
    ("rows_ingest", "cd"),
    ("rows_small", "efg"),
    ("rows_tpch", "h"),
    ("rows_long", "i"),
    ("rows_dashboards", "j"),
    ("rows_memory", "k"),
]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=absolute, help="the merganser to measure")
    parser.add_argument("--load", type=absolute, help="the load client, for rows e, f and g")
    parser.add_argument("--rows", type=rows, default=rows("a,b,c,d,e,f,g,h,i,j,k"), help="which rows, like a,b,h")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--small", action="store_true", help="a twentieth of everything, to try it out")
    parser.add_argument("--i-rows", type=int, help="events of row i: 20,000,000 unless told otherwise")
    parser.add_argument("--write", type=pathlib.Path, help="a file for the table, too")
    parser.add_argument("--venvs", type=absolute, help="where the Python environments are kept; else beside the binary")
    parser.add_argument("--data", type=absolute, help="where data and database files are kept; else beside the binary")
    found = parser.parse_args()
    for path in filter(None, (found.binary, found.load)):
        if not path.is_file():
            parser.error(f"{path} is not there")
    found.venvs = found.venvs or found.binary.parent / "bench-venvs"
    found.data = found.data or found.binary.parent / "bench-data"
    return found


def absolute(text):
    return pathlib.Path(text).absolute()


def rows(text):
    names = [name.strip() for name in text.split(",")]
    known = "".join(letters for _, letters in GROUPS)
    if unknown := [name for name in names if len(name) != 1 or name not in known]:
        raise argparse.ArgumentTypeError(f"no row {unknown[0]!r}: rows are {', '.join(known)}")
    return names


class Bench:
    """What the rows have in common: sizes, data, and how each side is started."""

    def __init__(self, told):
        from data import Data
        from servers import Scripts

        self.told, self.rounds, self.load, self.small = told, told.rounds, told.load, told.small
        self.data, self.scripts = Data(told.data, told.small), Scripts(told.venvs)
        self.single_rows = 5_000 if told.small else 100_000
        self.long_rows = told.i_rows or (1_000_000 if told.small else 20_000_000)
        self.append_rows = 10_000 if told.small else 200_000
        self.sessions, self.results = (50, 5) if told.small else (1000, 50)

    def seconds(self, full):
        return 1 if self.small else full

    def directory(self):
        """A directory for database files, on the disk of the data, that is deleted after use."""
        return tempfile.TemporaryDirectory(prefix="run-", dir=self.data.directory)

    def merganser(self, directory, **settings):
        from servers import Merganser

        return Merganser(self.told.binary, pathlib.Path(directory) / "merganser", **settings)

    def inprocess(self):
        from servers import memory_limit_mib
        from workers import Worker

        return Worker(self.scripts.main, environments.HERE / "inprocess.py", memory_limit_mib())

    def quack_client(self):
        from workers import Worker

        return Worker(self.scripts.quack_venv, environments.HERE / "quack_client.py")


def machine():
    import duckdb
    import pyarrow

    cpu = next((line for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{cpu.split(': ')[-1]}, {len(os.sched_getaffinity(0))} cores for client and server, {memory:.0f} GiB,"
        f" {platform.system()} {platform.release()}; load before {os.getloadavg()[0]:.1f};"
        f" Python {platform.python_version()}, pyarrow {pyarrow.__version__}, duckdb {duckdb.__version__}"
    )


def measure(bench, selected):
    """The lines of all rows. A row that fails has one that says so; the others go on."""
    from figures import Line

    lines = []
    for module, letters in GROUPS:
        if wanted := [row for row in letters if row in selected]:
            try:
                lines += __import__(module).measure(bench, wanted)
            except Exception as error:
                traceback.print_exc()
                lines += [Line(row, f"see {module}.py", met=f"**failed**: {error}") for row in wanted]
    return lines


def main():
    told = arguments()
    environments.run_inside(told.venvs)
    from figures import table

    bench, before, started = Bench(told), machine(), time.monotonic()
    lines = measure(bench, told.rows)
    minutes = (time.monotonic() - started) / 60
    size = ", a twentieth of the size (--small): not to be compared with anything" if told.small else ""
    report = (
        f"{before}.\n\n{told.rounds} rounds{size}. Medians, and in parentheses the lowest and the highest; a ratio is the median"
        f" of the ratios of each round.\n\n{table(lines)}\n\n"
        f"It took {minutes:.0f} minutes; load at the end {os.getloadavg()[0]:.1f}.\n"
    )
    print(report)
    if told.write:
        head = "# Results\n\nWritten by `benches/compare.py`, see [README.md](README.md).\n\n"
        told.write.write_text(head + report, encoding="utf-8")
    return 1 if any("failed" in line.met for line in lines) else 0


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
