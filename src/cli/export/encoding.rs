//! What is written: the format of the rows, and how the text of them is compressed.

use std::path::Path;

use crate::cli::endings::{self, Compression, Container};
use crate::cli::output;
use crate::error::{Error, Result};

/// How rows are written to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::cli) enum Format {
    /// Parquet file, compressed with zstd
    Parquet,
    /// Comma-separated values with a header
    Csv,
    /// One JSON object a line
    Ndjson,
    /// Arrow IPC file
    Arrow,
    /// Arrow IPC stream
    ArrowStream,
}

impl Format {
    fn is_text(self) -> bool {
        matches!(self, Self::Csv | Self::Ndjson)
    }

    /// The format under which rows are written.
    pub(super) fn of_rows(self) -> output::Format {
        match self {
            Self::Parquet => output::Format::Parquet,
            Self::Csv => output::Format::Csv,
            Self::Ndjson => output::Format::Ndjson,
            Self::Arrow => output::Format::ArrowFile,
            Self::ArrowStream => output::Format::Arrow,
        }
    }
}

impl From<Container> for Format {
    fn from(container: Container) -> Self {
        match container {
            Container::JsonLines => Self::Ndjson,
            Container::Csv => Self::Csv,
            Container::Parquet => Self::Parquet,
            Container::ArrowFile => Self::Arrow,
            Container::ArrowStream => Self::ArrowStream,
        }
    }
}

/// What the bytes of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Encoding {
    pub(in crate::cli) format: Format,
    pub(in crate::cli) compression: Option<Compression>,
}

impl Encoding {
    /// What a file of this name holds, in `format` if it is given; `-` is stdout, whose name tells nothing.
    pub(in crate::cli) fn of(path: &Path, format: Option<Format>) -> Result<Self> {
        let name = path.display().to_string();
        let (container, compression) = endings::of(&name);
        let Some(format) = format.or(container.map(Format::from)) else {
            return Err(Error::invalid(format!(
                "cannot tell the format of {name}: end its name in .parquet, .csv, .ndjson, .arrow or .arrows, or say --format"
            )));
        };
        if compression.is_some() && !format.is_text() {
            return Err(Error::invalid(format!(
                "{name}: only CSV and NDJSON are compressed as a whole: leave the last ending out"
            )));
        }
        Ok(Self { format, compression })
    }

    /// Whether a terminal cannot show it.
    pub(in crate::cli) fn is_binary(self) -> bool {
        !self.format.is_text() || self.compression.is_some()
    }
}
