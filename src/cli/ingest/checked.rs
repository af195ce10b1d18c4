//! Rows that the server would refuse, found on this side, so that their lines can be set aside like those that do not parse.
//!
//! The server coerces each row of a managed kind by itself and refuses the stream for one bad row. The same coercion runs here,
//! and only its verdict is used: what it passes is sent as it was read, and the server coerces it again.

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use super::buffered::Kept;
use super::text::{Decode, Flushed, Refused};
use crate::error::ErrorKind;
use crate::ingest::coerce::{Coercer, Extra, Limits};
use crate::tables::Kind;

/// A decoder whose rows are coerced once they are made.
pub(super) struct Checked {
    decoder: Box<dyn Decode>,
    coercer: Coercer,
    /// The records since the last flush: they are wanted as they were written.
    records: Kept,
}

/// `decoder`, with its rows checked for `kind`. Columns that cannot become the kind's are left for the server to refuse: no line
/// is to blame for them.
pub(super) fn checked(decoder: Box<dyn Decode>, kind: Kind, fold: bool) -> Box<dyn Decode> {
    let extra = if fold { Extra::FoldIntoProperties } else { Extra::Refuse };
    match Coercer::new(kind, &decoder.schema(), extra, Limits::default()) {
        Ok(coercer) => Box::new(Checked { decoder, coercer, records: Kept::default() }),
        Err(_) => decoder,
    }
}

impl Decode for Checked {
    fn schema(&self) -> SchemaRef {
        self.decoder.schema()
    }

    fn push(&mut self, record: &[u8]) -> Result<(), String> {
        self.decoder.push(record)?;
        self.records.push(record);
        Ok(())
    }

    fn flush(&mut self) -> Result<Flushed, ArrowError> {
        let Flushed { mut batch, mut refused } = self.decoder.flush()?;
        let mut bad = Vec::new();
        search(&self.coercer, &batch, 0, &mut bad);
        if !bad.is_empty() {
            let is_row = |index: &usize| refused.binary_search_by_key(index, |earlier| earlier.index).is_err();
            let rows: Vec<usize> = (0..self.records.len()).filter(is_row).collect();
            let mut good = vec![true; batch.num_rows()];
            for (row, reason) in bad {
                good[row] = false;
                let index = rows[row];
                refused.push(Refused { index, record: self.records.get(index).to_vec(), reason });
            }
            refused.sort_unstable_by_key(|refused| refused.index);
            batch = filter_record_batch(&batch, &BooleanArray::from(good))?;
        }
        self.records.clear();
        Ok(Flushed { batch, refused })
    }
}

/// The bad rows of `batch`, which begins at row `first`, and why they are bad; by halves, for most batches have none, and most
/// others a few.
fn search(coercer: &Coercer, batch: &RecordBatch, first: usize, bad: &mut Vec<(usize, String)>) {
    let Err(error) = coercer.coerce(batch, 1) else { return };
    // Another error is about the batch, and the server's to tell.
    if error.kind() != ErrorKind::InvalidArgument || batch.num_rows() == 0 {
        return;
    }
    if batch.num_rows() == 1 {
        bad.push((first, reason(error.message())));
        return;
    }
    let middle = batch.num_rows() / 2;
    search(coercer, &batch.slice(0, middle), first, bad);
    search(coercer, &batch.slice(middle, batch.num_rows() - middle), first + middle, bad);
}

/// What the report about a batch of one row says of that row: `event_time: cannot read "x" as a time`.
fn reason(report: &str) -> String {
    report.split_once(": row 1: ").map_or(report, |(_, reason)| reason).to_owned()
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;

    use super::*;
    use crate::cli::ingest::buffered::Buffered;
    use crate::cli::ingest::{csv, ndjson};

    const EVENTS: [&str; 5] = ["event_name", "event_time", "distinct_id", "insert_id", "properties"];

    fn csv_of(names: &[&str], kind: Kind, fold: bool) -> Box<dyn Decode> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        checked(Box::new(Buffered::new(csv::Table::managed(&names, kind))), kind, fold)
    }

    /// The values of `column` that are left, and the bad records by their index with their reasons.
    fn flush(decoder: &mut dyn Decode, records: &[&str], column: &str) -> (Vec<String>, Vec<(usize, String)>) {
        for record in records {
            decoder.push(record.as_bytes()).unwrap();
        }
        let flushed = decoder.flush().unwrap();
        assert_eq!(flushed.batch.schema(), decoder.schema());
        for refused in &flushed.refused {
            assert_eq!(refused.record, records[refused.index].as_bytes());
        }
        let texts = flushed.batch[column].as_string::<i32>().iter().flatten().map(str::to_owned).collect();
        (texts, flushed.refused.into_iter().map(|refused| (refused.index, refused.reason)).collect())
    }

    #[test]
    fn rows_that_the_server_refuses_are_refused_records() {
        let mut decoder = csv_of(&EVENTS, Kind::Events, false);
        let records = [
            "a,2024-01-01,u,1,",
            "b,yesterday,u,2,{}",
            "too,few",
            "c,2024-01-01,u,3,\"{\r\n\"\"k\"\": 1}\"",
            "d,2024-01-01,u,4,\"{\n\"\"k\"\"}\"",
            "e,,u,5,",
            "f,tomorrow,u,6,{k}",
            "g,2024-01-01T00:00:00Z,u,7,{}",
        ];
        let (kept, bad) = flush(&mut *decoder, &records, "insert_id");
        assert_eq!(kept, ["1", "3", "7"]);
        let found: Vec<usize> = bad.iter().map(|(index, _)| *index).collect();
        assert_eq!(found, [1, 2, 4, 5, 6]);
        assert_eq!(bad[0].1, "event_time: cannot read \"yesterday\" as a time");
        assert!(bad[1].1.starts_with("incorrect number of fields"), "{}", bad[1].1);
        assert!(bad[2].1.starts_with("properties: malformed JSON"), "{}", bad[2].1);
        assert!(bad[4].1.contains("tomorrow") && bad[4].1.contains(", properties: "), "{}", bad[4].1);

        assert_eq!(flush(&mut *decoder, &["b,never,u,2,"], "insert_id").1.len(), 1);
        assert_eq!(flush(&mut *decoder, &records[..1], "insert_id"), (vec!["1".to_owned()], vec![]));
        assert_eq!(flush(&mut *decoder, &[], "insert_id"), (vec![], vec![]));
    }

    #[test]
    fn each_bad_row_of_a_long_batch_is_found() {
        for bad_rows in [vec![], vec![0], vec![999], vec![0, 1, 500, 998, 999], (0..1000).collect()] {
            let mut decoder = csv_of(&["distinct_id", "last_seen"], Kind::Profiles, false);
            let records: Vec<String> = (0..1000)
                .map(|row| format!("{row},{}", if bad_rows.contains(&row) { "never" } else { "2024-01-01" }))
                .collect();
            let records: Vec<&str> = records.iter().map(String::as_str).collect();
            let (kept, bad) = flush(&mut *decoder, &records, "distinct_id");
            assert_eq!(bad.into_iter().map(|(index, _)| index).collect::<Vec<_>>(), bad_rows);
            assert_eq!(kept.len(), 1000 - bad_rows.len());
        }
    }

    #[test]
    fn json_in_text_is_checked() {
        let mut decoder = checked(Box::new(ndjson::Profiles::new(false)), Kind::Profiles, false);
        let records = [
            r#"{"distinct_id":"a","properties":"{\"k\":1}"}"#,
            r#"{"distinct_id":"b","properties":"{k}"}"#,
            r#"{"distinct_id":"c","properties":{"k":1}}"#,
        ];
        let (kept, bad) = flush(&mut *decoder, &records, "distinct_id");
        assert_eq!(kept, ["a", "c"]);
        assert!(bad[0].0 == 1 && bad[0].1.starts_with("properties: malformed JSON"), "{bad:?}");
    }

    #[test]
    fn columns_that_join_the_properties_are_checked() {
        let mut decoder = csv_of(&["distinct_id", "properties", "plan"], Kind::Profiles, true);
        let (kept, bad) = flush(&mut *decoder, &["a,{},free", "b,[],free", "c,[],"], "distinct_id");
        assert_eq!(kept, ["a", "c"]);
        assert_eq!(bad, [(1, "properties: must be an object, to take other columns in".to_owned())]);
    }

    #[test]
    fn columns_of_another_kind_are_the_servers_to_refuse() {
        let mut decoder = csv_of(&["distinct_id", "last_seen", "plan"], Kind::Profiles, false);
        assert_eq!(flush(&mut *decoder, &["a,never,free"], "distinct_id"), (vec!["a".to_owned()], vec![]));
    }
}
