"""Clients in processes of their own, which do one command after another: a line of JSON to stdin, a line of JSON from stdout.

The same module is the parent's side (`Worker`) and the child's (`answer_commands`). Standard library only: Quack's environment
uses it, too. A time that a worker tells is of the work alone, from call to result; what passes between the processes is not in it.
"""

import json
import subprocess
import sys


class Worker:
    """The parent's side of one process."""

    def __init__(self, python, script, *arguments):
        command = [str(python), str(script), *map(str, arguments)]
        self.name = f"{script.name} {' '.join(map(str, arguments))}".strip()
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def begin(self, command, **arguments):
        """Starts a command, so that several workers do theirs at the same time."""
        print(json.dumps({"command": command} | arguments), file=self.process.stdin, flush=True)

    def end(self):
        """Waits for the command that was started; returns what it returns."""
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} has ended with {self.process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{self.name}: {answer['error']}")
        return answer["result"]

    def call(self, command, **arguments):
        self.begin(command, **arguments)
        return self.end()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def answer_commands(commands):
    """The child's side: runs the functions in `commands` by their names until stdin ends."""
    for line in sys.stdin:
        arguments = json.loads(line)
        try:
            answer = {"result": commands[arguments.pop("command")](**arguments)}
        except Exception as error:  # whatever it is, the parent tells it and goes on with the next row
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)
