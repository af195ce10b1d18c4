//! Precedence, unknown names, bad values, and what `--print-config` shows.

use std::fs;

use clap::Parser;
use tempfile::TempDir;

use super::*;
use crate::error::{ErrorKind, Result};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    config: ConfigFlags,
}

/// The surroundings of one test: a configuration directory of its own, and the variables that it gives.
struct Surroundings {
    directory: TempDir,
    environment: Environment,
}

impl Surroundings {
    fn new(variables: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let environment = Environment {
            variables: variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            config_directory: Some(directory.path().to_owned()),
            data_directory: None,
            temp_directory: directory.path().to_owned(),
        };
        Self { directory, environment }
    }

    /// With `toml` as the user's own configuration file.
    fn file(self, toml: &str) -> Self {
        let directory = self.directory.path().join("merganser");
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("merganser.toml"), toml).unwrap();
        self
    }

    fn load(&self, flags: &[&str]) -> Result<Loaded> {
        let cli = Cli::try_parse_from(["serve"].iter().chain(flags)).unwrap();
        Config::load(&cli.config, &self.environment)
    }

    fn config(&self, flags: &[&str]) -> Config {
        self.load(flags).unwrap().config
    }

    #[track_caller]
    fn refused(&self, flags: &[&str], message: &str) {
        let error = self.load(flags).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.message().contains(message), "{error}");
    }
}

#[test]
fn defaults_are_valid_and_read_back() {
    let config = Surroundings::new(&[]).config(&[]);
    assert_eq!(config, Config::default());
    assert_eq!(toml::from_str::<Config>(&config.to_toml()).unwrap(), config);
}

#[test]
fn stronger_sources_win() {
    let file = "[engine]\nthreads = 1\nmemory_limit = '1GiB'\nquery_timeout = '1s'\nstatements_max = 7\n";
    let variables = [
        ("MERGANSER_ENGINE_MEMORY_LIMIT", "2GiB"),
        ("MERGANSER_ENGINE_QUERY_TIMEOUT", "2s"),
        ("MERGANSER_ENGINE_THREADS", "2"),
    ];
    let loaded = Surroundings::new(&variables)
        .file(file)
        .load(&["--threads", "3", "--memory-limit", "3GiB", "--set", "engine.memory_limit=4GiB"])
        .unwrap();
    let engine = &loaded.config.engine;
    assert_eq!(engine.memory_limit, ByteSize::gib(4));
    assert_eq!(engine.threads, 3);
    assert_eq!(engine.query_timeout, Duration::from_secs(2));
    assert_eq!(engine.statements_max, 7);
    assert_eq!(engine.stack_bytes, Engine::default().stack_bytes);

    assert_eq!(loaded.origin("engine.memory_limit"), "--set");
    assert_eq!(loaded.origin("engine.threads"), "--threads");
    assert_eq!(loaded.origin("engine.query_timeout"), "MERGANSER_ENGINE_QUERY_TIMEOUT");
    assert!(loaded.origin("engine.statements_max").ends_with("merganser.toml"));
    assert_eq!(loaded.origin("engine.stack_bytes"), "default");
}

#[test]
fn the_named_file_takes_the_place_of_the_users_own() {
    let surroundings = Surroundings::new(&[]).file("[query]\nbatch_rows = 1\n");
    let other = surroundings.directory.path().join("other.toml");
    let other = other.to_str().unwrap();
    let missing = surroundings.load(&["--config", other]).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert_eq!(missing.message(), format!("configuration file not found: {other}"));

    fs::write(other, "[query]\nresults_max = 2\n").unwrap();
    let query = surroundings.config(&["--config", other]).query;
    assert_eq!((query.batch_rows, query.results_max), (Query::default().batch_rows, 2));
}

#[test]
fn the_database_is_one_of_four() {
    let check = |file: &str, flags: &[&str], mode: Mode, path: &str| {
        let database = Surroundings::new(&[]).file(file).config(flags).database;
        assert_eq!(database, Database { mode, path: path.into() }, "{file} {flags:?}");
    };
    let (in_memory, reader) = ("[database]\nmode = 'memory'\n", "[database]\nmode = 'read-only'\npath = 'a.duckdb'\n");
    check("", &[], Mode::Persistent, "");
    check("", &["a.duckdb"], Mode::Persistent, "a.duckdb");
    check("", &["a.duckdb", "--read-only"], Mode::ReadOnly, "a.duckdb");
    check("", &["--ephemeral"], Mode::Ephemeral, "");
    check("", &["--memory"], Mode::Memory, "");
    check(in_memory, &[], Mode::Memory, "");
    check(in_memory, &["a.duckdb"], Mode::Persistent, "a.duckdb");
    check(reader, &[], Mode::ReadOnly, "a.duckdb");
    check(reader, &["b.duckdb"], Mode::ReadOnly, "b.duckdb");
    check(reader, &["--ephemeral"], Mode::Ephemeral, "");

    for flags in [
        &["a.duckdb", "--ephemeral"][..],
        &["a.duckdb", "--memory"],
        &["--ephemeral", "--memory"],
        &["--ephemeral", "--read-only"],
        &["--memory", "--read-only"],
    ] {
        let result = Cli::try_parse_from(["serve"].iter().chain(flags));
        assert!(result.is_err(), "{flags:?} is a usage error");
    }
    Surroundings::new(&[("MERGANSER_DATABASE_PATH", "a.duckdb")])
        .file(in_memory)
        .refused(&[], "`database.path` = a.duckdb has no use while `database.mode` is memory");
}

#[test]
fn unknown_settings_are_refused_with_a_hint() {
    let file = |toml: &str, message: &str| Surroundings::new(&[]).file(toml).refused(&[], message);
    file("[engine]\nmemory_limt = '1GiB'\n", "unknown setting `engine.memory_limt` in ");
    file("[engine]\nmemory_limt = '1GiB'\n", "merganser.toml; did you mean `engine.memory_limit`?");
    file("[engine]\nbatch_rows = 1\n", "did you mean `query.batch_rows`?");
    file("[engines]\nthreads = 1\n", "did you mean `engine.threads`?");
    file("threads = 1\n", "did you mean `engine.threads`?");
    file("[engine]\nfrobnicate = true\n", "; --print-config shows all settings");
    file("engine = 1\n", "unknown setting `engine` in ");
    file("[engine\n", "configuration file ");

    let variable = |name: &str, message: &str| Surroundings::new(&[(name, "1")]).refused(&[], message);
    variable("MERGANSER_ENGINE_THREAD", "MERGANSER_ENGINE_THREAD; did you mean MERGANSER_ENGINE_THREADS?");
    variable("MERGANSER_MEMORY_LIMIT", "did you mean MERGANSER_ENGINE_MEMORY_LIMIT?");
    variable("MERGANSER_QUERY_FROBNICATE", "unknown environment variable MERGANSER_QUERY_FROBNICATE; --print");

    let flag = |setting: &str, message: &str| Surroundings::new(&[]).refused(&["--set", setting], message);
    flag("engine.treads=1", "unknown setting `engine.treads` in --set; did you mean `engine.threads`?");
    flag("engine=1", "unknown setting `engine` in --set");
    flag("engine.threads", "--set engine.threads is not like engine.query_timeout=30s");
}

#[test]
fn other_variables_are_left_alone() {
    let variables = [
        ("MERGANSER_LOG", ""),
        ("MERGANSER_PORT", "tcp://10.0.0.1:8815"),
        ("MERGANSER_PORT_8815_TCP_ADDR", "10.0.0.1"),
        ("MERGANSER_SERVER", "grpc://10.0.0.1:8815"),
        ("MERGANSER_SERVICE_HOST", "10.0.0.1"),
        ("RUST_BACKTRACE", "1"),
    ];
    assert_eq!(Surroundings::new(&variables).config(&[]), Config::default());
}

#[test]
fn the_log_filter_has_its_usual_names() {
    let rust_log = ("RUST_LOG", "warn");
    let merganser_log = ("MERGANSER_LOG", "debug");
    let loaded = Surroundings::new(&[rust_log]).load(&[]).unwrap();
    assert_eq!((loaded.config.log.filter.as_str(), loaded.origin("log.filter")), ("warn", "RUST_LOG"));
    let loaded = Surroundings::new(&[rust_log, merganser_log]).load(&[]).unwrap();
    assert_eq!((loaded.config.log.filter.as_str(), loaded.origin("log.filter")), ("debug", "MERGANSER_LOG"));
}

#[test]
fn bad_values_are_named() {
    let set = |setting: &str, message: &str| Surroundings::new(&[]).refused(&["--set", setting], message);
    set("engine.threads=many", "`engine.threads` = many (from --set) is not a whole number");
    set("server.insecure=yes", "`server.insecure` = yes (from --set) is neither true nor false");
    set("tls.certificate=a.pem", "`tls.certificate` = a.pem has no use without `tls.key`");
    set("tls.key=a.pem", "`tls.key` = a.pem has no use without `tls.certificate`");
    set("tls.client_ca=a.pem", "`tls.client_ca` = a.pem has no use without `tls.certificate` or `tls.self_signed`");
    set("tls.client_optional=true", "`tls.client_optional` = true has no use without `tls.client_ca`");
    set("engine.threads=0", "`engine.threads` = 0 is less than 1");
    set("engine.memory_limit=much", "`engine.memory_limit` (from --set): invalid value string \"much\"");
    set("engine.stack_bytes=8MiB", "`engine.stack_bytes` = 8MiB is less than 16MiB");
    set("engine.query_timeout=soon", "expected a duration like 30s");
    set("query.plans_max=4097", "`query.plans_max` = 4097 is more than 4096");
    set("ingest.memory=32MiB", "`ingest.memory` = 32MiB is less than 256MiB");
    set("database.mode=tape", "`database.mode` (from --set): unknown variant: found `tape`");
    set("server.listen=8815", "`server.listen` = 8815 is not an address like 127.0.0.1:8815");
    set("server.listen=:8815", "is not an address");
    set("log.filter=a=b=c", "`log.filter` = a=b=c is not a filter");

    let file = |toml: &str, message: &str| Surroundings::new(&[]).file(toml).refused(&[], message);
    file("[engine]\nquery_timeout = 30\n", "merganser.toml): expected a duration like 30s");
    file("[engine]\nthreads = 'two'\n", "`engine.threads` (from ");
    file("[engine]\nmemory_limit = true\n", "expected a size like 512MiB");
}

#[test]
fn switches_are_set_by_every_source() {
    let config = Surroundings::new(&[("MERGANSER_SERVER_INSECURE", "true")]).config(&["--tls-self-signed"]);
    assert!(config.server.insecure && config.tls.self_signed);
    let config = Surroundings::new(&[]).file("[tls]\nself_signed = true\n").config(&["--insecure"]);
    assert!(config.server.insecure && config.tls.is_on());
    // Those of the client commands are none of the server's.
    let variables = [("MERGANSER_TLS_CA", "a.pem"), ("MERGANSER_CLIENT_KEY", "b.pem"), ("MERGANSER_TOKEN", "t")];
    assert_eq!(Surroundings::new(&variables).config(&[]), Config::default());
}

#[test]
fn plain_numbers_are_bytes() {
    let config = Surroundings::new(&[("MERGANSER_INGEST_MEMORY", "1073741824")])
        .file("[ingest]\nstream_memory = 2000000\n")
        .config(&[]);
    assert_eq!(config.ingest.memory, ByteSize::gib(1));
    assert_eq!(config.ingest.stream_memory, ByteSize(2_000_000));
}

#[test]
fn print_shows_every_setting_with_its_origin() {
    let loaded = Surroundings::new(&[("MERGANSER_LOG", "debug")])
        .file("[query]\nbatch_rows = 1000\n")
        .load(&["--ephemeral", "--listen", "[::1]:0"])
        .unwrap();
    let printed = loaded.print();
    let line = |start: &str| printed.lines().find(|line| line.starts_with(start)).unwrap().to_owned();
    assert!(line("listen = \"[::1]:0\" ").ends_with("  # --listen"));
    assert!(line("batch_rows = 1000 ").ends_with("merganser.toml"));
    assert!(line("batch_bytes_max = \"4032KiB\" ").ends_with("  # default"));
    assert!(line("mode = \"ephemeral\" ").ends_with("  # --ephemeral"));
    assert!(line("filter = \"debug\" ").ends_with("  # MERGANSER_LOG"));
    assert_eq!(printed.matches("  # ").count(), Config::keys().len());
    assert_eq!(toml::from_str::<Config>(&printed).unwrap(), loaded.config, "it is a configuration file again");
}

#[test]
fn keys_name_every_setting() {
    let keys = Config::keys();
    assert_eq!(keys.first().map(String::as_str), Some("server.listen"));
    assert_eq!(keys.last().map(String::as_str), Some("otel.endpoint"));
    assert!(keys.contains(&"ingest.json_depth_max".to_owned()));
    assert_eq!(variable("ingest.json_depth_max"), "MERGANSER_INGEST_JSON_DEPTH_MAX");
}
