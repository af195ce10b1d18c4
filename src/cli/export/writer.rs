//! Rows on their way into a file: a thread encodes and compresses them while the next ones arrive.

use std::io::{self, Write};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use flate2::write::GzEncoder;
use tokio::sync::mpsc;

use super::encoding::Encoding;
use super::progress::{Meter, Progress};
use crate::cli::client::Rows;
use crate::cli::endings::Compression;
use crate::cli::output::{RowWriter, RowWriterOptions, write_error};
use crate::error::{Error, Result};

/// Batches that have arrived and are not yet encoded.
const QUEUE_BATCHES: usize = 4;

/// What the thread is told.
enum Step {
    Rows(RecordBatch),
    /// That was all: without it, what is written stays incomplete.
    End,
}

/// Writes all `rows` to `out`. Dropped half-way, it ends nothing: a Parquet file has no footer then.
pub(in crate::cli) async fn write(
    mut rows: Rows,
    encoding: Encoding,
    out: Box<dyn Write + Send>,
    progress: &Progress,
) -> Result<()> {
    let (steps, receiver) = mpsc::channel(QUEUE_BATCHES);
    let (schema, meter) = (Arc::clone(rows.schema()), progress.meter().clone());
    let writing = tokio::task::spawn_blocking(move || encode(receiver, &schema, encoding, out, &meter));
    while let Some(batch) = rows.next().await? {
        // A receiver that is gone has an error to tell.
        if steps.send(Step::Rows(batch)).await.is_err() {
            break;
        }
        progress.show();
    }
    drop(steps.send(Step::End).await);
    writing.await.map_err(|error| Error::internal("the thread that writes the file died").with_source(error))?
}

fn encode(
    mut steps: mpsc::Receiver<Step>,
    schema: &SchemaRef,
    encoding: Encoding,
    out: Box<dyn Write + Send>,
    meter: &Meter,
) -> Result<()> {
    let failed = |error| write_error("the output", error);
    let sink = Sink::new(Counted { out, meter: meter.clone() }, encoding.compression).map_err(failed)?;
    let mut writer = RowWriter::new(schema, RowWriterOptions::all(encoding.format.of_rows()), sink)?;
    while let Some(step) = steps.blocking_recv() {
        match step {
            Step::Rows(batch) => {
                writer.write(&batch)?;
                meter.add_rows(batch.num_rows());
            }
            Step::End => return writer.into_inner()?.finish().map_err(failed),
        }
    }
    Ok(())
}

/// The bytes on their way, compressed or not.
enum Sink {
    Plain(Counted),
    Gzip(GzEncoder<Counted>),
    Zstd(zstd::Encoder<'static, Counted>),
}

impl Sink {
    fn new(out: Counted, compression: Option<Compression>) -> io::Result<Self> {
        Ok(match compression {
            None => Self::Plain(out),
            Some(Compression::Gzip) => Self::Gzip(GzEncoder::new(out, flate2::Compression::default())),
            Some(Compression::Zstd) => Self::Zstd(zstd::Encoder::new(out, zstd::DEFAULT_COMPRESSION_LEVEL)?),
        })
    }

    fn finish(self) -> io::Result<()> {
        let mut out = match self {
            Self::Plain(out) => out,
            Self::Gzip(encoder) => encoder.finish()?,
            Self::Zstd(encoder) => encoder.finish()?,
        };
        out.flush()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(out) => out.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
        }
    }

    /// Writers of rows flush after each batch; what an encoder holds back then would only be compressed worse.
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(out) => out.flush(),
            Self::Gzip(_) | Self::Zstd(_) => Ok(()),
        }
    }
}

/// Counts what is written.
struct Counted {
    out: Box<dyn Write + Send>,
    meter: Meter,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.meter.add_bytes(written);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
