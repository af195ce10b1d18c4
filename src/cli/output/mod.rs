//! What the commands print: the only place that writes to stdout and stderr, apart from the progress bar.

mod json;
mod parquet;
mod rows;
mod table;
mod target;

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use crate::error::{Error, Result};

pub(super) use rows::{Format, RowWriter, RowWriterOptions, stdout};
pub(super) use target::{Existing, Target};

/// Set when whoever read our stdout went away. Stdout belongs to the process, and so does this.
static STDOUT_CLOSED: AtomicBool = AtomicBool::new(false);

/// Stdout for whole results: buffered by its user, and it remembers a reader that went away.
#[derive(Debug)]
pub(super) struct Stdout;

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stdout().lock().write(bytes).inspect_err(note_closed)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().lock().flush().inspect_err(note_closed)
    }
}

fn note_closed(error: &io::Error) {
    if error.kind() == io::ErrorKind::BrokenPipe {
        STDOUT_CLOSED.store(true, Ordering::Relaxed);
    }
}

/// Whether the reader of stdout went away.
pub(super) fn stdout_is_closed() -> bool {
    STDOUT_CLOSED.load(Ordering::Relaxed)
}

/// Whether a person reads stdout.
pub(super) fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Prints `text` and a line end on stdout.
pub(super) fn print(text: &str) -> Result<()> {
    let mut stdout = Stdout;
    writeln!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(|error| write_error("stdout", error))
}

/// Prints `value` as indented JSON on stdout.
pub(super) fn print_json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Error::internal("cannot write the answer as JSON").with_source(error))?;
    print(&text)
}

/// Prints `message` on stderr, as one line of this program. A stderr that is gone is nobody's failure.
pub(super) fn warn(message: &str) {
    let line: String = message.split(['\n', '\r']).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
    let mut stderr = io::stderr().lock();
    if writeln!(stderr, "merganser: {line}").is_err() {
        // Nobody reads it.
    }
}

/// Prints `text` on stderr as it is, and a line end.
pub(super) fn tell(text: &str) {
    if writeln!(io::stderr().lock(), "{text}").is_err() {
        // Nobody reads it.
    }
}

/// Asks on stderr and reads the answer from stdin; only `y` or `yes` is yes.
pub(super) fn confirm(question: &str) -> Result<bool> {
    let mut stderr = io::stderr().lock();
    write!(stderr, "{question} [y/N] ").and_then(|()| stderr.flush()).map_err(|error| write_error("stderr", error))?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(|error| Error::invalid(format!("cannot read the answer: {error}")))?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// An error of writing to `name`.
pub(super) fn write_error(name: &str, error: io::Error) -> Error {
    Error::exhausted(format!("cannot write to {name}: {}", reason(&error))).with_source(error)
}

/// Why reading or writing failed, without the number of the system's error.
pub(super) fn reason(error: &io::Error) -> String {
    let known = [
        (io::ErrorKind::NotFound, "no such file or directory"),
        (io::ErrorKind::IsADirectory, "it is a directory"),
        (io::ErrorKind::BrokenPipe, "its reader went away"),
    ];
    match known.iter().find(|(kind, _)| *kind == error.kind()) {
        Some((_, reason)) => (*reason).to_owned(),
        None => error.to_string().split(" (os error").next().unwrap_or_default().to_lowercase(),
    }
}

/// `1234567` as `1,234,567`.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes for people: `1.4 MiB`.
pub(super) fn bytes(number: u64) -> String {
    bytesize::ByteSize::b(number).display().iec().to_string()
}

/// A point in time as `2024-01-31 12:00:00`, in UTC; nothing if there is none.
pub(super) fn time(time: Option<&prost_types::Timestamp>) -> String {
    let Some(time) = time else { return String::new() };
    time.to_string().replace('T', " ").trim_end_matches('Z').to_owned()
}

/// Lines of cells in aligned columns, the first line being the header. Columns listed in `numbers` align to the right.
pub(super) fn columns(lines: &[Vec<String>], numbers: &[usize]) -> String {
    let count = lines.first().map_or(0, Vec::len);
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let start = text.len();
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let gap = if column == 0 { "" } else { "  " };
            // Writing to a String cannot fail.
            let _ = if numbers.contains(&column) {
                write!(text, "{gap}{cell:>width$}")
            } else {
                write!(text, "{gap}{cell:<width$}")
            };
        }
        text.truncate(start + text[start..].trim_end().len());
        text.push('\n');
    }
    text.pop();
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (62_189, "62,189"), (1_234_567, "1,234,567")] {
            assert_eq!(thousands(number), text);
        }
    }

    #[test]
    fn columns_are_aligned() {
        let line = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let text =
            columns(&[line(["name", "rows", "kind"]), line(["é", "12,345", ""]), line(["purchases", "1", "x"])], &[1]);
        assert_eq!(text, "name         rows  kind\né          12,345\npurchases       1  x");
    }

    #[test]
    fn times_are_plain() {
        let at = |text: &str| text.parse::<prost_types::Timestamp>().unwrap();
        assert_eq!(time(Some(&at("2024-01-31T12:00:00Z"))), "2024-01-31 12:00:00");
        assert_eq!(time(None), "");
    }
}
