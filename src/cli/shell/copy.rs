//! `\copy`: files of this machine, written and read by what `merganser export` and `merganser ingest` do.

use std::path::Path;

use clap::{Parser, ValueEnum as _};

use super::Shell;
use crate::cli::export::{self, Encoding, Meter, Progress};
use crate::cli::ingest;
use crate::cli::output::{self, Existing, Target};
use crate::error::{Error, Result};

/// The arguments of `\copy … FROM`, which are those of `merganser ingest`.
#[derive(Debug, Parser)]
#[command(name = "\\copy", no_binary_name = true, disable_help_flag = true)]
struct Import {
    #[command(flatten)]
    args: ingest::Args,
}

impl Shell {
    /// Writes the rows of a query to a file, in the shell's session; the file is there when it is complete.
    pub(super) fn copy_to(&mut self, sql: String, path: &Path, format: Option<&str>) -> Result<()> {
        let encoding = encoding(path, format)?;
        let target = Target::open(path, Existing::Replace)?;
        let mut client = self.connection.client();
        let meter = Meter::default();
        let work = async {
            let rows = client.query(sql).await?;
            let progress = Progress::new(meter.clone(), None, !self.is_interactive);
            export::write(rows, encoding, target.writer()?, &progress).await
        };
        self.runner.run(work)?;
        target.keep()?;
        let (rows, bytes) = meter.read();
        let (count, bytes) = (output::thousands(rows), output::bytes(bytes));
        output::print(&format!("{}: {count} row{}, {bytes}", path.display(), if rows == 1 { "" } else { "s" }))
    }

    /// Imports files, on a connection of its own and outside of the session's transaction.
    pub(super) fn copy_from(&mut self, arguments: Vec<String>) -> Result<()> {
        let Import { args } = Import::try_parse_from(arguments).map_err(|error| {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            Error::invalid(format!("\\copy: {}", first.trim_start_matches("error: ")))
        })?;
        let args = args.at(self.connection.args().clone());
        let done = self.runner.run(Box::pin(ingest::run(args)));
        self.names.forget();
        done
    }
}

/// What is written: as the user says, else as the file's name says.
fn encoding(path: &Path, format: Option<&str>) -> Result<Encoding> {
    let format = format
        .map(|word| {
            export::Format::from_str(word, true).map_err(|_| {
                let known: Vec<String> = export::Format::value_variants()
                    .iter()
                    .filter_map(|format| Some(format.to_possible_value()?.get_name().to_owned()))
                    .collect();
                Error::invalid(format!("\\copy writes {}, not {word}", known.join(", ")))
            })
        })
        .transpose()?;
    Encoding::of(path, format).map_err(|error| error.replacing("say --format", "say the format behind it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_said_or_told_by_the_name() {
        let told = |path: &str, format| encoding(Path::new(path), format).map(|encoding| encoding.format);
        assert_eq!(told("a.csv", None).unwrap(), export::Format::Csv);
        assert_eq!(told("a.csv", Some("PARQUET")).unwrap(), export::Format::Parquet);
        assert!(told("a.txt", None).unwrap_err().message().ends_with("or say the format behind it"));
        let error = told("a.txt", Some("xml")).unwrap_err();
        assert_eq!(error.message(), "\\copy writes parquet, csv, ndjson, arrow, arrow-stream, not xml");
    }

    #[test]
    fn the_options_of_ingest_are_taken() {
        let parsed = Import::try_parse_from(["--table", "t", "a.csv", "b.csv", "--mode", "create"]);
        assert!(parsed.is_ok(), "{parsed:?}");
        let error = Import::try_parse_from(["--table", "t", "a.csv", "--nothing"]).unwrap_err().to_string();
        assert!(error.starts_with("error: unexpected argument '--nothing'"), "{error}");
    }
}
