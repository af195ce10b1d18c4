//! A server as a process: started, spoken to with the binary's own commands, and ended one way or another.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{Machine, Output, PATIENCE, eventually};

/// `merganser serve`, ready; killed when it is dropped.
pub(crate) struct Server<'a> {
    machine: &'a Machine,
    child: Child,
    /// Lines of its stdout that were not looked at.
    lines: Receiver<String>,
    log: PathBuf,
    /// Like `grpc://127.0.0.1:4711`.
    pub(crate) uri: String,
    /// From the start of the process to its first line.
    pub(crate) ready_after: Duration,
}

impl<'a> Server<'a> {
    pub(super) fn start(machine: &'a Machine, listen: &str, arguments: &[&str]) -> Self {
        let log = tempfile::Builder::new().suffix(".log").tempfile_in(machine.path(""));
        let (log_file, log) = log.and_then(|log| Ok(log.keep()?)).expect("temporary files can be written");
        let mut command = machine.command(&["serve", "--listen", listen]);
        let started = Instant::now();
        let mut child = spawn(command.args(arguments), log_file);
        let lines = lines(&mut child);
        let mut server = Self { machine, child, lines, log, uri: String::new(), ready_after: Duration::ZERO };
        let first = server.line();
        server.ready_after = started.elapsed();
        let uri = first.strip_prefix("listening on ");
        uri.unwrap_or_else(|| panic!("first line on stdout: {first:?}")).clone_into(&mut server.uri);
        server
    }

    /// The next line on stdout.
    pub(crate) fn line(&mut self) -> String {
        let line = self.lines.recv_timeout(PATIENCE);
        line.unwrap_or_else(|error| panic!("no line on the server's stdout ({error}): {}", self.log()))
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("the log is there, and UTF-8")
    }

    /// Where its log is, also after its end.
    pub(crate) fn log_path(&self) -> &Path {
        &self.log
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `127.0.0.1:4711`.
    pub(crate) fn address(&self) -> &str {
        self.uri.trim_start_matches("grpc://")
    }

    // --- speaking to it ---

    /// A command of the binary that talks to this server.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.machine.command(arguments);
        command.env("MERGANSER_SERVER", &self.uri);
        command
    }

    /// What a command prints that must succeed.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        self.ok_with(arguments, b"")
    }

    /// The same for a command that reads `stdin`.
    pub(crate) fn ok_with(&self, arguments: &[&str], stdin: &[u8]) -> String {
        Output::of(&mut self.command(arguments), stdin).success()
    }

    /// What a command prints as `--json`.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let arguments: Vec<&str> = arguments.iter().chain(&["--json"]).copied().collect();
        serde_json::from_str(&self.ok(&arguments)).expect("--json prints JSON")
    }

    /// The line that a command prints that must fail.
    pub(crate) fn fails(&self, arguments: &[&str]) -> String {
        Output::of(&mut self.command(arguments), b"").failure()
    }

    /// Starts a command whose stdout and stderr are piped.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs")
    }

    /// The rows of a query, as CSV without its header.
    pub(crate) fn rows(&self, sql: &str) -> Vec<String> {
        self.ok(&["query", sql, "--format", "csv"]).lines().skip(1).map(str::to_owned).collect()
    }

    /// The rows of a table.
    pub(crate) fn count(&self, table: &str) -> u64 {
        let rows = self.rows(&format!("SELECT count(*) FROM {table}"));
        rows.first().and_then(|count| count.parse().ok()).expect("a count is a number")
    }

    /// The names of all tables.
    pub(crate) fn tables(&self) -> Vec<String> {
        let tables = self.json(&["tables"]);
        let name = |table: &Value| table["name"].as_str().expect("tables have names").to_owned();
        tables.as_array().expect("tables are listed").iter().map(name).collect()
    }

    // --- ending it ---

    /// Sends `signal`.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the server is there");
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        eventually("the end of the server", || self.child.try_wait().expect("the server can be waited for"))
    }

    /// Asks it to end, as an operator does; it must end well.
    pub(crate) fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.wait();
        assert_eq!(status.code(), Some(0), "{}", self.log());
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(mut self) {
        self.signal(Signal::KILL);
        self.wait();
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        // It may have ended already; a test that fails shall not fail twice.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn spawn(command: &mut Command, log: File) -> Child {
    command.stdout(Stdio::piped()).stderr(log).spawn().expect("the binary runs")
}

/// The lines of its stdout, read by a thread so that one can wait for them with an end.
fn lines(child: &mut Child) -> Receiver<String> {
    let stdout = child.stdout.take().expect("it is piped");
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines() {
            let Ok(line) = line else { return };
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}
