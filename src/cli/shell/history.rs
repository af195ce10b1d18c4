//! What was typed before: in a file that nobody else may read, and of a bounded length.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use directories::BaseDirs;

/// Entries that are kept.
pub(super) const ENTRIES_MAX: usize = 10_000;
/// Bytes of one that is kept.
const ENTRY_BYTES_MAX: usize = 64 << 10;

/// `merganser/shell_history` in the directory of the user's state, else of its data; none: there is no user.
pub(super) fn path() -> Option<PathBuf> {
    let base = BaseDirs::new()?;
    let directory = base.state_dir().unwrap_or_else(|| base.data_dir());
    Some(directory.join("merganser").join("shell_history"))
}

/// Makes the file's directory, for the user alone.
pub(super) fn prepare(path: &Path) {
    if let Some(directory) = path.parent() {
        // Where it cannot be made, there is no history, and the shell works all the same.
        drop(DirBuilder::new().recursive(true).mode(0o700).create(directory));
    }
}

/// What is remembered of a text; none: it is too long.
pub(super) fn entry(text: &str) -> Option<&str> {
    let text = text.trim_end();
    (!text.is_empty() && text.len() <= ENTRY_BYTES_MAX).then_some(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use rustyline::history::{FileHistory, History};

    use super::*;

    #[test]
    fn the_file_is_for_its_user_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/shell_history");
        prepare(&path);
        let mut history = FileHistory::new();
        history.add("SELECT\n1;").unwrap();
        history.append(&path).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        let mut again = FileHistory::new();
        again.load(&path).unwrap();
        assert_eq!(again.iter().collect::<Vec<_>>(), ["SELECT\n1;"]);
    }

    #[test]
    fn long_texts_are_not_remembered() {
        assert_eq!(entry("SELECT 1;\n"), Some("SELECT 1;"));
        assert_eq!(entry(" \n"), None);
        assert_eq!(entry(&"x".repeat(ENTRY_BYTES_MAX + 1)), None);
    }
}
