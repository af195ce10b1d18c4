//! Reads the comments of structs and enums, where no compiled code has them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// What is said of one field or variant.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// The field's type, as it is written; empty for a variant.
    pub(super) kind: String,
    /// The paragraphs of its comment.
    pub(super) comment: Vec<String>,
}

/// The fields of structs (`Struct.field`) and the variants of enums (`Enum.Variant`) of a file, in their order.
pub(super) fn items(file: &str) -> Vec<(String, Item)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
    let (mut found, mut owner, mut comment) = (Vec::new(), String::new(), Comment::default());
    for line in text.lines().map(str::trim) {
        if let Some(said) = line.strip_prefix("///") {
            comment.add(said.trim());
        } else if line.starts_with("#[") {
            // An attribute stands between a comment and what it is for.
        } else if let Some(rest) = line.strip_prefix("pub struct ").or_else(|| line.strip_prefix("pub enum ")) {
            rest.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().clone_into(&mut owner);
            comment = Comment::default();
        } else {
            let comment = std::mem::take(&mut comment).paragraphs();
            if line.starts_with('}') {
                owner.clear();
            } else if let Some((name, kind)) = member(line).filter(|_| !owner.is_empty()) {
                found.push((format!("{owner}.{name}"), Item { kind: kind.to_owned(), comment }));
            }
        }
    }
    found
}

/// The fields of several files.
pub(super) fn fields(files: &[&str]) -> BTreeMap<String, Item> {
    files.iter().flat_map(|file| items(file)).collect()
}

/// The name and type of the field or variant that a line declares.
fn member(line: &str) -> Option<(&str, &str)> {
    let line = line.strip_suffix(',')?;
    match line.strip_prefix("pub ") {
        Some(field) => field.split_once(": "),
        None => line.chars().all(char::is_alphanumeric).then_some((line, "")),
    }
}

/// The lines of a comment, while they are read.
#[derive(Default)]
struct Comment(Vec<Vec<String>>);

impl Comment {
    fn add(&mut self, line: &str) {
        if self.0.is_empty() || line.is_empty() {
            self.0.push(Vec::new());
        }
        if let Some(paragraph) = self.0.last_mut().filter(|_| !line.is_empty()) {
            paragraph.push(line.to_owned());
        }
    }

    fn paragraphs(self) -> Vec<String> {
        self.0.into_iter().map(|lines| lines.join(" ")).collect()
    }
}
