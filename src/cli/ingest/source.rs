//! Opens what is imported: files and stdin, compressed or not, and tells their format.
//!
//! Compression is told by content alone (gzip, zstd), so a name may be wrong or missing. The format is told by content where it has
//! a mark of its own (Parquet, Arrow files and streams), then by the name, then by the first character of the text.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Seek};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::cli::endings::{self, Container};
use crate::cli::output;
use crate::error::{Error, Result};

/// How much of the content is looked at to tell columns and types.
const SAMPLE_BYTES: usize = 1 << 20;
/// A sample without one whole line grows up to this.
const SAMPLE_BYTES_MAX: usize = super::lines::LINE_BYTES_MAX;
const BLOCK_BYTES: usize = 256 << 10;
const STDIN: &str = "-";

/// What the user said about the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum FormatArg {
    /// Tell it by content and name
    Auto,
    /// Mixpanel export: events or profiles, one JSON object a line
    Mixpanel,
    /// One JSON object a line, whose members are columns
    Ndjson,
    /// Comma-separated values with a header
    Csv,
    /// Parquet file
    Parquet,
    /// Arrow IPC file or stream
    Arrow,
}

/// An open input.
pub(super) struct Source {
    /// What messages call it.
    pub(super) name: String,
    pub(super) container: Container,
    /// The beginning of the content.
    pub(super) sample: Vec<u8>,
    /// Whether the sample is all of it.
    pub(super) sample_is_all: bool,
    /// The content from its beginning, the sample included.
    content: Box<dyn Read + Send>,
    /// The file itself, if the content is a plain file.
    file: Option<File>,
}

impl Source {
    /// Opens `path`; `-` is stdin. Bytes that are read, compressed ones if they are, add up in `bytes_read`.
    pub(super) fn open(path: &Path, format: FormatArg, bytes_read: &Arc<AtomicU64>) -> Result<Self> {
        let name = name_of(path);
        let failed = |error| read_error(&name, error);
        let file = open_file(path).map_err(failed)?;
        let is_plain = file.metadata().map_err(failed)?.is_file();
        let counted = Counted { file: file.try_clone().map_err(failed)?, bytes_read: Arc::clone(bytes_read) };
        let (content, is_compressed) = decompress(Box::new(counted)).map_err(failed)?;
        let (sample, content) = peek(content, SAMPLE_BYTES).map_err(failed)?;
        let container = detect(format, &name, &sample)?;
        let mut source = Self {
            sample_is_all: sample.len() < SAMPLE_BYTES,
            file: (is_plain && !is_compressed).then_some(file),
            name,
            container,
            sample,
            content,
        };
        source.complete_line()?;
        Ok(source)
    }

    /// The content from its beginning.
    pub(super) fn into_stream(self) -> Box<dyn Read + Send> {
        self.content
    }

    /// The content as a file that one can seek in; a temporary one, if it is compressed or comes from a pipe.
    pub(super) fn into_file(self) -> Result<File> {
        let Self { name, mut content, file, .. } = self;
        let copy = move || {
            let mut file = file.map_or_else(|| spool(&mut content), Ok)?;
            file.rewind()?;
            Ok(file)
        };
        copy().map_err(|error| read_error(&name, error))
    }

    /// The whole lines of the sample; the last one counts when the sample is all of the content.
    pub(super) fn sample_lines(&self) -> &[u8] {
        if self.sample_is_all {
            return &self.sample;
        }
        let end = self.sample.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        &self.sample[..end]
    }

    /// Lets the sample of a text grow until it has a whole line.
    fn complete_line(&mut self) -> Result<()> {
        let is_text = matches!(self.container, Container::JsonLines | Container::Csv);
        while is_text && !self.sample_is_all && !self.sample.contains(&b'\n') && self.sample.len() < SAMPLE_BYTES_MAX {
            let content = std::mem::replace(&mut self.content, Box::new(io::empty()));
            let bytes = self.sample.len() * 2;
            let (sample, content) = peek(content, bytes).map_err(|error| read_error(&self.name, error))?;
            self.sample_is_all = sample.len() < bytes;
            (self.sample, self.content) = (sample, content);
        }
        Ok(())
    }
}

/// A temporary file with `content`.
fn spool(content: &mut impl Read) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    io::copy(content, &mut file)?;
    Ok(file)
}

/// What messages call the input at `path`.
pub(super) fn name_of(path: &Path) -> String {
    if is_stdin(path) { "stdin".to_owned() } else { path.display().to_string() }
}

/// Whether `path` means stdin.
pub(super) fn is_stdin(path: &Path) -> bool {
    path == Path::new(STDIN)
}

/// Finds a file that cannot be read before anything of the import is.
pub(super) fn check(path: &Path) -> Result<()> {
    if is_stdin(path) {
        return Ok(());
    }
    open_file(path).map(drop).map_err(|error| read_error(&name_of(path), error))
}

pub(super) fn read_error(name: &str, error: io::Error) -> Error {
    Error::invalid(format!("cannot read {name}: {}", output::reason(&error))).with_source(error)
}

fn open_file(path: &Path) -> io::Result<File> {
    let file = if is_stdin(path) { File::from(io::stdin().as_fd().try_clone_to_owned()?) } else { File::open(path)? };
    if file.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    Ok(file)
}

/// Counts what is read of a file.
struct Counted {
    file: File,
    bytes_read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.file.read(buffer)?;
        self.bytes_read.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(bytes)
    }
}

/// The first bytes of `content`, at most `count`, and the content from its beginning.
fn peek(mut content: Box<dyn Read + Send>, count: usize) -> io::Result<(Vec<u8>, Box<dyn Read + Send>)> {
    let mut head = Vec::new();
    content.by_ref().take(count as u64).read_to_end(&mut head)?;
    let content = Cursor::new(head.clone()).chain(content);
    Ok((head, Box::new(content)))
}

fn decompress(content: Box<dyn Read + Send>) -> io::Result<(Box<dyn Read + Send>, bool)> {
    let (magic, content) = peek(content, 4)?;
    Ok(match *magic {
        // Several members, one after the other, are one content, for both.
        [0x1f, 0x8b, ..] => {
            (Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(BLOCK_BYTES, content))), true)
        }
        [0x28, 0xb5, 0x2f, 0xfd] => (Box::new(zstd::stream::read::Decoder::new(content)?), true),
        _ => (content, false),
    })
}

fn detect(format: FormatArg, name: &str, sample: &[u8]) -> Result<Container> {
    let container = match format {
        FormatArg::Mixpanel | FormatArg::Ndjson => Some(Container::JsonLines),
        FormatArg::Csv => Some(Container::Csv),
        FormatArg::Parquet => Some(Container::Parquet),
        FormatArg::Arrow => of_mark(sample).or(Some(Container::ArrowStream)),
        FormatArg::Auto => of_mark(sample).or_else(|| of_name(name)).or_else(|| of_text(sample)),
    };
    let text = sample.strip_prefix(b"\xef\xbb\xbf").unwrap_or(sample).trim_ascii_start();
    if container.is_none_or(|container| container == Container::JsonLines) && text.starts_with(b"[") {
        return Err(Error::invalid(format!(
            "{name}: a JSON array: one object a line is wanted (jq -c '.[]' makes it)"
        )));
    }
    container.ok_or_else(|| Error::invalid(format!("cannot tell the format of {name}: say it with --format")))
}

fn of_mark(sample: &[u8]) -> Option<Container> {
    match sample {
        [b'P', b'A', b'R', b'1', ..] => Some(Container::Parquet),
        [b'A', b'R', b'R', b'O', b'W', b'1', ..] => Some(Container::ArrowFile),
        [0xff, 0xff, 0xff, 0xff, ..] => Some(Container::ArrowStream),
        _ => None,
    }
}

fn of_name(name: &str) -> Option<Container> {
    match endings::of(name).0? {
        // Files have a mark, so this is a stream, or else the reader says what is wrong.
        Container::ArrowFile => Some(Container::ArrowStream),
        container => Some(container),
    }
}

fn of_text(sample: &[u8]) -> Option<Container> {
    let text = sample.strip_prefix(b"\xef\xbb\xbf").unwrap_or(sample).trim_ascii_start();
    text.starts_with(b"{").then_some(Container::JsonLines)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn open(name: &str, bytes: &[u8], format: FormatArg) -> Result<Source> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        Source::open(&path, format, &Arc::default())
    }

    #[test]
    fn formats_are_told_by_content_and_name() {
        for (name, content, wanted) in [
            ("a.ndjson", &b""[..], Some(Container::JsonLines)),
            ("A.JSONL", b"", Some(Container::JsonLines)),
            ("a.csv.gz", b"a,b", Some(Container::Csv)),
            ("a.parquet.zst", b"", Some(Container::Parquet)),
            ("a.arrows", b"", Some(Container::ArrowStream)),
            ("a.csv", b"PAR1", Some(Container::Parquet)),
            ("a", b"ARROW1\0\0", Some(Container::ArrowFile)),
            ("a", b"\xff\xff\xff\xff", Some(Container::ArrowStream)),
            ("a.txt", b"\xef\xbb\xbf \n{", Some(Container::JsonLines)),
            ("a.txt", b"a,b", None),
            ("a", b"", None),
        ] {
            assert_eq!(detect(FormatArg::Auto, name, content).ok(), wanted, "{name} {content:?}");
        }
        assert_eq!(detect(FormatArg::Csv, "a.ndjson", b"{").unwrap(), Container::Csv);
        assert_eq!(detect(FormatArg::Arrow, "a", b"ARROW1").unwrap(), Container::ArrowFile);
        assert!(detect(FormatArg::Auto, "a.json", b" [1]").unwrap_err().message().contains("a JSON array"));
    }

    #[test]
    fn compression_is_told_by_content() {
        let text = b"{\"a\":1}\n".repeat(100);
        let zstd = zstd::encode_all(&text[..], 1).unwrap();
        let two_members = [gzip(&text[..400]), gzip(&text[400..])].concat();
        for bytes in [text.clone(), gzip(&text), zstd, two_members] {
            let source = open("a.ndjson.gz", &bytes, FormatArg::Auto).unwrap();
            assert_eq!(source.sample, text);
            let mut content = Vec::new();
            source.into_stream().read_to_end(&mut content).unwrap();
            assert_eq!(content, text);
        }
    }

    #[test]
    fn a_cut_file_is_an_error() {
        let bytes = gzip(&b"{\"a\":1}\n".repeat(1000));
        let Err(error) = open("a.ndjson.gz", &bytes[..bytes.len() - 9], FormatArg::Auto) else { panic!("opened") };
        assert!(error.message().contains("a.ndjson.gz"), "{error}");
        let Err(error) = Source::open(Path::new("/nowhere/a.csv"), FormatArg::Auto, &Arc::default()) else {
            panic!("opened")
        };
        assert_eq!(error.message(), "cannot read /nowhere/a.csv: no such file or directory");
        let Err(error) = Source::open(Path::new("/"), FormatArg::Auto, &Arc::default()) else { panic!("opened") };
        assert_eq!(error.message(), "cannot read /: it is a directory");
    }

    #[test]
    fn a_sample_has_a_whole_line() {
        let text = [b"{\"a\":\"".to_vec(), vec![b'x'; 3 << 20], b"\"}\n{}".to_vec()].concat();
        let source = open("a.ndjson", &text, FormatArg::Auto).unwrap();
        assert!(source.sample_lines().starts_with(b"{\"a\":\"xx"));
        let mut content = Vec::new();
        source.into_stream().read_to_end(&mut content).unwrap();
        assert_eq!(content, text);
    }

    #[test]
    fn a_compressed_file_can_be_sought_in() {
        for bytes in [b"PAR1 and more".to_vec(), gzip(b"PAR1 and more")] {
            let mut file = open("a", &bytes, FormatArg::Auto).unwrap().into_file().unwrap();
            let mut content = String::new();
            file.read_to_string(&mut content).unwrap();
            assert_eq!(content, "PAR1 and more");
        }
    }
}
