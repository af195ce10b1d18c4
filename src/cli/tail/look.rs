//! One look after the other: rows that are new are printed, and the position moves on.

use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Int64Type, SchemaRef};

use super::Args;
use super::position::{Position, Seen};
use super::sql::Sql;
use crate::cli::client::{Client, Rows};
use crate::cli::output::{self, RowWriter, RowWriterOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::proto::v1::{TableKind, TableMetadata, TableRequest, TableSchema};

/// Columns of a look that are not the table's: the row's number, its mark, whether it is shown.
const OWN_COLUMNS: usize = 3;

/// What is followed, and how far.
pub(super) struct Tail<'a> {
    args: &'a Args,
    client: Client,
    /// None while the table is gone.
    table: Option<Table>,
    printer: Printer,
}

/// The table as it is followed.
struct Table {
    sql: Sql,
    position: Position,
    /// When it was made; not told of plain tables.
    created_at: Option<prost_types::Timestamp>,
}

/// What a look comes to.
enum Looked {
    /// All that was new is printed.
    Done,
    /// The last row is not where it was.
    Moved,
}

impl<'a> Tail<'a> {
    /// Prints the rows to begin with.
    pub(super) async fn start(args: &'a Args) -> Result<Self> {
        let client = Client::connect(&args.server).await?;
        let mut tail = Self { args, client, table: None, printer: Printer::new(args) };
        let mut table = tail.open().await?;
        let shown = match (args.since, args.lines) {
            (Some(since), _) => table.sql.since(since).ok_or_else(|| {
                Error::invalid(format!("{} has no event_time or last_seen: --lines is for it", args.table))
            })?,
            (None, Some(lines)) => table.sql.last(lines),
            (None, None) => Sql::NONE.to_owned(),
        };
        tail.begin(&mut table, &shown).await?;
        tail.table = Some(table);
        Ok(tail)
    }

    /// Prints the rows that are new since the last look.
    pub(super) async fn look(&mut self) -> Result<()> {
        match self.try_look().await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                if self.table.take().is_some() {
                    output::warn(&format!("{} is gone: waiting for it", self.args.table));
                }
                Ok(())
            }
            done => done,
        }
    }

    async fn try_look(&mut self) -> Result<()> {
        let mut table = if let Some(table) = self.table.take() {
            table
        } else {
            let table = self.open().await?;
            output::warn(&format!("{} is there again: followed from its first row on", self.args.table));
            table
        };
        let looked = self.look_at(&mut table).await;
        // Even after an error: what was printed is not printed again.
        self.table = Some(table);
        looked
    }

    async fn look_at(&mut self, table: &mut Table) -> Result<()> {
        if let Looked::Moved = self.go_on(table).await? {
            self.find(table).await?;
            // What moves again meanwhile is found at the next look.
            self.go_on(table).await?;
        }
        Ok(())
    }

    /// The table, to be followed from its first row on.
    async fn open(&mut self) -> Result<Table> {
        let request = TableRequest { table: self.args.table.clone() };
        let schema: TableSchema = self.client.action_once("get_schema", &request).await?;
        if schema.kind() == TableKind::View {
            return Err(Error::invalid(format!("{} is a view: only tables can be followed", schema.table)));
        }
        if schema.columns.iter().any(|column| column.name.eq_ignore_ascii_case("rowid")) {
            return Err(Error::invalid(format!(
                "{} has a column of the name rowid, by which rows are followed",
                schema.table
            )));
        }
        let sql = Sql::new(&schema, self.args.condition.as_deref());
        Ok(Table { sql, position: Position::start(), created_at: self.created_at().await? })
    }

    async fn created_at(&mut self) -> Result<Option<prost_types::Timestamp>> {
        let request = TableRequest { table: self.args.table.clone() };
        match self.client.action_once::<TableMetadata>("get_metadata", &request).await {
            Ok(metadata) => Ok(metadata.created_at),
            Err(error) if error.kind() == ErrorKind::FailedPrecondition => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes the table's end for the position, and prints the rows before it that are `shown`.
    async fn begin(&mut self, table: &mut Table, shown: &str) -> Result<()> {
        let rows = self.client.query(table.sql.begin(shown)).await?;
        table.position = Position::start();
        self.print(rows, &mut table.position, None).await.map(|_| ())
    }

    /// Prints what is after the position.
    async fn go_on(&mut self, table: &mut Table) -> Result<Looked> {
        let rows = self.client.query(table.sql.from(table.position.row())).await?;
        let anchor = table.position.last();
        self.print(rows, &mut table.position, anchor).await
    }

    /// Prints the rows of a look that are to be shown; the first one has to be `anchor`, which has been printed.
    async fn print(&mut self, mut rows: Rows, position: &mut Position, anchor: Option<Seen>) -> Result<Looked> {
        let mut anchor = anchor;
        let mut looked = Ok(Looked::Done);
        loop {
            let batch = match rows.next().await {
                Ok(Some(batch)) if batch.num_rows() == 0 => continue,
                Ok(Some(batch)) => batch,
                Ok(None) => break,
                Err(error) => {
                    looked = Err(error);
                    break;
                }
            };
            let seen = marks(&batch)?;
            if let Some(anchor) = anchor.take() {
                if seen.first() != Some(&anchor) {
                    return Ok(Looked::Moved);
                }
                self.show(&batch.slice(1, batch.num_rows() - 1))?;
                for seen in &seen[1..] {
                    position.advance(*seen);
                }
            } else {
                self.show(&batch)?;
                for seen in &seen {
                    position.advance(*seen);
                }
            }
        }
        self.printer.end_look()?;
        match looked {
            // Not even the last row came.
            Ok(_) if anchor.is_some() => Ok(Looked::Moved),
            looked => looked,
        }
    }

    fn show(&mut self, batch: &RecordBatch) -> Result<()> {
        let columns: Vec<usize> = (OWN_COLUMNS..batch.num_columns()).collect();
        let shown: &BooleanArray = batch.column(OWN_COLUMNS - 1).as_boolean_opt().ok_or_else(not_a_look)?;
        if shown.true_count() == 0 {
            return Ok(());
        }
        let project = || filter_record_batch(&batch.project(&columns)?, shown);
        let rows =
            project().map_err(|error| Error::internal("cannot take the rows out of a look").with_source(error))?;
        self.printer.print(&rows)
    }

    /// Finds the place to go on from after rows have moved.
    async fn find(&mut self, table: &mut Table) -> Result<()> {
        let args = self.args;
        let name = &args.table;
        let created_at = self.created_at().await?;
        if created_at != table.created_at {
            output::warn(&format!("{name} was made anew: followed from its first row on"));
            *table = self.open().await?;
            return Ok(());
        }
        // Rows that are deleted leave their numbers to those after them, so these only become less.
        let mut rows = self.client.query(table.sql.find(table.position.row(), table.position.marks())).await?;
        let mut found = Vec::new();
        while let Some(batch) = rows.next().await? {
            found.extend(marks(&batch)?);
        }
        if !found.is_empty() {
            table.position = Position::after(&found);
            return Ok(());
        }
        self.begin(table, Sql::NONE).await?;
        if table.position.last().is_some() {
            output::warn(&format!(
                "the rows of {name} that were looked at last are deleted: followed from now on, and what was stored since then is not \
                 shown"
            ));
        }
        Ok(())
    }
}

/// The numbers and marks of the rows of a look.
fn marks(batch: &RecordBatch) -> Result<Vec<Seen>> {
    let numbers = batch.column(0).as_primitive_opt::<Int64Type>().ok_or_else(not_a_look)?;
    let marks = batch.column(1).as_string_opt::<i32>().ok_or_else(not_a_look)?;
    let seen = numbers.values().iter().zip(marks.iter()).map(|(row, mark)| {
        let mark = mark.and_then(|mark| mark.parse().ok()).ok_or_else(not_a_look)?;
        Ok(Seen { row: *row, mark })
    });
    seen.collect()
}

fn not_a_look() -> Error {
    Error::internal("the server gives row numbers and hashes of other types than DuckDB does")
}

/// Prints rows, one look after the other.
struct Printer {
    options: RowWriterOptions,
    /// The writer of this look's rows.
    writer: Option<RowWriter>,
    /// The columns that the last header was about.
    header: Option<SchemaRef>,
}

impl Printer {
    fn new(args: &Args) -> Self {
        Self { options: RowWriterOptions::all(args.format.into()), writer: None, header: None }
    }

    fn print(&mut self, rows: &RecordBatch) -> Result<()> {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => {
                let schema = rows.schema();
                let header = self.header.as_ref() != Some(&schema);
                let options = RowWriterOptions { header, ..self.options };
                let writer = RowWriter::new(&schema, options, output::stdout()).map_err(unwritten)?;
                self.header = Some(Arc::clone(&schema));
                none.insert(writer)
            }
        };
        writer.write(rows).map_err(unwritten)
    }

    fn end_look(&mut self) -> Result<()> {
        self.writer.take().map_or(Ok(()), RowWriter::finish).map_err(unwritten)
    }
}

/// An output that cannot be written to, unlike a server, is not tried again: nobody knows what of the rows is in it.
fn unwritten(error: Error) -> Error {
    Error::new(ErrorKind::Internal, error.message()).with_source(error)
}
