//! `docs/errors.md`: the kinds of errors with their codes, of `src/error.rs` and `src/flight/status.rs`.

use std::fs;
use std::path::Path;

use tonic::Code;

use super::sources::items;
use super::{check, table};

/// The codes of gRPC: their numbers and names.
fn codes() -> impl Iterator<Item = (i32, String)> {
    (0..17).map(|number| (number, format!("{:?}", Code::from(number))))
}

/// The code that `flight/status.rs` picks for a kind.
fn code_of(kind: &str, status: &str) -> (i32, String) {
    let arm = format!("ErrorKind::{kind} => Code::");
    let line = status.lines().find_map(|line| line.trim().strip_prefix(&arm));
    let picked = line.unwrap_or_else(|| panic!("src/flight/status.rs picks no code for {kind}")).trim_end_matches(',');
    codes().find(|(_, name)| name == picked).unwrap_or_else(|| panic!("{picked} is no code of gRPC"))
}

/// `InvalidArgument` as `INVALID_ARGUMENT`.
fn word(name: &str) -> String {
    let letters = name.chars().enumerate();
    let apart = letters.flat_map(|(at, c)| (at > 0 && c.is_uppercase()).then_some('_').into_iter().chain([c]));
    apart.collect::<String>().to_uppercase()
}

#[test]
fn the_page_has_every_kind() {
    let status = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/flight/status.rs");
    let status = fs::read_to_string(status).expect("src/flight/status.rs is there");
    let kinds: Vec<_> = items("src/error.rs").into_iter().filter(|(name, _)| name.starts_with("ErrorKind.")).collect();
    let arms =
        status.lines().filter(|line| line.trim().starts_with("ErrorKind::") && line.contains("=> Code::")).count();
    assert_eq!(kinds.len(), arms, "src/error.rs is not read as it should be");
    let rows = kinds.iter().map(|(name, item)| {
        let (number, code) = code_of(name.trim_start_matches("ErrorKind."), &status);
        let [when, what_to_do] = &item.comment[..] else { panic!("{name} does not say when it comes and what to do") };
        [format!("`{}`", word(&code)), number.to_string(), when.clone(), what_to_do.clone()]
    });
    check("errors.md", &table(["code", "number", "when", "what to do"], rows));
}
