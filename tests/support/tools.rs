//! The clients that the tests run, installed once: each set into a directory of the target directory that is named after what
//! it holds.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use xxhash_rust::xxh3::xxh3_64;

/// Set to `1` on a machine that cannot have the clients.
pub(crate) const SKIP: &str = "MERGANSER_SKIP_CLIENT_TESTS";

/// arrow-flight's own command-line client, of the version that the server is built with.
const FLIGHT_SQL_CLIENT: &str = "60.1.0";
/// What the clients for JavaScript ask for.
const NODE_MIN: u32 = 20;

/// The Python of a virtual environment with everything that the file lists, a file of tests/clients.
pub(crate) fn python(requirements: &str) -> PathBuf {
    let requirements = source(requirements);
    let name = requirements.file_stem().and_then(|stem| stem.to_str()).expect("the file has a name");
    let directory = installed(&name.replace("requirements", "clients"), &[&requirements], |directory| {
        run(
            Command::new("python3").args(["-m", "venv", "--clear"]).arg(directory),
            "the client tests need python3 (3.11 or newer) with its venv module (Debian: apt-get install python3-venv)",
        );
        run(
            Command::new(directory.join("bin/python"))
                .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
                .arg(&requirements),
            &format!("the clients of {} cannot be installed", requirements.display()),
        );
    });
    directory.join("bin/python")
}

/// A `node_modules` with the clients for JavaScript, as the lock file of tests/clients/npm lists them.
pub(crate) fn node_modules() -> PathBuf {
    let files = ["npm/package.json", "npm/package-lock.json"].map(source);
    let directory = installed("clients-npm", &[&files[0], &files[1]], |directory| {
        assert!(
            node_major().is_some_and(|major| major >= NODE_MIN),
            "the client tests need node {NODE_MIN} or newer, and npm (Debian 13: apt-get install nodejs npm); \
             set {SKIP}=1 to go without them"
        );
        drop(fs::remove_dir_all(directory));
        fs::create_dir_all(directory).expect("the target directory can be written");
        for file in &files {
            let name = file.file_name().expect("the file has a name");
            fs::copy(file, directory.join(name)).expect("the target directory can be written");
        }
        // Not `npm ci`, which refuses a lock without the optional dependency that @lakehouse-rs never published. No script of
        // any package runs: what they need is in them.
        let arguments = ["install", "--ignore-scripts", "--no-save", "--no-audit", "--no-fund", "--loglevel=error"];
        run(
            Command::new("npm").args(arguments).current_dir(directory),
            "the clients of tests/clients/npm cannot be installed",
        );
    });
    directory.join("node_modules")
}

/// `flight_sql_client`, built once.
pub(crate) fn flight_sql_client() -> PathBuf {
    let directory = installed(&format!("flight-sql-client-{FLIGHT_SQL_CLIENT}"), &[], |directory| {
        // Without optimization: it is built faster, and prints a few rows. In a target directory of its own, which cargo
        // removes, because any other profile of ours compiles DuckDB.
        run(
            Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
                .args(["install", "arrow-flight", "--version", FLIGHT_SQL_CLIENT, "--locked", "--debug", "--quiet"])
                .args(["--features", "cli,flight-sql,tls-ring", "--bin", "flight_sql_client", "--force", "--root"])
                .arg(directory)
                .env_remove("CARGO_TARGET_DIR"),
            "arrow-flight's command-line client cannot be installed",
        );
    });
    directory.join("bin/flight_sql_client")
}

/// Runs a command that must succeed.
pub(crate) fn run(command: &mut Command, failure: &str) {
    match command.status() {
        Ok(status) => assert!(status.success(), "{failure} ({status})"),
        Err(error) => panic!("{failure} ({error}); set {SKIP}=1 to go without it"),
    }
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name)
}

/// The directory of one set of clients, which `install` fills unless an earlier run did; a new one when `files` change.
fn installed(name: &str, files: &[&Path], install: impl FnOnce(&Path)) -> PathBuf {
    let wanted: Vec<u8> = files.iter().flat_map(|file| fs::read(file).expect("the list of clients is there")).collect();
    let name = if files.is_empty() { name.to_owned() } else { format!("{name}-{:016x}", xxh3_64(&wanted)) };
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&name);

    // Two runs of the tests may share a target directory.
    let lock = File::create(directory.with_file_name(format!("{name}.lock")));
    let lock = lock.expect("the target directory can be written");
    lock.lock().expect("locks work in the target directory");
    let done = directory.join("installed");
    if !done.exists() {
        install(&directory);
        File::create(&done).expect("the target directory can be written");
    }
    directory
}

/// The major version of `node`, if there is one.
fn node_major() -> Option<u32> {
    let output = Command::new("node").arg("--version").output().ok()?;
    let version = String::from_utf8(output.stdout).ok()?;
    version.strip_prefix('v')?.split('.').next()?.parse().ok()
}
