//! The references in `docs/` are made of the code: of the settings and their comments, of what ListActions tells and the messages of
//! `proto/`, of the kinds of errors, of the table of metrics. These tests make them again and compare.
//!
//! What is made stands between two comments of a page, and what people have written around them. After a change of the code,
//! `UPDATE_DOCS=1 cargo test --release --test wire docs::` writes the pages anew.

mod actions;
mod configuration;
mod errors;
mod metrics;
mod sources;

use std::fs;
use std::path::Path;

const BEGIN: &str = "<!-- made from the code -->\n";
const END: &str = "<!-- end of what is made -->\n";

/// Compares what a page has with what is `made` of the code, or writes it.
fn check(page: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("docs/{page}: {error}"));
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?)));
    let (before, (has, after)) = parts.unwrap_or_else(|| panic!("docs/{page} lacks the comments around what is made"));
    if has == made {
        return;
    }
    if std::env::var_os("UPDATE_DOCS").is_some_and(|value| value == "1") {
        fs::write(&path, format!("{before}{BEGIN}{made}{END}{after}")).expect("the pages can be written");
        return;
    }
    let differs = has.lines().zip(made.lines()).find(|(has, made)| has != made);
    let (has, made) = differs.unwrap_or(("(fewer or more lines)", ""));
    panic!(
        "docs/{page} does not say what the code says; UPDATE_DOCS=1 cargo test --release --test wire docs:: writes it anew\n\
         it has: {has}\nthe code: {made}"
    );
}

/// A table in Markdown.
fn table<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut text = format!("{}|{}\n", line(header.map(str::to_owned)), "---|".repeat(N));
    text.extend(rows.into_iter().map(line));
    text
}

/// One line of a table.
fn line<const N: usize>(cells: [String; N]) -> String {
    let cells = cells.map(|cell| cell.replace('|', "\\|"));
    let cells = cells.map(|cell| if cell.is_empty() { " |".to_owned() } else { format!(" {cell} |") });
    format!("|{}\n", cells.concat())
}
