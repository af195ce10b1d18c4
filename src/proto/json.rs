//! How fields of the messages are written in JSON where it is not the plain way: enums as short lowercase words, times in
//! RFC 3339, bytes in base64. Each module is the `serde(with = …)` of the fields that `proto/build.rs` lists.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An enum field: `TABLE_KIND_EVENTS` is `"events"`; the unspecified value is `null`.
macro_rules! enum_field {
    ($module:ident, $type:ident, $prefix:literal) => {
        pub(crate) mod $module {
            use super::{Deserialize, Deserializer, Serializer};
            use crate::proto::v1::$type;

            pub(crate) fn serialize<S: Serializer>(value: &i32, serializer: S) -> Result<S::Ok, S::Error> {
                let value = $type::try_from(*value).unwrap_or_default();
                if value == $type::Unspecified {
                    return serializer.serialize_none();
                }
                let name = value.as_str_name();
                serializer.serialize_str(&name.strip_prefix($prefix).unwrap_or(name).to_lowercase())
            }

            pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
                let Some(text) = Option::<String>::deserialize(deserializer)? else {
                    return Ok($type::Unspecified as i32);
                };
                let name = format!("{}{}", $prefix, text.to_uppercase());
                match $type::from_str_name(&name) {
                    Some(value) => Ok(value as i32),
                    None => Err(super::unknown_word(&text, stringify!($module))),
                }
            }
        }
    };
}

enum_field!(commit, Commit, "COMMIT_");
enum_field!(extra_columns, ExtraColumns, "EXTRA_COLUMNS_");
enum_field!(ingest_mode, IngestMode, "INGEST_MODE_");
enum_field!(on_duplicate, OnDuplicate, "ON_DUPLICATE_");
enum_field!(progress, Progress, "PROGRESS_");
enum_field!(query_kind, QueryKind, "QUERY_KIND_");
enum_field!(query_outcome, QueryOutcome, "QUERY_OUTCOME_");
enum_field!(query_state, QueryState, "QUERY_STATE_");
enum_field!(table_kind, TableKind, "TABLE_KIND_");

fn unknown_word<E: serde::de::Error>(text: &str, what: &str) -> E {
    E::custom(format!("`{text}` is not a {}", what.replace('_', " ")))
}

/// A point in time, as `"2024-01-31T12:00:00Z"`.
pub(crate) mod timestamp {
    use super::{Deserialize, Deserializer, Serialize, Serializer};
    use prost_types::Timestamp;

    #[expect(clippy::ref_option, reason = "serde's `with` passes a reference to the field")]
    pub(crate) fn serialize<S: Serializer>(value: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
        value.as_ref().map(ToString::to_string).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
        text.parse().map(Some).map_err(|_| super::bad_time(&text))
    }
}

fn bad_time<E: serde::de::Error>(text: &str) -> E {
    E::custom(format!("`{text}` is not a time like 2024-01-31T12:00:00Z"))
}

/// Bytes, in base64.
pub(crate) mod base64_bytes {
    use super::{Deserialize, Deserializer, Serializer};
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    use bytes::Bytes;
    use serde::de::Error as _;

    pub(crate) fn serialize<S: Serializer>(value: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(value))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64_STANDARD.decode(&text).map(Bytes::from).map_err(|_| D::Error::custom("not base64"))
    }
}
