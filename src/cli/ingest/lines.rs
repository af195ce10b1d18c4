//! Lines of a text, read in big blocks, with their numbers. A line has a bound: a binary file is not one line of gigabytes.

use std::io::{BufRead, BufReader, Read};

use crate::cli::output;
use crate::error::{Error, Result};

/// The longest line or record that is read.
pub(super) const LINE_BYTES_MAX: usize = 64 << 20;
const BLOCK_BYTES: usize = 1 << 20;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The lines of one input.
pub(super) struct Lines {
    name: String,
    reader: BufReader<Box<dyn Read + Send>>,
    /// The number of the line that was read last; the first line is 1.
    number: u64,
}

impl Lines {
    pub(super) fn new(name: &str, reader: Box<dyn Read + Send>) -> Self {
        Self { name: name.to_owned(), reader: BufReader::with_capacity(BLOCK_BYTES, reader), number: 0 }
    }

    /// What messages call the input.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Appends the next line, its end included, to `text`, and returns its number; `None` at the end of the input.
    pub(super) fn next(&mut self, text: &mut Vec<u8>) -> Result<Option<u64>> {
        let before = text.len();
        let bytes_max = (LINE_BYTES_MAX + 1).saturating_sub(before);
        let read = self.reader.by_ref().take(bytes_max as u64).read_until(b'\n', text);
        let bytes = read.map_err(|error| self.read_error(error))?;
        if bytes == 0 {
            return Ok(None);
        }
        self.number += 1;
        if text.len() > LINE_BYTES_MAX {
            return Err(Error::invalid(format!("{}:{}: the line is longer than 64 MiB", self.name, self.number)));
        }
        if self.number == 1 && text[before..].starts_with(BYTE_ORDER_MARK) {
            text.drain(before..before + BYTE_ORDER_MARK.len());
        }
        Ok(Some(self.number))
    }

    fn read_error(&self, error: std::io::Error) -> Error {
        let place = match self.number {
            0 => String::new(),
            number => format!(" after line {number}"),
        };
        Error::invalid(format!("cannot read {}{place}: {}", self.name, output::reason(&error))).with_source(error)
    }
}

/// `line` without its end.
pub(super) fn trim_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(text: &'static [u8]) -> Vec<(u64, String)> {
        let mut lines = Lines::new("a", Box::new(text));
        let mut found = Vec::new();
        let mut line = Vec::new();
        while let Some(number) = lines.next(&mut line).unwrap() {
            found.push((number, String::from_utf8(trim_end(&line).to_vec()).unwrap()));
            line.clear();
        }
        found
    }

    #[test]
    fn lines_have_numbers() {
        let line = |number, text: &str| (number, text.to_owned());
        assert_eq!(lines_of(b""), []);
        assert_eq!(lines_of(b"a\r\n\nb"), [line(1, "a"), line(2, ""), line(3, "b")]);
        assert_eq!(lines_of(b"\xef\xbb\xbfa\n"), [line(1, "a")]);
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut lines = Lines::new("zero", Box::new(std::io::repeat(0)));
        let error = lines.next(&mut Vec::new()).unwrap_err();
        assert_eq!(error.message(), "zero:1: the line is longer than 64 MiB");
    }
}
