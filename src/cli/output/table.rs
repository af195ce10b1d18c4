//! Rows as a table for people: as many rows as one wants to see, cells cut to a width, the others counted.

use std::fmt::Write as _;
use std::io::{self, Write};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::{thousands, write_error};
use crate::error::{Error, Result};

/// Keeps the rows to show, and counts all.
#[derive(Debug)]
pub(super) struct Table {
    /// The header and the rows to show.
    lines: Vec<Vec<String>>,
    /// Which columns are numbers, and aligned to the right.
    numeric: Vec<bool>,
    rows: u64,
    rows_max: usize,
    width_max: usize,
}

impl Table {
    pub(super) fn new(schema: &SchemaRef, rows_max: usize, width_max: usize) -> Self {
        let header = schema.fields().iter().map(|field| cut(field.name(), width_max)).collect();
        let numeric = schema.fields().iter().map(|field| field.data_type().is_numeric()).collect();
        Self { lines: vec![header], numeric, rows: 0, rows_max, width_max }
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let shown = self.lines.len() - 1;
        let wanted = self.rows_max.saturating_sub(shown).min(batch.num_rows());
        self.rows += batch.num_rows() as u64;
        self.format(&batch.slice(0, wanted))
            .map_err(|error| Error::internal(format!("cannot show the result: {error}")).with_source(error))
    }

    fn format(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        let options = FormatOptions::default().with_null("NULL");
        let columns = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column.as_ref(), &options))
            .collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            let cells = columns.iter().map(|column| Ok(cut(&column.value(row).try_to_string()?, self.width_max)));
            self.lines.push(cells.collect::<Result<_, ArrowError>>()?);
        }
        Ok(())
    }

    pub(super) fn finish(&self, mut out: impl Write) -> Result<()> {
        self.print(&mut out).and_then(|()| out.flush()).map_err(|error| write_error("the output", error))
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        if self.numeric.is_empty() {
            // A statement that gives no rows: CREATE, INSERT, DROP.
            return writeln!(out, "done");
        }
        let width = |column: usize| self.lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.numeric.len()).map(width).collect();
        let rule: String = widths.iter().fold("+".to_owned(), |rule, width| rule + &"-".repeat(width + 2) + "+");
        writeln!(out, "{rule}")?;
        for (index, line) in self.lines.iter().enumerate() {
            let mut text = "|".to_owned();
            for ((cell, width), numeric) in line.iter().zip(&widths).zip(&self.numeric) {
                // Writing to a String cannot fail.
                let _ = if *numeric && index > 0 {
                    write!(text, " {cell:>width$} |")
                } else {
                    write!(text, " {cell:<width$} |")
                };
            }
            writeln!(out, "{text}")?;
            if index == 0 {
                writeln!(out, "{rule}")?;
            }
        }
        if self.lines.len() > 1 {
            writeln!(out, "{rule}")?;
        }
        let hidden = self.rows - (self.lines.len() as u64 - 1);
        match (self.rows, hidden) {
            (1, 0) => writeln!(out, "1 row"),
            (rows, 0) => writeln!(out, "{} rows", thousands(rows)),
            (rows, hidden) => writeln!(out, "... {} more rows ({} in all)", thousands(hidden), thousands(rows)),
        }
    }
}

/// `text` on one line, of at most `width_max` characters (0: any number).
fn cut(text: &str, width_max: usize) -> String {
    let text = text.replace(['\n', '\r', '\t'], " ");
    if width_max == 0 || text.chars().count() <= width_max {
        return text;
    }
    text.chars().take(width_max - 1).chain(['…']).collect()
}
