//! How rows are shown: in which format, how many of them, where, and each value on a line of its own if that is wanted.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::pager::{Pager, Screen, Size};
use crate::cli::client::Rows;
use crate::cli::output::{self, Format, RowWriter, RowWriterOptions};
use crate::error::{Error, Result};

/// How rows are shown.
#[derive(Debug)]
pub(super) struct View {
    pub(super) format: Format,
    /// Whether each value has a line of its own.
    pub(super) expanded: bool,
    /// Rows that a table shows.
    pub(super) rows_max: usize,
    /// Characters that a table's cell shows; 0 for all.
    pub(super) width_max: usize,
    /// Where rows go instead of stdout, and the name of it.
    pub(super) file: Option<(File, String)>,
    /// What shows more than the screen; none: nobody looks.
    pub(super) pager: Option<Pager>,
}

impl View {
    /// Whether rows are for people, who do not want all of a million.
    fn is_for_people(&self) -> bool {
        self.format == Format::Table
    }

    /// Shows the rows, or as many of them as are wanted: `to_the_end` reads the others, too.
    pub(super) async fn show(&self, mut rows: Rows, to_the_end: bool) -> Result<()> {
        if rows.schema().fields().is_empty() && !self.is_for_people() {
            // That of CREATE and its like: a program reads rows only.
            return read_all(&mut rows).await;
        }
        let screen = self.screen();
        let mut writer = Writer::new(self, rows.schema(), self.out(screen.as_ref())?)?;
        let mut left = if self.is_for_people() { self.rows_max } else { usize::MAX };
        let mut more = false;
        let written = async {
            while let Some(batch) = rows.next().await? {
                more |= batch.num_rows() > left;
                writer.write(&batch.slice(0, batch.num_rows().min(left)))?;
                left -= batch.num_rows().min(left);
                if more && !to_the_end {
                    break;
                }
            }
            writer.finish()?;
            if more { self.tell_of_more(screen.as_ref()) } else { Ok(()) }
        };
        let written = written.await;
        match &screen {
            Some(screen) if screen.was_left() => drop(screen.close()),
            Some(screen) => screen.close().map_err(|error| output::write_error("the output", error))?,
            None => {}
        }
        match written {
            // The reader had enough.
            Err(_) if screen.as_ref().is_some_and(Screen::was_left) => Ok(()),
            written => written,
        }
    }

    fn tell_of_more(&self, screen: Option<&Screen>) -> Result<()> {
        let rows = output::thousands(self.rows_max as u64);
        let line = writeln!(self.out(screen)?, "... and more: these are the first {rows} (--max-rows)");
        line.map_err(|error| output::write_error("the output", error))
    }

    /// Shows a text of the shell's own.
    pub(super) fn print(&self, text: &str) -> Result<()> {
        let screen = self.screen();
        let mut out = self.out(screen.as_ref())?;
        let written = writeln!(out, "{text}").and_then(|()| out.flush());
        let closed = screen.as_ref().map_or(Ok(()), Screen::close);
        match written.and(closed) {
            Err(_) if screen.as_ref().is_some_and(Screen::was_left) => Ok(()),
            done => done.map_err(|error| output::write_error("the output", error)),
        }
    }

    fn screen(&self) -> Option<Screen> {
        let pager = self.pager.clone().filter(|_| self.file.is_none())?;
        Some(Screen::new(Size::of_stdout()?, pager))
    }

    fn out(&self, screen: Option<&Screen>) -> Result<Box<dyn Write + Send>> {
        Ok(match (&self.file, screen) {
            (Some((file, name)), _) => Box::new(file.try_clone().map_err(|error| output::write_error(name, error))?),
            (None, Some(screen)) => Box::new(screen.clone()),
            (None, None) => output::stdout(),
        })
    }
}

/// Reads a result to its end.
async fn read_all(rows: &mut Rows) -> Result<()> {
    while rows.next().await?.is_some() {}
    Ok(())
}

/// Writes the rows of one result.
enum Writer {
    Rows(Box<RowWriter>),
    Expanded(Expanded),
}

impl Writer {
    fn new(view: &View, schema: &SchemaRef, out: Box<dyn Write + Send>) -> Result<Self> {
        if view.expanded && view.is_for_people() && !schema.fields().is_empty() {
            return Ok(Self::Expanded(Expanded::new(schema, out)));
        }
        let options = RowWriterOptions {
            rows_max: view.rows_max,
            width_max: view.width_max,
            ..RowWriterOptions::all(view.format)
        };
        Ok(Self::Rows(Box::new(RowWriter::new(schema, options, out)?)))
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        match self {
            Self::Rows(writer) => writer.write(batch),
            Self::Expanded(writer) => writer.write(batch),
        }
    }

    /// Ends the output.
    fn finish(self) -> Result<()> {
        match self {
            Self::Rows(writer) => writer.finish(),
            Self::Expanded(writer) => writer.finish(),
        }
    }
}

/// Each value on a line of its own, all of it.
struct Expanded {
    out: BufWriter<Box<dyn Write + Send>>,
    names: Vec<String>,
    width: usize,
    rows: u64,
}

impl Expanded {
    fn new(schema: &SchemaRef, out: Box<dyn Write + Send>) -> Self {
        let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        Self { out: BufWriter::new(out), names, width, rows: 0 }
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let cannot = |error: ArrowError| Error::internal(format!("cannot show the result: {error}")).with_source(error);
        let options = FormatOptions::default().with_null("NULL");
        let columns = batch.columns().iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options));
        let columns = columns.collect::<Result<Vec<_>, _>>().map_err(cannot)?;
        for row in 0..batch.num_rows() {
            self.rows += 1;
            let values = columns.iter().map(|column| column.value(row).try_to_string());
            let values = values.collect::<Result<Vec<_>, _>>().map_err(cannot)?;
            self.row(&values).map_err(|error| output::write_error("the output", error))?;
        }
        Ok(())
    }

    fn row(&mut self, values: &[String]) -> io::Result<()> {
        writeln!(self.out, "-[ row {} ]-", self.rows)?;
        for (name, value) in self.names.iter().zip(values) {
            // Further lines of a value stand below its first.
            let value = value.replace('\n', &format!("\n{:width$} | ", "", width = self.width));
            writeln!(self.out, "{name:<width$} | {value}", width = self.width)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        let rows = output::thousands(self.rows);
        let end = writeln!(self.out, "{rows} row{}", if self.rows == 1 { "" } else { "s" });
        end.and_then(|()| self.out.flush()).map_err(|error| output::write_error("the output", error))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::*;
    use crate::cli::client::Client;
    use crate::cli::fake::{self, Script};

    /// What a file has after the rows of two batches were shown in it.
    fn shown(view: impl Fn(&mut View)) -> String {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let columns: [(&str, ArrayRef); 2] = [
            ("n", Arc::new(Int64Array::from(vec![1, 2]))),
            ("text", Arc::new(StringArray::from(vec![Some("a\nb"), None]))),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let script = Script { batches: vec![batch.clone(), batch], ..Script::default() };
        let (server, _) = runtime.block_on(fake::start(script));
        let mut client = runtime.block_on(Client::connect(&server)).unwrap();
        let rows = runtime.block_on(client.query("SELECT".to_owned())).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shown");
        let mut own = View {
            format: Format::Table,
            expanded: false,
            rows_max: 100,
            width_max: 60,
            file: Some((File::create(&path).unwrap(), "shown".to_owned())),
            pager: None,
        };
        view(&mut own);
        runtime.block_on(own.show(rows, false)).unwrap();
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_table_ends_where_nobody_looks_any_more() {
        let all = shown(|_| {});
        assert!(all.ends_with("+---+------+\n4 rows\n"), "{all}");
        let some = shown(|view| view.rows_max = 3);
        assert!(
            some.ends_with("|\n+---+------+\n3 rows\n... and more: these are the first 3 (--max-rows)\n"),
            "{some}"
        );
        assert_eq!(some.matches("| 1 |").count() + some.matches("| 2 |").count(), 3, "{some}");
        let rows = shown(|view| {
            view.rows_max = 1;
            view.format = Format::Csv;
        });
        assert_eq!(rows.lines().filter(|line| line.starts_with(['1', '2'])).count(), 4, "{rows}");
    }

    #[test]
    fn each_value_has_a_line() {
        let text = shown(|view| {
            view.expanded = true;
            view.rows_max = 2;
        });
        let wanted = "\
-[ row 1 ]-
n    | 1
text | a
     | b
-[ row 2 ]-
n    | 2
text | NULL
2 rows
... and more: these are the first 2 (--max-rows)
";
        assert_eq!(text, wanted);
    }
}
