//! Runs the tests of `tests/clients` under pytest: stock clients, in their own processes, against the real binary.
//!
//! The clients are installed once, into a virtual environment of the target directory that is named after what it holds. Set
//! `MERGANSER_SKIP_CLIENT_TESTS=1` on a machine without Python.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use xxhash_rust::xxh3::xxh3_64;

const SKIP: &str = "MERGANSER_SKIP_CLIENT_TESTS";

#[test]
fn stock_clients() {
    if env::var_os(SKIP).is_some_and(|value| value == "1") {
        println!("skipped: {SKIP} is set");
        return;
    }
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
    let python = environment(&tests.join("requirements.txt"));
    let mut pytest = Command::new(python);
    pytest
        .args(["-m", "pytest", "-q"])
        .arg(&tests)
        .env("MERGANSER_BIN", env!("CARGO_BIN_EXE_merganser"))
        .env("PYTHONDONTWRITEBYTECODE", "1");
    run(&mut pytest, "pytest reports failures above");
}

/// The Python of a virtual environment with everything that `requirements` lists.
fn environment(requirements: &Path) -> PathBuf {
    let wanted = fs::read(requirements).expect("tests/clients/requirements.txt is there");
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("clients-{:016x}", xxh3_64(&wanted)));
    let (python, installed) = (directory.join("bin/python"), directory.join("installed"));

    // Two runs of the tests may share a target directory.
    let lock = File::create(directory.with_extension("lock")).expect("the target directory can be written");
    lock.lock().expect("locks work in the target directory");
    if installed.exists() {
        return python;
    }
    run(
        Command::new("python3").args(["-m", "venv", "--clear"]).arg(&directory),
        &format!(
            "the client tests need python3 (3.11 or newer) with its venv module (Debian: apt-get install python3-venv); set {SKIP}=1 to go without them"
        ),
    );
    run(
        Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
            .arg(requirements),
        "the clients of tests/clients/requirements.txt cannot be installed",
    );
    File::create(&installed).expect("the target directory can be written");
    python
}

fn run(command: &mut Command, failure: &str) {
    match command.status() {
        Ok(status) => assert!(status.success(), "{failure} ({status})"),
        Err(error) => panic!("{failure} ({error})"),
    }
}
