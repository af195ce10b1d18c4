//! How sizes and durations are written: each value in the largest unit that holds it exactly, so that what is printed reads
//! back as the same value. (`ByteSize` by itself writes one decimal.)

/// Bytes, as `512MiB`; a plain number is bytes.
pub(super) mod size {
    use bytesize::ByteSize;
    use serde::de::{Error as _, Unexpected};
    use serde::{Deserialize, Deserializer, Serializer};

    const UNITS: [(u64, &str); 4] = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];

    /// A number or a text: what TOML and the environment can hold.
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a size like 512MiB")]
    enum Written {
        Number(u64),
        Text(String),
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives the signature")]
    pub(in crate::config) fn serialize<S: Serializer>(value: &ByteSize, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&write(*value))
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
        match Written::deserialize(deserializer)? {
            Written::Number(bytes) => Ok(ByteSize(bytes)),
            Written::Text(text) => {
                text.parse().map_err(|_| D::Error::invalid_value(Unexpected::Str(&text), &"a size like 512MiB"))
            }
        }
    }

    /// `value` in the largest unit that holds it exactly.
    pub(in crate::config) fn write(value: ByteSize) -> String {
        let bytes = value.as_u64();
        match UNITS.into_iter().find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit)) {
            Some((unit, name)) => format!("{}{name}", bytes / unit),
            None => format!("{bytes}B"),
        }
    }
}

/// A secret, which is never written: only whether there is one.
pub(super) fn secret<S: serde::Serializer>(value: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(if value.is_empty() { "" } else { "(set)" })
}

/// A span of time, as `30s` or `1h 30m`.
pub(super) mod duration {
    use std::time::Duration;

    use humantime_serde::re::humantime;
    use serde::de::{Error as _, Unexpected};
    use serde::{Deserialize, Deserializer, Serializer};

    /// A text only: a plain number would not tell its unit.
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a duration like 30s")]
    enum Written {
        Text(String),
    }

    pub(in crate::config) fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(*value))
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let Written::Text(text) = Written::deserialize(deserializer)?;
        humantime::parse_duration(&text)
            .map_err(|_| D::Error::invalid_value(Unexpected::Str(&text), &"a duration like 30s"))
    }
}

#[cfg(test)]
mod tests {
    use bytesize::ByteSize;

    use super::size;

    #[test]
    fn sizes_are_written_exactly() {
        for (bytes, text) in [
            (0, "0B"),
            (1000, "1000B"),
            (3584 << 10, "3584KiB"),
            (1 << 30, "1GiB"),
            ((1 << 30) + (1 << 20), "1025MiB"),
            (5 << 40, "5TiB"),
        ] {
            assert_eq!(size::write(ByteSize(bytes)), text);
            assert_eq!(text.parse(), Ok(ByteSize(bytes)));
        }
    }
}
