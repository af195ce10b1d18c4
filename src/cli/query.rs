//! `merganser query`: runs SQL on the server and writes its rows in the format that was asked for, as they arrive.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::client::{Client, Rows, ServerArgs};
use super::output::{self, Format, RowWriter, RowWriterOptions};
use crate::error::{Error, Result};

/// Run SQL and print its rows
#[derive(Debug, clap::Args)]
#[command(long_about = "Run one SQL statement on the server and print its rows as they arrive\n\n\
    Every format but `table` streams: memory does not grow with the result. JSON columns are embedded as JSON in `json` and \
    `ndjson`. A file given by --output appears when the result is complete, and not before")]
pub(super) struct Args {
    /// SQL to run; `-`, or none with stdin piped, reads it from stdin
    sql: Option<String>,

    /// Write the rows in this format
    #[arg(long, short, value_enum, default_value_t = Format::Table)]
    format: Format,

    /// Write to this file instead of stdout
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Show at most this many rows in a table
    #[arg(long, value_name = "N", default_value_t = 100)]
    max_rows: usize,

    /// Cut a table's cells to this many characters, 0 for none
    #[arg(long, value_name = "N", default_value_t = 60)]
    max_width: usize,

    #[command(flatten)]
    server: ServerArgs,
}

pub(super) async fn run(args: Args) -> Result<()> {
    if args.format.is_binary() && args.output.is_none() && output::stdout_is_terminal() {
        return Err(Error::invalid("a terminal cannot show this format: give --output FILE, or redirect stdout"));
    }
    let sql = read_sql(args.sql)?;
    let options = RowWriterOptions { format: args.format, rows_max: args.max_rows, width_max: args.max_width };
    let rows = Client::connect(&args.server).await?.query(sql).await?;
    let Some(path) = args.output else {
        return write_rows(rows, options, output::stdout()).await;
    };
    let target = Target::open(&path)?;
    write_rows(rows, options, target.writer()?).await?;
    target.keep()
}

fn read_sql(sql: Option<String>) -> Result<String> {
    let sql = match sql {
        Some(sql) if sql != "-" => sql,
        None if io::stdin().is_terminal() => {
            return Err(Error::invalid("no SQL: give it as an argument, or pipe it in"));
        }
        _ => io::read_to_string(io::stdin().lock())
            .map_err(|error| Error::invalid(format!("cannot read the SQL from stdin: {}", output::reason(&error))))?,
    };
    if sql.trim().is_empty() { Err(Error::invalid("no SQL: the text is empty")) } else { Ok(sql) }
}

/// Writes the rows as they arrive.
pub(super) async fn write_rows(mut rows: Rows, options: RowWriterOptions, out: Box<dyn Write + Send>) -> Result<()> {
    let mut writer = RowWriter::new(rows.schema(), options, out)?;
    while let Some(batch) = rows.next().await? {
        writer.write(&batch)?;
    }
    writer.finish()
}

/// Where `--output` goes. A regular file is written beside its place and moved there when it is complete, so that a query
/// that fails half-way neither leaves half a result nor takes an earlier one away.
enum Target {
    Beside {
        file: NamedTempFile,
        path: PathBuf,
    },
    /// A pipe or a device: there is no beside.
    Direct {
        file: File,
        path: PathBuf,
    },
}

impl Target {
    fn open(path: &Path) -> Result<Self> {
        let failed = |error: io::Error| {
            Error::invalid(format!("cannot write to {}: {}", path.display(), output::reason(&error))).with_source(error)
        };
        // The file that a link leads to is replaced, not the link.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if path.exists() && !path.is_file() {
            let file = File::options().write(true).open(&path).map_err(failed)?;
            return Ok(Self::Direct { file, path });
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let permissions = match fs::metadata(&path) {
            Ok(metadata) => metadata.permissions(),
            // What File::create would give it: the process's umask applies.
            Err(_) => fs::Permissions::from_mode(0o666),
        };
        let file = tempfile::Builder::new()
            .prefix(".merganser-")
            .permissions(permissions)
            .tempfile_in(folder)
            .map_err(failed)?;
        Ok(Self::Beside { file, path })
    }

    fn writer(&self) -> Result<Box<dyn Write + Send>> {
        let (file, path) = match self {
            Self::Beside { file, path } => (file.as_file(), path),
            Self::Direct { file, path } => (file, path),
        };
        let file = file.try_clone().map_err(|error| output::write_error(&path.display().to_string(), error))?;
        Ok(Box::new(file))
    }

    fn keep(self) -> Result<()> {
        match self {
            Self::Beside { file, path } => match file.persist(&path) {
                Ok(_) => Ok(()),
                Err(error) => Err(output::write_error(&path.display().to_string(), error.error)),
            },
            Self::Direct { .. } => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_when_it_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.csv");
        fs::write(&path, "old").unwrap();

        let target = Target::open(&path).unwrap();
        target.writer().unwrap().write_all(b"half").unwrap();
        drop(target);
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");

        let target = Target::open(&path).unwrap();
        target.writer().unwrap().write_all(b"new").unwrap();
        target.keep().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_folder_is_named() {
        let Err(error) = Target::open(Path::new("/nowhere/rows.csv")) else { panic!("opened") };
        assert_eq!(error.message(), "cannot write to /nowhere/rows.csv: no such file or directory");
    }

    #[test]
    fn sql_must_be_there() {
        assert_eq!(read_sql(Some(" \n".to_owned())).unwrap_err().message(), "no SQL: the text is empty");
        assert_eq!(read_sql(Some("SELECT 1".to_owned())).unwrap(), "SELECT 1");
    }
}
