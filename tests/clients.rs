//! Runs the tests of `tests/clients` under pytest: stock clients, in their own processes, against the real binary.
//!
//! And those of our own package for Python, `clients/python`, with its linters.
//!
//! The clients are installed once, into the target directory: three virtual environments of Python, a `node_modules`, and
//! arrow-flight's command-line client. Set `MERGANSER_SKIP_CLIENT_TESTS=1` on a machine without Python or node.

use std::env;
use std::path::Path;
use std::process::Command;
use std::thread;

use crate::support::tools::{self, SKIP};

#[test]
fn stock_clients() {
    if is_skipped() {
        return;
    }
    // The longest one beside the others.
    let (flight_sql_client, python, dbapi_python, node_modules) = thread::scope(|scope| {
        let flight_sql_client = scope.spawn(tools::flight_sql_client);
        let (python, dbapi) = (tools::python("requirements.txt"), tools::python("requirements-dbapi.txt"));
        let node_modules = tools::node_modules();
        (flight_sql_client.join().expect("the client is installed"), python, dbapi, node_modules)
    });
    let mut pytest = Command::new(python);
    pytest
        .args(["-m", "pytest", "-q"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients"))
        .env("MERGANSER_BIN", env!("CARGO_BIN_EXE_merganser"))
        .env("MERGANSER_TEST_DBAPI_PYTHON", dbapi_python)
        .env("MERGANSER_TEST_NODE_MODULES", node_modules)
        .env("MERGANSER_TEST_FLIGHT_SQL_CLIENT", flight_sql_client)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    tools::run(&mut pytest, "pytest reports failures above");
}

#[test]
fn python_package() {
    if is_skipped() {
        return;
    }
    let python = tools::python("../../clients/python/tests/requirements.txt");
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/python");
    let environment = python.to_str().expect("the target directory is UTF-8");
    for (arguments, failure) in [
        (&["ruff", "check", "--no-cache", "."][..], "ruff reports above what is wrong with clients/python"),
        (
            &["ruff", "format", "--no-cache", "--check", "."][..],
            "clients/python is not formatted: ruff format clients/python",
        ),
        // It looks at the environment that it is told, not at the one that it is in.
        (
            &["pyright", "--pythonpath", environment],
            "pyright reports above what is wrong with the types of clients/python",
        ),
        (&["pytest", "-q"][..], "pytest reports failures above"),
    ] {
        let mut tool = Command::new(&python);
        tool.arg("-m")
            .args(arguments)
            .current_dir(&package)
            .env("MERGANSER_BIN", env!("CARGO_BIN_EXE_merganser"))
            .env("PYTHONDONTWRITEBYTECODE", "1");
        tools::run(&mut tool, failure);
    }
}

#[expect(clippy::print_stdout, reason = "a test says that it was skipped")]
fn is_skipped() -> bool {
    let is_skipped = env::var_os(SKIP).is_some_and(|value| value == "1");
    if is_skipped {
        println!("skipped: {SKIP} is set");
    }
    is_skipped
}
