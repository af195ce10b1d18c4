//! What the ending of a file's name says of its content.

use std::path::Path;

/// How rows are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Container {
    JsonLines,
    Csv,
    Parquet,
    ArrowFile,
    ArrowStream,
}

/// How a file's bytes are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    Gzip,
    Zstd,
}

/// What the name of a file says: `events.csv.gz` is CSV that is compressed with gzip.
pub(super) fn of(name: &str) -> (Option<Container>, Option<Compression>) {
    let name = name.to_ascii_lowercase();
    let compressions = [
        (".gz", Compression::Gzip),
        (".gzip", Compression::Gzip),
        (".zst", Compression::Zstd),
        (".zstd", Compression::Zstd),
    ];
    let found =
        compressions.iter().find_map(|(ending, compression)| Some((name.strip_suffix(ending)?, Some(*compression))));
    let (name, compression) = found.unwrap_or((name.as_str(), None));
    let container = match Path::new(name).extension().and_then(|ending| ending.to_str()) {
        Some("ndjson" | "jsonl" | "json") => Some(Container::JsonLines),
        Some("csv") => Some(Container::Csv),
        Some("parquet") => Some(Container::Parquet),
        Some("arrow" | "feather" | "ipc") => Some(Container::ArrowFile),
        Some("arrows") => Some(Container::ArrowStream),
        _ => None,
    };
    (container, compression)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_what_is_in_files() {
        for (name, wanted) in [
            ("a.ndjson", (Some(Container::JsonLines), None)),
            ("A.JSONL.GZ", (Some(Container::JsonLines), Some(Compression::Gzip))),
            ("dir.csv/a.csv.zst", (Some(Container::Csv), Some(Compression::Zstd))),
            ("a.parquet", (Some(Container::Parquet), None)),
            ("a.arrow", (Some(Container::ArrowFile), None)),
            ("a.arrows.gzip", (Some(Container::ArrowStream), Some(Compression::Gzip))),
            ("a.gz", (None, Some(Compression::Gzip))),
            ("a.txt", (None, None)),
            ("csv", (None, None)),
            ("-", (None, None)),
        ] {
            assert_eq!(of(name), wanted, "{name}");
        }
    }
}
