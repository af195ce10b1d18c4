//! The kinds of tables, and the fixed columns of the managed ones.

use crate::proto::v1::TableKind;

/// The kind of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Product events, keyed by `insert_id`.
    Events,
    /// User profiles, keyed by `distinct_id`.
    Profiles,
    /// A plain table, made by SQL or by generic ingest.
    Table,
    /// A view.
    View,
}

/// One column of a managed kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManagedColumn {
    /// The name, as the table has it.
    pub name: &'static str,
    /// The DuckDB type.
    pub sql_type: &'static str,
    /// Whether the column may be null.
    pub nullable: bool,
}

const fn column(name: &'static str, sql_type: &'static str, nullable: bool) -> ManagedColumn {
    ManagedColumn { name, sql_type, nullable }
}

const EVENTS: &[ManagedColumn] = &[
    column("event_name", "VARCHAR", false),
    column("event_time", "TIMESTAMP", false),
    column("distinct_id", "VARCHAR", false),
    column("insert_id", "VARCHAR", false),
    column("properties", "JSON", true),
];

const PROFILES: &[ManagedColumn] = &[
    column("distinct_id", "VARCHAR", false),
    column("properties", "JSON", true),
    column("last_seen", "TIMESTAMP", true),
];

impl Kind {
    /// The columns of a managed kind, in the table's order; none for the others.
    pub fn columns(self) -> &'static [ManagedColumn] {
        match self {
            Self::Events => EVENTS,
            Self::Profiles => PROFILES,
            Self::Table | Self::View => &[],
        }
    }

    /// The key of a managed kind: unique in the table.
    pub fn key(self) -> Option<&'static str> {
        match self {
            Self::Events => Some("insert_id"),
            Self::Profiles => Some("distinct_id"),
            Self::Table | Self::View => None,
        }
    }

    /// Whether rows enter through ingest only, with a key and a `_metadata` row.
    pub fn is_managed(self) -> bool {
        self.key().is_some()
    }

    /// The word for it: in `_metadata`, in messages and in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Profiles => "profiles",
            Self::Table => "table",
            Self::View => "view",
        }
    }

    /// The kind that `word` names.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Events, Self::Profiles, Self::Table, Self::View].into_iter().find(|kind| kind.word() == word)
    }

    /// The managed kind whose columns are exactly `names`, in any order and case.
    pub fn of_columns<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut names: Vec<String> = names.into_iter().map(str::to_ascii_lowercase).collect();
        names.sort_unstable();
        [Self::Events, Self::Profiles].into_iter().find(|kind| {
            let mut columns: Vec<&str> = kind.columns().iter().map(|column| column.name).collect();
            columns.sort_unstable();
            columns == names
        })
    }
}

impl From<Kind> for TableKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Events => Self::Events,
            Kind::Profiles => Self::Profiles,
            Kind::Table => Self::Table,
            Kind::View => Self::View,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_tell_the_kind() {
        let events = ["insert_id", "EVENT_NAME", "event_time", "distinct_id", "properties"];
        assert_eq!(Kind::of_columns(events), Some(Kind::Events));
        assert_eq!(Kind::of_columns(["distinct_id", "properties", "last_seen"]), Some(Kind::Profiles));
        assert_eq!(Kind::of_columns(["distinct_id", "properties"]), None);
        assert_eq!(Kind::of_columns(events.into_iter().chain(["extra"])), None);
    }

    #[test]
    fn words_name_kinds() {
        for kind in [Kind::Events, Kind::Profiles, Kind::Table, Kind::View] {
            assert_eq!(Kind::from_word(kind.word()), Some(kind));
        }
        assert_eq!(Kind::from_word("tables"), None);
    }
}
