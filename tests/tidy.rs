//! Reads the sources and checks the rules that no compiler checks: which layer may name what, how files begin and how long
//! they are, and that documentation names what the code has.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use merganser::config::Config;

/// Lines of one file, its tests not counted.
const LINES_MAX: usize = 600;
/// Text files, by extension.
const TEXT: &[&str] = &["md", "proto", "py", "rs", "sh", "toml", "txt", "yml"];

/// One file of the repository.
struct Source {
    /// Its path, from the root of the repository.
    path: String,
    text: String,
}

impl Source {
    fn is_under(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path.starts_with(place))
    }

    /// The lines with their numbers, without comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines()).map(|(number, line)| {
            // `//` inside a URL is none.
            let comment = line.match_indices("//").find(|(at, _)| !line[..*at].ends_with(':'));
            (number, comment.map_or(line, |(at, _)| &line[..at]))
        })
    }
}

/// The text files under `directory`, in the order of their paths.
fn files(directory: &str, extensions: &[&str]) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut sources, mut directories) = (Vec::new(), vec![root.join(directory)]);
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("the repository can be read") {
            let path: PathBuf = entry.expect("the repository can be read").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path.is_dir() && !matches!(name, ".git" | "target") {
                directories.push(path);
            } else if path.extension().and_then(|extension| extension.to_str()).is_some_and(|e| extensions.contains(&e))
            {
                let text = fs::read_to_string(&path).expect("text files are UTF-8");
                let path = path.strip_prefix(root).expect("it is under the root").to_string_lossy().into_owned();
                sources.push(Source { path, text });
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

/// What follows `word` wherever it stands in `line` and does not end a longer identifier.
fn words<'a>(line: &'a str, word: &'a str) -> impl Iterator<Item = &'a str> {
    let found = line.match_indices(word).filter(|(at, _)| !line[..*at].ends_with(in_identifier));
    found.map(|(at, word)| &line[at + word.len()..])
}

fn in_identifier(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Fails with all lines outside of `places` that `names` something.
fn only_under(places: &[&str], rule: &str, names: impl Fn(&str) -> bool) {
    let wrong: Vec<String> = files("src", &["rs"])
        .iter()
        .filter(|source| !source.is_under(places))
        .flat_map(|source| {
            let lines: Vec<_> = source.code().filter(|(_, line)| names(line)).collect();
            lines.into_iter().map(|(number, line)| format!("{}:{number}: {}", source.path, line.trim()))
        })
        .collect();
    assert!(wrong.is_empty(), "{rule}:\n{}", wrong.join("\n"));
}

#[test]
fn only_the_engine_names_duckdb() {
    only_under(&["src/engine/"], "only src/engine names the crates of DuckDB", |line| {
        line.contains("duckdb_neo") || line.contains("libduckdb_sys")
    });
}

#[test]
fn only_the_edges_name_tonic() {
    let edges = ["src/cli/", "src/flight/", "src/server/"];
    only_under(&edges, "only src/flight, src/server and src/cli name tonic", |line| {
        words(line, "tonic").next().is_some()
    });
}

#[test]
fn one_file_chooses_grpc_codes() {
    // The commands of the CLI are clients: they read codes.
    let places = ["src/cli/", "src/flight/status.rs"];
    only_under(&places, "only src/flight/status.rs chooses a gRPC code: return a crate::Error", |line| {
        let makes = |rest: &str| rest.starts_with(char::is_lowercase);
        words(line, "Code::").next().is_some() || words(line, "Status::").any(makes)
    });
}

#[test]
fn unsafe_has_one_place() {
    only_under(
        &["src/engine/ffi.rs", "src/alloc.rs"],
        "unsafe code is in src/engine/ffi.rs and src/alloc.rs only",
        |line| words(line, "unsafe").any(|rest| !rest.starts_with(in_identifier)),
    );
}

#[test]
fn every_file_says_what_it_is_for() {
    for directory in ["proto", "src", "tests"] {
        for source in files(directory, &["rs"]) {
            assert!(source.text.starts_with("//! "), "{} does not begin with a `//!` head", source.path);
        }
    }
}

#[test]
fn files_are_short() {
    for source in files("src", &["rs"]).iter().chain(&files("tests", &["py", "rs"])) {
        let own = source.text.find("\n#[cfg(test)]\nmod tests").map_or(source.text.as_str(), |at| &source.text[..at]);
        let lines = own.lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines without its tests; {LINES_MAX} are allowed", source.path);
    }
}

#[test]
fn lines_end_where_they_end() {
    for source in files("", TEXT) {
        for (number, line) in (1..).zip(source.text.lines()) {
            assert!(!line.ends_with([' ', '\t', '\r']), "{}:{number}: white space at the end", source.path);
        }
        assert!(source.text.is_empty() || source.text.ends_with('\n'), "{} lacks its last line end", source.path);
    }
}

#[test]
fn the_crates_head_names_every_module() {
    let sources = files("src", &["rs"]);
    let lib = sources.iter().find(|source| source.path == "src/lib.rs").expect("src/lib.rs is there");
    let head: String = lib.text.lines().take_while(|line| line.starts_with("//!")).collect();
    for (_, line) in lib.code() {
        let declared = line.strip_prefix("pub mod ").or_else(|| line.strip_prefix("mod "));
        if let Some(module) = declared.and_then(|rest| rest.trim().strip_suffix(';')) {
            assert!(head.contains(&format!("`{module}")), "the head of src/lib.rs does not name `{module}`");
        }
    }
}

#[test]
fn no_test_is_forgotten() {
    let sources = files("tests", &["rs"]);
    let main = sources.iter().find(|source| source.path == "tests/main.rs").expect("tests/main.rs is there");
    let lines: Vec<&str> = main.text.lines().collect();
    for source in &sources {
        let name = source.path.trim_start_matches("tests/").trim_end_matches(".rs").trim_end_matches("/mod");
        if name == "main" || name.contains('/') {
            continue;
        }
        let listed = lines.iter().position(|line| *line == format!("mod {name};"));
        let at = listed.unwrap_or_else(|| panic!("tests/main.rs does not list {name}"));
        assert!(at > 0 && lines[at - 1].starts_with("// "), "tests/main.rs does not say what {name} is");
    }
}

/// The settings that pages for people name in code are there, and where the cell after theirs has values in code, these are their defaults.
/// (`docs/configuration.md` has all settings, see `tests/docs`.)
#[test]
fn pages_name_settings_that_are_there() {
    let keys = Config::keys();
    let toml = Config::default().to_toml();
    let values = toml.lines().filter_map(|line| line.split_once(" = ")).map(|(_, value)| value.trim_matches('"'));
    let defaults: BTreeMap<&str, &str> = keys.iter().map(String::as_str).zip(values).collect();
    let sections: BTreeSet<&str> = keys.iter().filter_map(|key| key.split('.').next()).collect();
    let is_setting = |name: &str| {
        let in_section = name.split_once('.').filter(|(section, _)| sections.contains(section));
        in_section.is_some_and(|(_, key)| !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
    };
    let mut compared = 0;
    for page in files("", &["md"]) {
        let mut boxed = false;
        for (number, line) in (1..).zip(page.text.lines()) {
            // What a box shows may be wrong on purpose.
            boxed ^= line.starts_with("```");
            if boxed {
                continue;
            }
            // Code stands between every other pair of backticks.
            for name in line.split('`').skip(1).step_by(2).filter(|name| is_setting(name)) {
                assert!(
                    defaults.contains_key(name),
                    "{}:{number} names the setting `{name}`, which is not there",
                    page.path
                );
            }
            let cells: Vec<_> = line.split(" | ").map(codes).collect();
            for (names, shown) in cells.iter().zip(cells.iter().skip(1)) {
                let is_row = page.path != "docs/configuration.md"
                    && names.len() == shown.len()
                    && names.iter().all(|name| is_setting(name));
                for (name, shown) in names.iter().zip(shown).filter(|_| is_row) {
                    assert_eq!(*shown, defaults[name], "{}:{number}: the default of `{name}`", page.path);
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 20, "the tables of settings are not found any more");
}

/// What a cell of a table has in code, if it has nothing else.
fn codes(cell: &str) -> Vec<&str> {
    let parts = cell.trim_start_matches("| ").trim_end_matches(" |").split(", ");
    parts.map(|part| part.strip_prefix('`')?.strip_suffix('`')).collect::<Option<_>>().unwrap_or_default()
}
