//! Making a backup of a running server's database, and telling which there are.

use std::fs;
use std::path::{Path, PathBuf};

use super::directory::{Directory, Partial, check_name, failed, sync};
use super::manifest::{DATA_FILE, FileDigest, Manifest};
use crate::access::Operation;
use crate::config::{Config, Engine as EngineConfig};
use crate::engine::{Call, Contents, Copier, Engine};
use crate::error::{Error, Result};

/// What its caller asks for.
const ASKED: Operation<'_> = Operation::Administer("back up the database");

/// A complete backup.
#[derive(Clone, Debug)]
pub struct Backup {
    /// Its name.
    pub name: String,
    /// Its directory.
    pub path: PathBuf,
    /// What is in it.
    pub manifest: Manifest,
}

/// Makes a backup of the database while it is in use; without a name, it is the time in UTC.
///
/// # Errors
/// `FailedPrecondition` where none is offered, or one is being made; `AlreadyExists`; `ResourceExhausted` when the disk is too small;
/// `PermissionDenied` for all but admins.
pub async fn create(engine: &Engine, config: &Config, name: String, call: &Call) -> Result<Backup> {
    call.may(ASKED)?;
    let directory = directory(config)?.to_owned();
    let created_at = jiff::Timestamp::now();
    let name = if name.is_empty() { name_of(created_at) } else { name };
    check_name(&name)?;
    let config = config.engine.clone();
    engine
        .back_up(call, move |copier| {
            let partial = Directory::lock(&directory)?.begin(&name, copier.bytes()?, config.disk_free_min)?;
            let manifest = fill(copier, &partial, created_at, &config)?;
            let path = partial.finish()?;
            tracing::info!(name, rows = manifest.rows(), bytes = manifest.bytes, "backup made");
            Ok(Backup { name, path, manifest })
        })
        .await
}

/// The complete backups, the oldest first.
///
/// # Errors
/// `FailedPrecondition` where none is offered; `PermissionDenied` for all but admins.
pub async fn list(config: &Config, call: &Call) -> Result<Vec<Backup>> {
    call.may(ASKED)?;
    let directory = directory(config)?.to_owned();
    let listed = tokio::task::spawn_blocking(move || read_all(&directory)).await;
    listed.map_err(|error| Error::internal("listing backups failed").with_source(error))?
}

fn directory(config: &Config) -> Result<&Path> {
    let directory = &config.backup.directory;
    if directory.as_os_str().is_empty() {
        return Err(Error::precondition("backups are not offered: the server has no backup.directory"));
    }
    Ok(directory)
}

/// `2026-11-25T22-14-16.123Z`: a time that is a file name everywhere.
fn name_of(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H-%M-%S%.3fZ").to_string()
}

/// Copies the database into a backup that was begun, and reads back what it has written.
fn fill(copier: &Copier, partial: &Partial, created_at: jiff::Timestamp, config: &EngineConfig) -> Result<Manifest> {
    let file = partial.path().join(DATA_FILE);
    let check = copier.checker();
    let snapshot = copier.copy_to(&file)?;
    sync(&file)?;
    let files = fs::read_dir(partial.path()).map_err(|error| failed("cannot list", partial.path(), error))?;
    if files.count() != 1 {
        return Err(Error::internal("the copy is not one file"));
    }
    let found = Contents::of_file(&file, config, &check)?;
    if let Some(difference) = snapshot.difference(&found) {
        return Err(Error::internal(format!("the copy is not what the database has: {difference}")));
    }
    let digest = FileDigest::of(&file, &mut std::io::sink(), &check)?;
    let manifest = Manifest::new(created_at, digest, snapshot.tables);
    manifest.write(partial.path())?;
    Ok(manifest)
}

fn read_all(directory: &Path) -> Result<Vec<Backup>> {
    if !directory.is_dir() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(directory).map_err(|error| failed("cannot list", directory, error))?;
    let mut backups = Vec::new();
    for entry in entries.flatten() {
        let (Ok(name), path) = (entry.file_name().into_string(), entry.path()) else { continue };
        if check_name(&name).is_err() || !path.is_dir() {
            continue;
        }
        match Manifest::read(&path) {
            Ok(manifest) => backups.push(Backup { name, path, manifest }),
            Err(error) => tracing::warn!(%error, "a directory among the backups is none"),
        }
    }
    backups.sort_by(|a, b| (&a.manifest.created_at, &a.name).cmp(&(&b.manifest.created_at, &b.name)));
    Ok(backups)
}
