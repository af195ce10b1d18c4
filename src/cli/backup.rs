//! `merganser backup`: a copy of a running server's database, made by the server on its own machine.

use super::client::{Client, ServerArgs};
use super::output;
use crate::error::Result;
use crate::proto::v1::{BackupInfo, BackupRequest};

/// Back up the database of a running server
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Back up the database of a running server\n\n\
    The server copies it, as of one moment, into a directory in its backup.directory, and reads the copy back before it answers. \
    Ingests and queries go on meanwhile",
    after_long_help = "Examples:\n  \
    merganser backup nightly\n  \
    merganser backup --list"
)]
pub(super) struct Args {
    /// Name of the backup [default: the time in UTC]
    #[arg(conflicts_with = "list")]
    name: Option<String>,

    /// List the backups that there are
    #[arg(long)]
    list: bool,

    /// Print JSON: the backup, or an array of them
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    server: ServerArgs,
}

pub(super) async fn run(args: Args) -> Result<()> {
    let mut client = Client::connect(&args.server).await?;
    if args.list {
        let backups: Vec<BackupInfo> = client.action("list_backups", &()).await?;
        return if args.json { output::print_json(&backups) } else { output::print(&text(&backups)) };
    }
    let request = BackupRequest { name: args.name.unwrap_or_default() };
    let made: BackupInfo = client.action_once("backup", &request).await?;
    if args.json {
        return output::print_json(&made);
    }
    output::print(&format!("backup {}: {}\n{}", made.name, contents(made.tables, made.rows, made.bytes), made.path))
}

/// What is in a backup, for people.
pub(super) fn contents(tables: u64, rows: u64, bytes: u64) -> String {
    let number = |count: u64, one: &str, many: &str| {
        format!("{} {}", output::thousands(count), if count == 1 { one } else { many })
    };
    format!("{}, {}, {}", number(tables, "table", "tables"), number(rows, "row", "rows"), output::bytes(bytes))
}

fn text(backups: &[BackupInfo]) -> String {
    if backups.is_empty() {
        return "no backups".to_owned();
    }
    let mut lines = vec![["name", "made at (UTC)", "tables", "rows", "size"].map(str::to_owned).to_vec()];
    lines.extend(backups.iter().map(|backup| {
        vec![
            backup.name.clone(),
            output::time(backup.created_at.as_ref()),
            output::thousands(backup.tables),
            output::thousands(backup.rows),
            output::bytes(backup.bytes),
        ]
    }));
    output::columns(&lines, &[2, 3, 4])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backups_are_aligned() {
        let backup = BackupInfo {
            name: "nightly".to_owned(),
            created_at: Some("2024-01-31T12:00:00Z".parse().unwrap()),
            bytes: 12 << 20,
            tables: 3,
            rows: 62_189,
            ..BackupInfo::default()
        };
        let wanted = "\
name     made at (UTC)        tables    rows      size\n\
nightly  2024-01-31 12:00:00       3  62,189  12.0 MiB";
        assert_eq!(text(&[backup]), wanted);
        assert_eq!(text(&[]), "no backups");
        assert_eq!(contents(1, 2, 1024), "1 table, 2 rows, 1.0 KiB");
    }
}
