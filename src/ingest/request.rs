//! What a client asks of an ingest, as checked values.

use jiff::civil::Date;

use super::coerce::Extra;
use crate::engine::{Provenance, TablePlace};
use crate::error::{Error, Result};
use crate::proto::v1;
use crate::tables::{Kind, TableName};

/// What happens to the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// A new table is made; it must not be there.
    #[default]
    Create,
    /// Rows are added; the table must be there.
    Append,
    /// Rows are added; the table is made if it is not there.
    CreateAppend,
    /// The stream takes the table's place.
    Replace,
}

/// What happens to a row whose key is already stored, or came before in the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDuplicate {
    /// The first row stays.
    #[default]
    Skip,
    /// The last row stays.
    Replace,
    /// The ingest fails.
    Error,
}

/// What a client asks of an ingest.
#[derive(Clone, Debug)]
pub struct Request {
    /// The table's name.
    pub table: String,
    /// Where the table is.
    pub place: TablePlace,
    /// The kind; none: told from the table that is there, or from the stream's columns.
    pub kind: Option<Kind>,
    /// What happens to the table.
    pub mode: Mode,
    /// What happens to duplicates.
    pub on_duplicate: OnDuplicate,
    /// What happens to columns that the kind does not have.
    pub extra: Extra,
    /// Where the rows came from.
    pub provenance: Provenance,
    /// The client's id for the whole stream.
    pub ingest_id: Option<String>,
    /// The stream is committed only when its last message says so.
    pub explicit_commit: bool,
    /// The server tells of its progress after every batch.
    pub every_batch: bool,
}

impl Request {
    /// A stream that makes a table of `kind`, with everything else as it is by default.
    pub fn create(kind: Option<Kind>, table: &str) -> Self {
        Self {
            table: table.to_owned(),
            place: TablePlace::default(),
            kind,
            mode: Mode::default(),
            on_duplicate: OnDuplicate::default(),
            extra: Extra::Refuse,
            provenance: Provenance::default(),
            ingest_id: None,
            explicit_commit: false,
            every_batch: false,
        }
    }
}

impl TryFrom<v1::Ingest> for Request {
    type Error = Error;

    fn try_from(message: v1::Ingest) -> Result<Self> {
        if message.table.is_empty() {
            return Err(Error::invalid("the ingest names no table"));
        }
        let kind = match message.kind() {
            v1::TableKind::Unspecified => None,
            v1::TableKind::Events => Some(Kind::Events),
            v1::TableKind::Profiles => Some(Kind::Profiles),
            v1::TableKind::Table => Some(Kind::Table),
            v1::TableKind::View => {
                return Err(Error::invalid("rows cannot be stored in a view: kind is events, profiles or table"));
            }
        };
        if kind.is_some_and(Kind::is_managed) {
            TableName::parse(&message.table)?;
        }
        let mode = match message.mode() {
            v1::IngestMode::Unspecified | v1::IngestMode::Create => Mode::Create,
            v1::IngestMode::Append => Mode::Append,
            v1::IngestMode::CreateAppend => Mode::CreateAppend,
            v1::IngestMode::Replace => Mode::Replace,
        };
        let on_duplicate = match message.on_duplicate() {
            v1::OnDuplicate::Unspecified | v1::OnDuplicate::Skip => OnDuplicate::Skip,
            v1::OnDuplicate::Replace => OnDuplicate::Replace,
            v1::OnDuplicate::Error => OnDuplicate::Error,
        };
        let extra = match message.extra() {
            v1::ExtraColumns::Unspecified | v1::ExtraColumns::Refuse => Extra::Refuse,
            v1::ExtraColumns::Properties => Extra::FoldIntoProperties,
        };
        let every_batch = message.progress() == v1::Progress::EveryBatch;
        let explicit_commit = message.commit() == v1::Commit::Explicit;
        let ingest_id = message.ingest_id.as_deref().map(parse_id).transpose()?;
        let provenance = message.metadata.map(Provenance::try_from).transpose()?.unwrap_or_default();
        if let (Some(from), Some(to)) = (provenance.from_date, provenance.to_date)
            && from > to
        {
            return Err(Error::invalid("metadata.from_date is after metadata.to_date"));
        }
        Ok(Self {
            table: message.table,
            place: TablePlace::default(),
            kind,
            mode,
            on_duplicate,
            extra,
            provenance,
            ingest_id,
            explicit_commit,
            every_batch,
        })
    }
}

/// The id in one spelling, so that the same UUID is the same id.
fn parse_id(id: &str) -> Result<String> {
    let shown: String = id.chars().take(64).collect();
    let id = uuid::Uuid::try_parse(id).map_err(|_| Error::invalid(format!("ingest_id {shown:?} is not a UUID")))?;
    Ok(id.hyphenated().to_string())
}

impl TryFrom<v1::IngestMetadata> for Provenance {
    type Error = Error;

    fn try_from(message: v1::IngestMetadata) -> Result<Self> {
        let fetched_at = message.fetched_at.map(|time| {
            let micros =
                time.seconds.checked_mul(1_000_000).and_then(|us| us.checked_add(i64::from(time.nanos) / 1000));
            micros.ok_or_else(|| Error::invalid("metadata.fetched_at is out of range"))
        });
        Ok(Self {
            fetched_at: fetched_at.transpose()?,
            from_date: message.from_date.as_deref().map(|day| parse_date("from_date", day)).transpose()?,
            to_date: message.to_date.as_deref().map(|day| parse_date("to_date", day)).transpose()?,
            filter_events: message.filter_events,
            filter_where: message.filter_where,
        })
    }
}

/// Days since 1970 of `YYYY-MM-DD`.
fn parse_date(field: &str, day: &str) -> Result<i32> {
    let shown: String = day.chars().take(32).collect();
    let bad = || Error::invalid(format!("metadata.{field}: {shown:?} is not a date like 2024-01-31"));
    let date: Date = day.parse().map_err(|_| bad())?;
    let days = date.since(Date::constant(1970, 1, 1)).map_err(|_| bad())?.get_days();
    Ok(days)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(json: &str) -> Result<Request> {
        Request::try_from(serde_json::from_str::<v1::Ingest>(json).unwrap())
    }

    #[test]
    fn json_says_what_protobuf_says() {
        let request = request(
            r#"{"kind": "events", "table": "purchases", "mode": "create_append", "on_duplicate": "replace", "extra": "properties",
                "commit": "explicit", "progress": "every_batch", "ingest_id": "0190C0DE-0000-7000-8000-000000000000",
                "metadata": {"fetched_at": "2024-02-01T00:00:00Z", "from_date": "2024-01-01", "to_date": "2024-01-31"}}"#,
        )
        .unwrap();
        assert_eq!((request.kind, request.mode), (Some(Kind::Events), Mode::CreateAppend));
        assert_eq!(request.on_duplicate, OnDuplicate::Replace);
        assert!(request.explicit_commit && request.every_batch);
        assert_eq!(request.ingest_id.as_deref(), Some("0190c0de-0000-7000-8000-000000000000"));
        assert_eq!(request.provenance.from_date, Some(19_723));
        assert_eq!(request.provenance.fetched_at, Some(1_706_745_600_000_000));
    }

    #[test]
    fn bad_values_are_named() {
        for (json, words) in [
            (r#"{"kind": "events", "table": "_x"}"#, "reserved"),
            (r#"{"table": ""}"#, "no table"),
            (r#"{"table": "x", "ingest_id": "7"}"#, "not a UUID"),
            (r#"{"table": "x", "metadata": {"from_date": "2024-13-01"}}"#, "2024-13-01"),
            (r#"{"kind": "view", "table": "x"}"#, "view"),
        ] {
            let error = request(json).unwrap_err();
            assert!(error.message().contains(words), "{json}: {error}");
        }
        assert!(serde_json::from_str::<v1::Ingest>(r#"{"table": "x", "mode": "upsert"}"#).is_err());
        assert!(serde_json::from_str::<v1::Ingest>(r#"{"table": "x", "colour": "red"}"#).is_err());
    }
}
