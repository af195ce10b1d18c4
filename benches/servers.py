"""The servers that are compared, each a process of its own: how they start and stop, and how much memory they have."""

import os
import pathlib
import signal
import subprocess
import time

import environments

SETTLED_SECONDS = 4


def memory_limit_mib():
    """What every DuckDB here gets for its buffers: half of the machine, as Merganser's default is."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**21


class Process:
    """A server that writes `listening on ADDRESS` as its first line on stdout."""

    def __init__(self, name, command, directory, environment=None):
        self.name, self.log_path = name, pathlib.Path(directory) / f"{name}.log"
        with self.log_path.open("wb") as log:
            pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": log}
            self.process = subprocess.Popen([str(part) for part in command], env=environment, text=True, **pipes)
        line = self.process.stdout.readline()
        if not line.startswith("listening on "):
            self.process.kill()
            self.process.wait()
            raise RuntimeError(f"{name} did not start: {line}{self.log()}")
        self.uri = line.split()[-1]

    def log(self):
        return self.log_path.read_text(errors="replace")[-2000:]

    def status_mb(self, name):
        """A value of /proc/PID/status in MB of 10^6 bytes: VmRSS is resident now, VmHWM is the most since the reset."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split(f"{name}:")[1].split()[0]) * 1024 / 1e6

    def peak_mb(self):
        return self.status_mb("VmHWM")

    def reset_peak(self):
        pathlib.Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def settled_mb(self):
        """The resident memory once it has been the same for SETTLED_SECONDS, or after a minute: allocators give back late."""
        seen, deadline = [self.status_mb("VmRSS")], time.monotonic() + 60
        while time.monotonic() < deadline:
            time.sleep(1)
            seen.append(self.status_mb("VmRSS"))
            last = seen[-SETTLED_SECONDS - 1 :]
            if len(last) > SETTLED_SECONDS and max(last) - min(last) < 1:
                break
        return seen[-1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


class Merganser(Process):
    """`merganser serve` on a database file in `directory`, with nothing of the caller's own configuration."""

    def __init__(self, binary, directory, **settings):
        directory = pathlib.Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        environment = {key: value for key, value in os.environ.items() if not key.startswith("MERGANSER_")}
        places = dict.fromkeys(("TMPDIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME"), str(directory))
        settings = {"engine.memory_limit": f"{memory_limit_mib()}MiB"} | settings
        command = [binary, "serve", directory / "merganser.duckdb", "--listen", "127.0.0.1:0"]
        for name, value in settings.items():
            command += ["--set", f"{name}={value}"]
        super().__init__("merganser", command, directory, environment | places)

    def __exit__(self, *error):
        super().__exit__(*error)
        if self.process.returncode != 0:
            raise RuntimeError(f"merganser ended with {self.process.returncode}: {self.log()}")


class Scripts:
    """The peers that are Python programs beside this file."""

    def __init__(self, venvs):
        self.main, self.quack_venv = environments.main_python(venvs), environments.quack_python(venvs)

    def plain(self, directory, database):
        command = [self.main, environments.HERE / "plain_server.py", database, memory_limit_mib()]
        return Process("plain", command, directory)

    def raw(self, directory, **tables):
        """A server of the named tables, each of an Arrow or Parquet file."""
        files = [f"{name}={path}" for name, path in tables.items()]
        return Process("raw", [self.main, environments.HERE / "raw_server.py", *files], directory)

    def quack(self, directory, database):
        command = [self.quack_venv, environments.HERE / "quack_server.py", database, memory_limit_mib()]
        return Process("quack", command, directory)
