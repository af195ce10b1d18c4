//! Which files are meant: names, patterns like `logs/**/*.gz`, and directories with all that is in them.

use std::collections::HashSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::source::{is_stdin, read_error};
use crate::cli::endings;
use crate::cli::output;
use crate::error::{Error, Result};

/// Files of one command, at most.
const FILES_MAX: usize = 1 << 20;
/// Files that were passed over and are named; of others only the number is told.
const NAMED_MAX: usize = 5;

/// The files that are meant, each once, in the order of the arguments and then of their names.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) files: Vec<PathBuf>,
    /// Whether there may be several, today or another day.
    pub(super) is_set: bool,
    /// Files in directories that were passed over, and the number of the others.
    passed_over: Vec<PathBuf>,
    walked: usize,
    seen: HashSet<PathBuf>,
}

/// Finds the files that `arguments` mean. A name of a file that is there is no pattern, whatever it looks like.
pub(super) fn find(arguments: &[PathBuf]) -> Result<Found> {
    let mut found = Found { is_set: arguments.len() > 1, ..Found::default() };
    for argument in arguments {
        if is_stdin(argument) || argument.is_file() {
            found.add(argument.clone())?;
        } else if argument.is_dir() {
            found.is_set = true;
            let before = found.walked;
            found.walk(argument)?;
            if found.walked == before {
                return Err(Error::invalid(format!(
                    "{}: no file in it ends in .ndjson, .jsonl, .json, .csv, .parquet, .arrow, .arrows, .feather or .ipc{}",
                    argument.display(),
                    found.passed_over().map(|line| format!(" ({line})")).unwrap_or_default()
                )));
            }
        } else if is_pattern(argument) {
            found.is_set = true;
            found.matching(argument)?;
        } else {
            // A pipe, or nothing.
            fs::metadata(argument).map_err(|error| read_error(&argument.display().to_string(), error))?;
            found.add(argument.clone())?;
        }
    }
    if found.files.is_empty() {
        let passed_over = found.passed_over().map(|line| format!(": {line}")).unwrap_or_default();
        return Err(Error::invalid(format!("no files to import{passed_over}")));
    }
    Ok(found)
}

impl Found {
    /// A line about files that were passed over, if there are any.
    pub(super) fn passed_over(&self) -> Option<String> {
        let names: Vec<String> =
            self.passed_over.iter().take(NAMED_MAX).map(|path| path.display().to_string()).collect();
        let more = self.passed_over.len().saturating_sub(NAMED_MAX);
        match (names.is_empty(), more) {
            (true, _) => None,
            (false, 0) => Some(format!("passed over by their names: {}", names.join(", "))),
            (false, more) => Some(format!(
                "passed over by their names: {} and {} more",
                names.join(", "),
                output::thousands(more as u64)
            )),
        }
    }

    fn add(&mut self, path: PathBuf) -> Result<()> {
        if self.files.len() >= FILES_MAX {
            return Err(Error::exhausted(format!("more than {FILES_MAX} files: load them in parts")));
        }
        // One that is not there is told of when it is opened.
        let place = path.canonicalize().unwrap_or_else(|_| path.clone());
        if self.seen.insert(place) {
            self.files.push(path);
        }
        Ok(())
    }

    /// All files under `directory` whose names tell a format. Links to directories are not followed, for they may lead in a circle.
    fn walk(&mut self, directory: &Path) -> Result<()> {
        let failed = |error: std::io::Error| {
            let reason = output::reason(&error);
            Error::invalid(format!("cannot read {}: {reason}", directory.display())).with_source(error)
        };
        let entries = fs::read_dir(directory).map_err(failed)?;
        let mut entries = entries.collect::<std::io::Result<Vec<_>>>().map_err(failed)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            if is_hidden(&path) {
                continue;
            }
            if entry.file_type().map_err(failed)?.is_dir() {
                self.walk(&path)?;
            } else if path.is_file() {
                match endings::of(&path.to_string_lossy()).0 {
                    Some(_) => {
                        self.walked += 1;
                        self.add(path)?;
                    }
                    None => self.passed_over.push(path),
                }
            }
        }
        Ok(())
    }

    /// What matches a pattern: files, whatever they are called, and directories with all that is in them.
    fn matching(&mut self, pattern: &Path) -> Result<()> {
        let shown = pattern.display().to_string();
        let bad = |error: &dyn std::fmt::Display| Error::invalid(format!("{shown}: {error}"));
        let text = pattern.to_str().ok_or_else(|| bad(&"a pattern has to be UTF-8"))?;
        let fixed = pattern.components().take_while(|part| !is_pattern(Path::new(part.as_os_str()))).count();
        let has_hidden =
            |path: &Path| path.components().skip(fixed).any(|part| is_hidden_name(part.as_os_str().as_bytes()));
        let mut matched = false;
        for path in glob::glob(text).map_err(|error| bad(&error))? {
            let path = path.map_err(|error| bad(&error))?;
            if has_hidden(&path) && !has_hidden(pattern) {
                continue;
            }
            matched = true;
            if path.is_dir() {
                self.walk(&path)?;
            } else {
                self.add(path)?;
            }
        }
        if matched { Ok(()) } else { Err(Error::invalid(format!("{shown}: no file matches"))) }
    }
}

fn is_pattern(path: &Path) -> bool {
    path.as_os_str().as_bytes().iter().any(|byte| matches!(byte, b'*' | b'?' | b'['))
}

fn is_hidden(path: &Path) -> bool {
    matches!(path.components().next_back(), Some(Component::Normal(name)) if is_hidden_name(name.as_bytes()))
}

fn is_hidden_name(name: &[u8]) -> bool {
    name.starts_with(b".") && name != b"." && name != b".."
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new(files: &[&str]) -> Self {
            let tree = Self(tempfile::tempdir().unwrap());
            for file in files {
                let path = tree.0.path().join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, file).unwrap();
            }
            tree
        }

        /// The names of the files that the arguments mean, or what is wrong.
        fn find(&self, arguments: &[&str]) -> Result<Vec<String>, String> {
            let root = format!("{}/", self.0.path().display());
            let arguments: Vec<PathBuf> = arguments.iter().map(|argument| self.0.path().join(argument)).collect();
            match find(&arguments) {
                Ok(found) => Ok(found.files.iter().map(|path| path.display().to_string().replace(&root, "")).collect()),
                Err(error) => Err(error.message().replace(&root, "")),
            }
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "it is compared with what is found")]
    fn names(names: &[&str]) -> Result<Vec<String>, String> {
        Ok(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn directories_are_read_with_all_that_is_in_them() {
        let tree =
            Tree::new(&["d/b.csv", "d/a/2.csv.gz", "d/a/1.ndjson", "d/c.txt", "d/.x.csv", "d/.git/y.csv", "e/n.txt"]);
        assert_eq!(tree.find(&["d"]), names(&["d/a/1.ndjson", "d/a/2.csv.gz", "d/b.csv"]));
        assert_eq!(tree.find(&["d/b.csv", "d"]), names(&["d/b.csv", "d/a/1.ndjson", "d/a/2.csv.gz"]), "each once");
        let found = find(&[tree.0.path().join("d")]).unwrap();
        assert!(found.is_set);
        assert!(found.passed_over().unwrap().ends_with("/d/c.txt"));
        let error = tree.find(&["e"]).unwrap_err();
        assert!(error.starts_with("e: no file in it ends in .ndjson") && error.contains("e/n.txt"), "{error}");
        std::os::unix::fs::symlink(tree.0.path().join("d"), tree.0.path().join("d/circle")).unwrap();
        assert_eq!(tree.find(&["d"]).unwrap().len(), 3);
    }

    #[test]
    fn patterns_match_files_and_directories() {
        let tree = Tree::new(&["d/1.csv", "d/2.csv", "d/e/3.csv", "d/f/4.txt", "d/f/5.csv", "d/.6.csv", "x[1].csv"]);
        assert_eq!(tree.find(&["d/*.csv"]), names(&["d/1.csv", "d/2.csv"]));
        assert_eq!(tree.find(&["d/**/*.csv"]), names(&["d/1.csv", "d/2.csv", "d/e/3.csv", "d/f/5.csv"]));
        assert_eq!(tree.find(&["d/[ef]"]), names(&["d/e/3.csv", "d/f/5.csv"]));
        assert_eq!(tree.find(&["d/f/*"]), names(&["d/f/4.txt", "d/f/5.csv"]));
        assert_eq!(tree.find(&["d/.*.csv"]), names(&["d/.6.csv"]));
        assert_eq!(tree.find(&["d/?.csv", "d/*.csv"]), names(&["d/1.csv", "d/2.csv"]));
        assert_eq!(tree.find(&["d/*.parquet"]), Err("d/*.parquet: no file matches".to_owned()));
        assert_eq!(tree.find(&["x[1].csv"]), names(&["x[1].csv"]), "a name that is there is no pattern");
        assert!(tree.find(&["x[.csv"]).unwrap_err().starts_with("x[.csv: "), "a bad pattern is told");
    }

    #[test]
    fn a_name_alone_is_no_set() {
        let tree = Tree::new(&["1.csv"]);
        assert!(!find(&[tree.0.path().join("1.csv")]).unwrap().is_set);
        assert!(find(&[tree.0.path().join("*.csv")]).unwrap().is_set);
        assert_eq!(tree.find(&["1.csv", "no.csv"]), Err("cannot read no.csv: no such file or directory".to_owned()));
    }
}
