//! The inputs of one import, as one stream of batches of one schema: what the first input's columns are, the others must have.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};

use super::buffered::Buffered;
use super::checked::checked;
use super::ipc::Ipc;
use super::ledger::Ledger;
use super::lines::{Lines, trim_end};
use super::parquet::Parquet;
use super::source::{self, FormatArg, Source};
use super::text::{Decode, Records, Text, utf8};
use super::{Batches, csv, members, mixpanel, ndjson};
use crate::cli::endings::Container;
use crate::error::{Error, Result};
use crate::tables::Kind;

/// How inputs are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReadOptions {
    pub(super) format: FormatArg,
    /// The kind that the user asked for.
    pub(super) kind: Option<Kind>,
    /// Whether members that a managed kind does not have join its properties.
    pub(super) fold: bool,
    /// Whether bad lines are set aside, those that only the server's coercion would find too.
    pub(super) skip_bad: bool,
    pub(super) batch_rows: usize,
}

/// Files that are looked at, at most, to find one that can be read.
const TEMPLATE_FILES_MAX: usize = 20;

/// What the first file tells of all the files of a load: their kind, and for a plain table the types of its columns.
#[derive(Debug, Default)]
pub(super) struct Template {
    kind: Option<Kind>,
    schema: Option<SchemaRef>,
}

impl Template {
    /// Of the first of the files that can be read; the others are told of in their turn.
    pub(super) fn of(paths: &[PathBuf], options: ReadOptions) -> Self {
        // What is no file can be read only once.
        let mut files = paths.iter().filter(|path| path.is_file()).take(TEMPLATE_FILES_MAX);
        files.find_map(|path| Self::of_file(path, options).ok()).unwrap_or_default()
    }

    fn of_file(path: &Path, options: ReadOptions) -> Result<Self> {
        let input = open(Source::open(path, options.format, &Arc::default())?, options, None)?;
        let (schema, kind) = (input.batches.schema(), options.kind.or(input.kind));
        // Columns of a managed kind have types of their own in each format.
        let is_managed = kind.is_some_and(Kind::is_managed)
            || Kind::of_columns(schema.fields().iter().map(|field| field.name().as_str())).is_some();
        Ok(Self { kind, schema: (!is_managed).then_some(schema) })
    }
}

/// Inputs that are read one after the other.
pub(super) struct Inputs {
    paths: Vec<PathBuf>,
    options: ReadOptions,
    bytes_read: Arc<AtomicU64>,
    first: Option<Input>,
    schema: SchemaRef,
    kind: Option<Kind>,
}

/// One open input.
struct Input {
    name: String,
    batches: Box<dyn Batches>,
    /// The kind that the format tells: lines of an export are events or profiles. Lines that were checked for a kind are of it.
    kind: Option<Kind>,
}

impl Inputs {
    /// Opens the first input, which tells the columns; the others must be there.
    pub(super) fn open(paths: Vec<PathBuf>, options: ReadOptions, bytes_read: Arc<AtomicU64>) -> Result<Self> {
        for path in &paths {
            source::check(path)?;
        }
        let path = paths.first().ok_or_else(|| Error::invalid("no files"))?;
        let first = open(Source::open(path, options.format, &bytes_read)?, options, None)?;
        let (schema, kind) = (first.batches.schema(), options.kind.or(first.kind));
        Ok(Self { paths, options, bytes_read, first: Some(first), schema, kind })
    }

    /// Opens one file of a load.
    pub(super) fn open_as(
        template: &Template,
        path: PathBuf,
        options: ReadOptions,
        bytes_read: Arc<AtomicU64>,
    ) -> Result<Self> {
        let options = ReadOptions { kind: options.kind.or(template.kind), ..options };
        let first = open(Source::open(&path, options.format, &bytes_read)?, options, template.schema.as_ref())?;
        let (schema, kind) = (first.batches.schema(), options.kind.or(first.kind));
        Ok(Self { paths: vec![path], options, bytes_read, first: Some(first), schema, kind })
    }

    /// The columns of the stream.
    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The kind, if the user or the format tells it; else the server tells it from the columns.
    pub(super) fn kind(&self) -> Option<Kind> {
        self.kind
    }

    /// Reads all inputs; `send` takes each batch, and says whether it wants more.
    pub(super) fn read(mut self, ledger: &mut Ledger, mut send: impl FnMut(RecordBatch) -> bool) -> Result<()> {
        let first_name = self.first.as_ref().map(|input| input.name.clone()).unwrap_or_default();
        let options = ReadOptions { kind: self.kind, ..self.options };
        let mut before = 0_u64;
        for path in &self.paths {
            let mut input = match self.first.take() {
                Some(first) => first,
                None => open(Source::open(path, options.format, &self.bytes_read)?, options, Some(&self.schema))?,
            };
            let size = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
            let order = order(&input.batches.schema(), &self.schema)
                .map_err(|reason| Error::invalid(format!("{}: {reason} {first_name}", input.name)))?;
            ledger.begin(&input.name);
            while let Some(batch) = input.batches.next(ledger)? {
                if let Some((done, total)) = input.batches.parts() {
                    // Such a file is not read from end to end: tell the share of its rows.
                    let share = size.checked_mul(done).and_then(|bytes| bytes.checked_div(total));
                    self.bytes_read.store(before.saturating_add(share.unwrap_or_default()), Ordering::Relaxed);
                }
                if !send(reorder(batch, &order, &self.schema)?) {
                    return Ok(());
                }
            }
            before = self.bytes_read.load(Ordering::Relaxed);
        }
        Ok(())
    }
}

fn open(source: Source, options: ReadOptions, schema: Option<&SchemaRef>) -> Result<Input> {
    let name = source.name.clone();
    let (batches, kind): (Box<dyn Batches>, _) = match source.container {
        Container::JsonLines => {
            let (decoder, kind) = json_decoder(&source, options, schema)?;
            let lines = Lines::new(&name, source.into_stream());
            let decoder = check(decoder, kind, options);
            (Box::new(Text::new(lines, Records::Lines, decoder, options.batch_rows)), kind)
        }
        Container::Csv => {
            let sample = source.sample_lines().to_vec();
            let mut lines = Lines::new(&name, source.into_stream());
            let (decoder, kind) = csv_decoder(&mut lines, &sample, options, schema)?;
            // The server may know another kind than the columns tell. So the first input's is sent if lines are judged by it,
            // and later ones are judged by nothing else.
            let kind = kind.filter(|_| options.skip_bad && schema.is_none()).or(options.kind);
            let decoder = check(decoder, kind, options);
            (Box::new(Text::new(lines, Records::Csv, decoder, options.batch_rows)), kind)
        }
        Container::Parquet => (Box::new(Parquet::open(&name, source.into_file()?, options.batch_rows)?), None),
        Container::ArrowFile => (Box::new(Ipc::open_file(&name, source.into_file()?)?), None),
        Container::ArrowStream => (Box::new(Ipc::open_stream(&name, source.into_stream())?), None),
    };
    Ok(Input { name, batches, kind })
}

/// `decoder`, which also finds the lines that the server would refuse, if they are to be set aside.
fn check(decoder: Box<dyn Decode>, kind: Option<Kind>, options: ReadOptions) -> Box<dyn Decode> {
    match kind {
        Some(kind) if options.skip_bad && kind.is_managed() => checked(decoder, kind, options.fold),
        _ => decoder,
    }
}

/// The decoder of JSON lines, and the kind if the lines are an export's.
fn json_decoder(
    source: &Source,
    options: ReadOptions,
    schema: Option<&SchemaRef>,
) -> Result<(Box<dyn Decode>, Option<Kind>)> {
    let failed = |reason: &str| Error::invalid(format!("{}: {reason}", source.name));
    let sample: Vec<&[u8]> = sample_objects(source).collect();
    let may_be_export = options.format != FormatArg::Ndjson;
    let export = sample.iter().find_map(|line| export_kind(line)).filter(|_| may_be_export);
    let is_export_format = options.format == FormatArg::Mixpanel;
    let (kind, is_export) = match (options.kind, export) {
        (Some(Kind::Table | Kind::View), _) if is_export_format => {
            return Err(failed("a Mixpanel export holds events or profiles, not a plain table"));
        }
        (Some(kind), export) => (Some(kind), is_export_format || export == Some(kind)),
        (None, Some(export)) => (Some(export), true),
        (None, None) if is_export_format => {
            return Err(failed(
                "no line of a Mixpanel export: no `event`, no `$distinct_id` (say --kind if it is empty)",
            ));
        }
        (None, None) => (kind_of_members(&sample).filter(|_| schema.is_none()), false),
    };
    let decoder: Box<dyn Decode> = match (kind, is_export) {
        (Some(Kind::Events), true) => Box::new(mixpanel::Events::new()),
        (Some(Kind::Profiles), true) => Box::new(mixpanel::Profiles::new()),
        (Some(Kind::Events), false) => Box::new(ndjson::Events::new(options.fold)),
        (Some(Kind::Profiles), false) => Box::new(ndjson::Profiles::new(options.fold)),
        (Some(Kind::Table | Kind::View) | None, _) => {
            let schema = match schema {
                Some(schema) => Arc::clone(schema),
                None => ndjson::infer(sample.into_iter()).map_err(|reason| failed(&reason))?,
            };
            Box::new(Buffered::new(ndjson::Table::new(schema)))
        }
    };
    Ok((decoder, kind))
}

fn sample_objects(source: &Source) -> impl Iterator<Item = &[u8]> {
    let sample = source.sample_lines();
    let sample = sample.strip_prefix(b"\xef\xbb\xbf").unwrap_or(sample);
    sample.split(|byte| *byte == b'\n').map(trim_end).filter(|line| line.trim_ascii_start().starts_with(b"{"))
}

/// The names of a line's members; none if it is no object.
fn names(line: &[u8]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let visited = utf8(line).and_then(|line| {
        members::visit(line, |member| {
            names.insert(member.key.into_owned());
        })
    });
    if visited.is_err() {
        names.clear();
    }
    names
}

/// What a line of a Mixpanel export holds.
fn export_kind(line: &[u8]) -> Option<Kind> {
    let names = names(line);
    if names.contains("event") && names.contains("properties") {
        Some(Kind::Events)
    } else if names.contains("$distinct_id") {
        Some(Kind::Profiles)
    } else {
        None
    }
}

/// The managed kind whose columns the sample's lines have; a line may leave some out.
fn kind_of_members(sample: &[&[u8]]) -> Option<Kind> {
    let all: BTreeSet<String> = sample.iter().flat_map(|line| names(line)).collect();
    Kind::of_columns(all.iter().map(String::as_str))
}

/// The decoder of CSV, and the kind if the user or the columns tell it.
fn csv_decoder(
    lines: &mut Lines,
    sample: &[u8],
    options: ReadOptions,
    schema: Option<&SchemaRef>,
) -> Result<(Box<dyn Decode>, Option<Kind>)> {
    let mut record = Vec::new();
    if csv::next_record(lines, &mut record)?.is_none() {
        return Err(Error::invalid(format!("{}: it is empty, not even a header is there", lines.name())));
    }
    let names = csv::header(lines.name(), &record)?;
    let kind = options.kind.or_else(|| Kind::of_columns(names.iter().map(String::as_str)));
    let parser = match (kind, schema) {
        (Some(kind @ (Kind::Events | Kind::Profiles)), _) => csv::Table::managed(&names, kind),
        (_, Some(schema)) => {
            // The types of the first input; a column that it has not is refused when the columns are compared.
            let inferred = infer_csv(lines.name(), &names, sample)?;
            let fields = inferred.fields().iter().map(|field| match schema.field_with_name(field.name()) {
                Ok(known) => Arc::new(known.clone()),
                Err(_) => Arc::clone(field),
            });
            csv::Table::new(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
        }
        (_, None) => csv::Table::new(infer_csv(lines.name(), &names, sample)?),
    };
    Ok((Box::new(Buffered::new(parser)), kind))
}

fn infer_csv(name: &str, names: &[String], sample: &[u8]) -> Result<SchemaRef> {
    csv::infer(names, sample).map_err(|reason| Error::invalid(format!("{name}: {reason}")))
}

/// Where each column of `wanted` is in `found`. The error ends in words that the first input's name follows.
fn order(found: &SchemaRef, wanted: &SchemaRef) -> Result<Vec<usize>, String> {
    if let Some(extra) = found.fields().iter().find(|field| wanted.index_of(field.name()).is_err()) {
        return Err(format!("column `{}` is not in", extra.name()));
    }
    let place = |field: &arrow::datatypes::FieldRef| {
        let index = found.index_of(field.name()).map_err(|_| format!("it has no column `{}` like", field.name()))?;
        let data_type = found.field(index).data_type();
        if data_type == field.data_type() {
            return Ok(index);
        }
        Err(format!("column `{}` is {data_type}, not {} as in", field.name(), field.data_type()))
    };
    wanted.fields().iter().map(place).collect()
}

fn reorder(batch: RecordBatch, order: &[usize], schema: &SchemaRef) -> Result<RecordBatch> {
    if batch.schema_ref() == schema {
        return Ok(batch);
    }
    let columns = order.iter().map(|index| Arc::clone(batch.column(*index))).collect();
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
        .map_err(|error| Error::invalid(format!("the inputs' columns differ: {error}")))
}
