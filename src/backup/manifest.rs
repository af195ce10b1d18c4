//! What a backup says about itself, and whether it is true.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::directory::{failed, sync};
use crate::config::Engine as EngineConfig;
use crate::engine::{Contents, Engine, TableContents, difference_of_tables};
use crate::error::{Error, Result};

/// The copy of the database.
pub(super) const DATA_FILE: &str = "data.duckdb";
const MANIFEST_FILE: &str = "manifest.json";
const SUMS_FILE: &str = "SHA256SUMS";

/// The version of the layout of backups.
const FORMAT: u32 = 1;
/// Bytes of a manifest, or of sums, that are read; a table takes about a hundred.
const TEXT_BYTES_MAX: u64 = 256 << 20;
/// Bytes that are read at once.
const BLOCK: usize = 1 << 20;

/// What a backup says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of the backup's layout.
    pub format: u32,
    /// The version of Merganser that made it.
    pub merganser: String,
    /// The version of DuckDB that wrote the file.
    pub duckdb: String,
    /// When it was begun, in RFC 3339.
    pub created_at: String,
    /// Bytes of the file.
    pub bytes: u64,
    /// The file's SHA-256, in hexadecimal.
    pub sha256: String,
    /// The tables in it.
    pub tables: Vec<TableContents>,
}

impl Manifest {
    /// Of a copy that was just made.
    pub(super) fn new(created_at: jiff::Timestamp, digest: FileDigest, tables: Vec<TableContents>) -> Self {
        Self {
            format: FORMAT,
            merganser: env!("CARGO_PKG_VERSION").to_owned(),
            duckdb: Engine::duckdb_version().to_owned(),
            created_at: created_at.to_string(),
            bytes: digest.bytes,
            sha256: digest.sha256,
            tables,
        }
    }

    /// Rows of all tables.
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.rows).sum()
    }

    /// Writes it, and the sums, into a backup's directory.
    pub(super) fn write(&self, directory: &Path) -> Result<()> {
        let cannot = |error| Error::internal("cannot write the manifest").with_source(error);
        let text = serde_json::to_string_pretty(self).map_err(cannot)? + "\n";
        let sums = format!("{}  {DATA_FILE}\n{}  {MANIFEST_FILE}\n", self.sha256, hex::encode(Sha256::digest(&text)));
        for (name, text) in [(MANIFEST_FILE, text), (SUMS_FILE, sums)] {
            let path = directory.join(name);
            fs::write(&path, text).map_err(|error| failed("cannot write", &path, error))?;
            sync(&path)?;
        }
        Ok(())
    }

    /// Reads that of a backup, if it is whole.
    pub(super) fn read(directory: &Path) -> Result<Self> {
        let damaged = |why: String| damaged(directory, &why);
        let sums = read_text(directory, SUMS_FILE)?;
        let text = read_text(directory, MANIFEST_FILE)?;
        // Looked at first: a later layout may have other sums.
        if let Some(format) = format_of(&text).filter(|format| *format > FORMAT) {
            return Err(Error::precondition(format!(
                "backup {} has format {format}, and this version of Merganser knows formats up to {FORMAT}: use the version that made it, \
                 or a later one",
                directory.display()
            )));
        }
        let sum = sum_of(&sums, MANIFEST_FILE).ok_or_else(|| damaged(format!("{SUMS_FILE} lacks {MANIFEST_FILE}")))?;
        if sum != hex::encode(Sha256::digest(&text)) {
            return Err(damaged(format!("{MANIFEST_FILE} is not what it was when the backup was made")));
        }
        let manifest: Self =
            serde_json::from_str(&text).map_err(|error| damaged(format!("{MANIFEST_FILE} cannot be read: {error}")))?;
        if sum_of(&sums, DATA_FILE) != Some(&manifest.sha256) {
            return Err(damaged(format!("{SUMS_FILE} and {MANIFEST_FILE} differ")));
        }
        Ok(manifest)
    }

    /// The first difference between a file's tables and what it says of them, in words.
    fn difference(&self, found: &Contents) -> Option<String> {
        if self.duckdb == Engine::duckdb_version() {
            return difference_of_tables(&self.tables, &found.tables);
        }
        // Another version of DuckDB may compute another hash: then the file's own sum is what tells.
        let without = |tables: &[TableContents]| -> Vec<TableContents> {
            tables.iter().map(|table| TableContents { checksum: String::new(), ..table.clone() }).collect()
        };
        difference_of_tables(&without(&self.tables), &without(&found.tables))
    }
}

/// Checks a backup: its sums, that its file opens, and the rows of every table.
///
/// # Errors
/// `FailedPrecondition` when it is not whole; the message says what is wrong.
pub fn verify(directory: &Path, config: &EngineConfig) -> Result<Manifest> {
    if !directory.is_dir() {
        return Err(Error::not_found(format!("there is no backup {}", directory.display())));
    }
    let manifest = Manifest::read(directory)?;
    let file = directory.join(DATA_FILE);
    let digest = FileDigest::of(&file, &mut io::sink(), &|| Ok(()))?;
    manifest.check_digest(directory, &digest)?;
    let found = Contents::of_file(&file, config, &|| Ok(()))?;
    match manifest.difference(&found) {
        Some(difference) => Err(damaged(directory, &difference)),
        None => Ok(manifest),
    }
}

impl Manifest {
    /// Whether a file is the one that the backup has had.
    pub(super) fn check_digest(&self, directory: &Path, digest: &FileDigest) -> Result<()> {
        if digest.bytes != self.bytes {
            let why = format!("{DATA_FILE} has {} bytes and should have {}", digest.bytes, self.bytes);
            return Err(damaged(directory, &why));
        }
        if digest.sha256 != self.sha256 {
            return Err(damaged(directory, &format!("{DATA_FILE} is not what it was when the backup was made")));
        }
        Ok(())
    }
}

/// What tells a file from others.
#[derive(Debug)]
pub(super) struct FileDigest {
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

impl FileDigest {
    /// Reads `file`, and copies it to `copy` while it does; `check` ends it early.
    pub(super) fn of(file: &Path, copy: &mut impl Write, check: &dyn Fn() -> Result<()>) -> Result<Self> {
        let mut source = File::open(file).map_err(|error| failed("cannot open", file, error))?;
        let (mut hasher, mut bytes, mut block) = (Sha256::new(), 0, vec![0; BLOCK]);
        loop {
            check()?;
            let read = source.read(&mut block).map_err(|error| failed("cannot read", file, error))?;
            if read == 0 {
                return Ok(Self { bytes, sha256: hex::encode(hasher.finalize()) });
            }
            hasher.update(&block[..read]);
            copy.write_all(&block[..read]).map_err(|error| failed("cannot write the copy of", file, error))?;
            bytes += read as u64;
        }
    }
}

fn damaged(directory: &Path, why: &str) -> Error {
    Error::precondition(format!("backup {} is damaged: {why}", directory.display()))
}

fn read_text(directory: &Path, name: &str) -> Result<String> {
    let path = directory.join(name);
    let file = File::open(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => damaged(directory, &format!("it has no {name}")),
        _ => failed("cannot open", &path, error),
    })?;
    let mut text = String::new();
    let read = file.take(TEXT_BYTES_MAX).read_to_string(&mut text);
    read.map_err(|error| damaged(directory, &format!("{name} cannot be read: {error}")))?;
    Ok(text)
}

/// The version of the layout that a manifest names, if it can be told.
fn format_of(text: &str) -> Option<u32> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    value.get("format")?.as_u64()?.try_into().ok()
}

/// The sum of a file, from lines like `<sum>  <file>`.
fn sum_of<'a>(sums: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = sums.lines().filter_map(|line| line.split_once("  "));
    lines.find(|(_, file)| *file == name).map(|(sum, _)| sum)
}
