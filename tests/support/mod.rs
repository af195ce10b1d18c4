//! What the tests of the binary share: a machine of their own, servers and commands on it as processes, and the sample.

pub(crate) mod flight;
mod server;
pub(crate) mod tools;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub(crate) use server::Server;

/// Rows of tests/data/events.ndjson.gz.
pub(crate) const EVENTS: u64 = 2000;
/// Rows of tests/data/profiles.ndjson.gz.
pub(crate) const PROFILES: u64 = 200;

/// How long anything may take; only what hangs takes so long.
const PATIENCE: Duration = Duration::from_mins(1);

/// The path of a file of the sample.
pub(crate) fn sample(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    path.to_str().expect("the sources are at a path of UTF-8").to_owned()
}

/// Waits until `look` finds what it looks for.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// The surroundings of processes: home, data and temporary directories, and nothing of the environment of the tests.
pub(crate) struct Machine(TempDir);

impl Machine {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("there is a place for temporary files");
        fs::create_dir(directory.path().join("tmp")).expect("it can be written");
        Self(directory)
    }

    /// A path on the machine; commands run in its root, so that `name` alone means the same to them.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file; returns its name.
    pub(crate) fn write<'a>(&self, name: &'a str, content: impl AsRef<[u8]>) -> &'a str {
        fs::write(self.path(name), content).expect("temporary files can be written");
        name
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("the file is there, and UTF-8")
    }

    /// The names in a directory, in order.
    pub(crate) fn list(&self, directory: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(directory)).expect("the directory is there");
        let name = |entry: std::io::Result<fs::DirEntry>| entry.map(|entry| entry.file_name().display().to_string());
        let mut names: Vec<_> = entries.map(name).collect::<Result<_, _>>().expect("it can be read");
        names.sort();
        names
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_merganser"));
        command.args(arguments).current_dir(self.0.path()).env_clear().stdin(Stdio::null());
        for (variable, directory) in
            [("HOME", "home"), ("TMPDIR", "tmp"), ("XDG_CONFIG_HOME", "config"), ("XDG_DATA_HOME", "data")]
        {
            command.env(variable, self.path(directory));
        }
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        Output::of(&mut self.command(arguments), b"")
    }

    /// Starts a server on a free port; returns when it is ready.
    pub(crate) fn serve(&self, arguments: &[&str]) -> Server<'_> {
        Server::start(self, "127.0.0.1:0", arguments)
    }

    /// The same at an address that another server had.
    pub(crate) fn serve_at(&self, address: &str, arguments: &[&str]) -> Server<'_> {
        Server::start(self, address, arguments)
    }

    /// Starts a server that must refuse to start; returns the one line that says why.
    pub(crate) fn serve_fails(&self, arguments: &[&str]) -> String {
        let arguments: Vec<&str> = ["serve", "--listen", "127.0.0.1:0"].iter().chain(arguments).copied().collect();
        self.run(&arguments).failure()
    }
}

/// How a command ended, and what it said.
#[derive(Debug)]
pub(crate) struct Output {
    /// None if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Output {
    /// Runs `command` to its end; `stdin` is piped in, if there is any.
    pub(crate) fn of(command: &mut Command, stdin: &[u8]) -> Self {
        if !stdin.is_empty() {
            command.stdin(Stdio::piped());
        }
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        Self::of_child(child.expect("the binary runs"), stdin)
    }

    /// Waits for the end of a process whose stdout and stderr are piped.
    pub(crate) fn of_child(mut child: Child, stdin: &[u8]) -> Self {
        let pipe = child.stdin.take();
        let output = thread::scope(|scope| {
            // A command that fails early does not read it all.
            scope.spawn(|| pipe.map(|mut pipe| pipe.write_all(stdin)));
            child.wait_with_output().expect("the process can be waited for")
        });
        let stderr = String::from_utf8(output.stderr).expect("messages are UTF-8");
        Self { code: output.status.code(), stdout: output.stdout, stderr }
    }

    /// What it printed, given that it succeeded.
    pub(crate) fn success(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        String::from_utf8(self.stdout).expect("text is UTF-8")
    }

    /// The one line on stderr, given that it failed and printed nothing.
    pub(crate) fn failure(self) -> String {
        assert_eq!(self.code, Some(1), "{self:?}");
        assert!(self.stdout.is_empty(), "{self:?}");
        let line = self.stderr.strip_prefix("merganser: ").and_then(|rest| rest.strip_suffix('\n'));
        let line = line.filter(|line| !line.contains('\n'));
        line.unwrap_or_else(|| panic!("not one line of merganser's: {}", self.stderr)).to_owned()
    }
}
