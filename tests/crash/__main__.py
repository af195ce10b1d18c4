"""The crash test: clients work on a server that is killed, again and again, and nothing it acknowledged may be missing.

    python tests/crash --rounds 5000 --bin target/release/merganser    # in a Python with tests/clients/requirements.txt

README.md beside this file says what it does, what it proves, and what it does not. tests/clients/test_crash.py runs
some of it.
"""

import argparse
import faulthandler
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "clients"))


def main() -> int:
    about = "Kill a server again and again, and look for what it has lost"
    parser = argparse.ArgumentParser(prog="tests/crash", description=about)
    parser.add_argument("--rounds", type=int, default=100, help="rounds to run [100]")
    parser.add_argument("--seconds", type=float, help="stop after so many seconds")
    parser.add_argument("--seed", type=int, help="what the dice begin with [the time]")
    parser.add_argument("--bin", help="the server's program [$MERGANSER_BIN]")
    parser.add_argument("--directory", type=Path, help="where the files go [a temporary directory]")
    parser.add_argument("--ends", help="only rounds that end so: kill,call,term,power,stop")
    parser.add_argument("--progress", type=int, default=10, help="tell how it goes every so many rounds [10]")
    arguments = parser.parse_args()
    if arguments.bin:
        os.environ["MERGANSER_BIN"] = os.path.abspath(arguments.bin)

    import support
    from rounds import ENDS, PATIENCE_SECONDS, FindingError, Run

    # The machine may have other work.
    support.READY_SECONDS = PATIENCE_SECONDS
    seed = arguments.seed if arguments.seed is not None else int(time.time())
    directory = arguments.directory or Path(tempfile.mkdtemp(prefix="merganser-crash-"))
    ends = {end: ENDS[end] for end in arguments.ends.split(",")} if arguments.ends else None
    run = Run(directory, seed, ends)
    # For one who wants to know where it waits.
    faulthandler.register(signal.SIGUSR1)
    # So that no server is left over when it is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
    until = time.monotonic() + arguments.seconds if arguments.seconds else None
    print(f"seed {seed}, in {directory}", flush=True)
    try:
        run.go(arguments.rounds, until, arguments.progress)
    except FindingError as error:
        print(f"{run.summary()}\nFOUND: {error}", flush=True)
        return 1
    print(f"nothing found; {run.summary()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
