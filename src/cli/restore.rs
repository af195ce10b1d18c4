//! `merganser restore`: a backup becomes the database file again, on the machine that has it. No server is asked.

use std::path::{self, PathBuf};

use super::backup::contents;
use super::output;
use crate::backup::{Manifest, restore, verify};
use crate::config::{Config, ConfigFlags, Environment};
use crate::error::{Error, Result};
use crate::server::Location;

/// Put a backup in the place of a database file
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Put a backup in the place of a database file\n\n\
    Works on the files of this machine, while no server has the database open. The backup is checked first: its checksums, and the \
    rows of every table",
    after_long_help = "Examples:\n  \
    merganser restore /var/backups/merganser/nightly --verify-only\n  \
    merganser restore /var/backups/merganser/nightly events.duckdb\n  \
    merganser restore /var/backups/merganser/nightly events.duckdb --replace"
)]
pub(super) struct Args {
    /// Directory of the backup
    #[arg(value_name = "BACKUP")]
    backup: PathBuf,

    /// Database file [default: the one that `merganser serve` uses]
    #[arg(value_name = "PATH", conflicts_with = "verify_only")]
    path: Option<PathBuf>,

    /// Replace the file that is there; it stays beside, as PATH.before-restore
    #[arg(long, conflicts_with = "verify_only")]
    replace: bool,

    /// Only check the backup
    #[arg(long)]
    verify_only: bool,

    /// Read settings from this file, as `serve` does
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(super) fn run(args: Args) -> Result<()> {
    let environment = Environment::of_process();
    let flags = ConfigFlags { path: args.path, config: args.config, ..ConfigFlags::default() };
    let config = Config::load(&flags, &environment)?.config;
    if args.verify_only {
        let manifest = verify(&args.backup, &config.engine)?;
        return output::print(&format!("{} is whole: {}", args.backup.display(), about(&manifest)));
    }
    let target = path::absolute(Location::named_file(&config, &environment)?);
    let target = target.map_err(|error| Error::invalid("the path cannot be used").with_source(error))?;
    let (manifest, kept) = restore(&args.backup, &target, args.replace, &config.engine)?;
    let kept = kept.map(|kept| format!("\nwhat was there is now {}", kept.display())).unwrap_or_default();
    output::print(&format!("restored {}: {}{kept}", target.display(), about(&manifest)))
}

fn about(manifest: &Manifest) -> String {
    let Manifest { created_at, merganser, .. } = manifest;
    let held = contents(manifest.tables.len() as u64, manifest.rows(), manifest.bytes);
    format!("{held}, of {created_at}, made by Merganser {merganser}")
}
