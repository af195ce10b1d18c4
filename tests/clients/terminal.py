"""A person at a terminal: a pseudo-terminal with a program in it, and what its screen shows."""

import os
import re
import time

import pexpect
import pyte

KEYS = {"tab": "\t", "enter": "\r", "ctrl-c": "\x03", "ctrl-d": "\x04", "up": "\x1b[A"}
WAIT_SECONDS = 15


class Terminal:
    """A program that runs on a screen of its own."""

    def __init__(self, command, environment, lines=24, columns=100, cwd=None):
        self.screen = pyte.HistoryScreen(columns, lines, history=2000)
        self.stream = pyte.ByteStream(self.screen)
        environment = {"PATH": os.environ["PATH"], "TERM": "xterm", "LANG": "C.UTF-8"} | environment
        self.child = pexpect.spawn(command[0], command[1:], env=environment, dimensions=(lines, columns), cwd=cwd)

    def press(self, *keys):
        """Types texts, and the keys that have names."""
        for key in keys:
            self.child.send(KEYS.get(key, key))

    def enter(self, text):
        """Types a line."""
        self.press(text, "enter")

    def text(self):
        """All that was shown, the lines that have left the screen included."""
        columns = range(self.screen.columns)
        gone = ["".join(line[column].data for column in columns) for line in self.screen.history.top]
        return "\n".join(line.rstrip() for line in [*gone, *self.screen.display]).rstrip()

    def line(self):
        """The line that the cursor is in."""
        return self.screen.display[self.screen.cursor.y].rstrip()

    def _read(self):
        try:
            self.stream.feed(self.child.read_nonblocking(1 << 16, timeout=0.05))
        except pexpect.TIMEOUT:
            pass
        except pexpect.EOF:
            return False
        return True

    def wait(self, condition, what):
        """Waits until the condition holds."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not condition():
            assert self._read() or condition(), f"the program has ended, and not shown {what}:\n{self.text()}"
            assert time.monotonic() < deadline, f"{what} is not shown:\n{self.text()}"

    def see(self, *texts):
        """Waits until all texts are shown."""
        for text in texts:
            self.wait(lambda text=text: text in self.text(), repr(text))

    def see_line(self, text):
        """Waits until the line of the cursor is this one."""
        self.wait(lambda: self.line() == text, repr(text))

    def prompt(self, prompt="merganser>"):
        """Waits for the prompt, and returns what was shown since the prompt before."""
        self.see_line(prompt)
        return self.text().split(prompt)[-2].strip()

    def ask(self, text, prompt="merganser>"):
        """Types a line, and returns what is shown until the next prompt."""
        before = self.text().count(prompt)
        self.enter(text)
        self.wait(lambda: self.line() == prompt and self.text().count(prompt) > before, "the next prompt")
        shown = re.split(r"merganser\*?>", self.text())[-2].strip()
        return shown.removeprefix(text).strip()

    def end(self):
        """Waits for the program's end, and returns its exit code."""
        while self._read():
            pass
        self.child.wait()
        self.child.close()
        return self.child.exitstatus

    def close(self):
        """Ends the program, if it has not ended."""
        self.child.close(force=True)
