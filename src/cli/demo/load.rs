//! The sample data on its way in: made on a thread, sent as `ingest` sends files, with a bar for people.

use std::io::{self, IsTerminal};
use std::pin::pin;
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use futures::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::sample::{FIRST_DAY, LAST_DAY, Shop};
use crate::cli::client::Client;
use crate::cli::ingest::managed;
use crate::cli::ingest::progress::rate;
use crate::cli::ingest::upload::{Answer, Upload};
use crate::cli::output::{self, thousands};
use crate::error::{Error, Result};
use crate::proto::v1::{Commit, Ingest, IngestMetadata, IngestMode, Progress};
use crate::tables::Kind;

/// Batches that are made and not yet sent.
const QUEUE_BATCHES: usize = 4;
const BAR: &str = "  {msg} {bar:40} {human_pos} of {human_len}";

/// Streams the events and the profiles of the shop into tables of these names.
pub(super) async fn load(client: &Client, shop: Shop) -> Result<()> {
    let days = IngestMetadata {
        from_date: Some(FIRST_DAY.to_owned()),
        to_date: Some(LAST_DAY.to_owned()),
        ..IngestMetadata::default()
    };
    let events = Table { kind: Kind::Events, name: "events", metadata: Some(days) };
    let profiles = Table { kind: Kind::Profiles, name: "profiles", metadata: None };
    events.load(client, shop.event_batches(), shop.events()).await?;
    profiles.load(client, shop.profile_batches(), shop.customers()).await
}

/// A table that is made.
struct Table {
    kind: Kind,
    name: &'static str,
    metadata: Option<IngestMetadata>,
}

impl Table {
    async fn load(
        self,
        client: &Client,
        batches: impl Iterator<Item = Result<RecordBatch, ArrowError>> + Send + 'static,
        rows: u64,
    ) -> Result<()> {
        let started = Instant::now();
        let (name, bar) = (self.name, bar(rows).with_message(format!("{:<8}", self.name)));
        let (sender, receiver) = mpsc::channel(QUEUE_BATCHES);
        let (commit_sender, commit) = oneshot::channel();
        let schema = managed::schema(self.kind);
        let upload = Upload { command: self.command(), schema, batches: receiver, commit };
        // gRPC goes on sending a stream whose answers nobody hears any more. After ctrl-c it has to end, without its commit.
        let dropped = CancellationToken::new();
        let _guard = dropped.clone().drop_guard();
        let make = move || {
            let batches = batches.take_while(|_| !dropped.is_cancelled());
            let made = send_all(batches, &sender);
            if let (Ok(rows), false) = (&made, dropped.is_cancelled()) {
                // A receiver that is gone has heard the server's error.
                let _ = commit_sender.send(*rows);
            }
            made.map(|_| ())
        };
        let making = tokio::task::spawn_blocking(make);
        let stored = follow(upload, client, &bar).await;
        bar.finish_and_clear();
        // If both fail, the thread that makes the data has the reason.
        making.await.map_err(|error| Error::internal("the thread that makes the data died").with_source(error))??;
        let (stored, seconds) = (stored?, started.elapsed().as_secs_f64());
        output::print(&format!(
            "  {name:<8} {:>9} rows in {seconds:.2} s ({} rows/s)",
            thousands(stored),
            thousands(rate(stored, seconds))
        ))
    }

    fn command(self) -> Ingest {
        Ingest {
            kind: crate::proto::v1::TableKind::from(self.kind).into(),
            table: self.name.to_owned(),
            mode: IngestMode::Create.into(),
            metadata: self.metadata,
            ingest_id: Some(Uuid::now_v7().to_string()),
            commit: Commit::Explicit.into(),
            // The bar moves with what the server has, not with what was sent.
            progress: Progress::EveryBatch.into(),
            ..Ingest::default()
        }
    }
}

/// Sends the batches to the upload, and counts their rows.
fn send_all(
    batches: impl Iterator<Item = Result<RecordBatch, ArrowError>>,
    sender: &mpsc::Sender<RecordBatch>,
) -> Result<u64> {
    let mut rows = 0;
    for batch in batches {
        let batch = batch.map_err(|error| Error::internal("cannot make the sample data").with_source(error))?;
        rows += batch.num_rows() as u64;
        if sender.blocking_send(batch).is_err() {
            break;
        }
    }
    Ok(rows)
}

/// Hears the server until it has stored the stream; returns the number of rows.
async fn follow(upload: Upload, client: &Client, bar: &ProgressBar) -> Result<u64> {
    let mut answers = pin!(upload.send(client));
    let mut stored = None;
    while let Some(answer) = answers.next().await {
        match answer? {
            Answer::Progress(progress) => bar.set_position(progress.rows_received),
            Answer::Result(result) => stored = Some(result.rows_inserted),
        }
    }
    stored.ok_or_else(|| Error::internal("the server ended the ingest without a result"))
}

/// A bar over so many rows; hidden unless a person looks at both what is printed and the bar itself, which is on stderr.
fn bar(rows: u64) -> ProgressBar {
    if !output::stdout_is_terminal() || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    // A template that does not parse is a bug, and no reason to stop.
    let style = ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(rows).with_style(style)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_parses() {
        ProgressStyle::with_template(BAR).unwrap();
    }
}
