//! The decision: what a principal may do.

use std::borrow::Cow;

use super::{Access, Principal, Role};
use crate::error::{Error, ErrorKind, Result};

/// The schema whose tables need not be named with it.
const MAIN_SCHEMA: &str = "main";

/// A table as grants name it: those outside the main schema are `schema.table`.
pub fn table_name<'a>(schema: &str, table: &'a str) -> Cow<'a, str> {
    if schema.is_empty() || schema.eq_ignore_ascii_case(MAIN_SCHEMA) {
        Cow::Borrowed(table)
    } else {
        Cow::Owned(format!("{schema}.{table}"))
    }
}

/// Something that a caller asks for. Tables are named as grants name them: those outside the main schema `schema.table`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// Reading a table or view, or what is said about it.
    Read(&'a str),
    /// Creating, filling, changing or dropping a table.
    Write(&'a str),
    /// Writing what is in no table: a temporary table, a schema, a setting of the session.
    WriteOwn,
    /// Reading the catalog, which names all tables.
    ReadCatalog,
    /// What concerns everybody: others' queries and sessions, backups, maintenance.
    Administer(&'static str),
}

impl Principal {
    /// Whether it may do `operation`.
    ///
    /// # Errors
    /// `PermissionDenied`, which says what is missing.
    pub fn may(&self, operation: Operation<'_>) -> Result<()> {
        let (needed, allowed) = match operation {
            Operation::Read(table) => (Role::Reader, self.has(Access::Read, table)),
            Operation::Write(table) => (Role::Writer, self.has(Access::Write, table)),
            Operation::WriteOwn => (Role::Writer, true),
            Operation::ReadCatalog => (Role::Reader, !self.is_restricted()),
            Operation::Administer(_) => (Role::Admin, true),
        };
        if self.role >= needed && allowed { Ok(()) } else { Err(self.denied(operation, needed)) }
    }

    fn has(&self, access: Access, table: &str) -> bool {
        !self.is_restricted() || self.grants.iter().any(|grant| grant.covers(access, table))
    }

    fn denied(&self, operation: Operation<'_>, needed: Role) -> Error {
        let Self { name, role, .. } = self;
        let what = match operation {
            Operation::Read(table) => format!("read table {table:?}"),
            Operation::Write(table) => format!("write table {table:?}"),
            Operation::WriteOwn => "write".to_owned(),
            Operation::ReadCatalog => "read the catalog: it names tables that are not granted".to_owned(),
            Operation::Administer(what) => what.to_owned(),
        };
        let why = if *role < needed {
            format!("its role is {}, and that takes {}", role.word(), needed.word())
        } else {
            "no grant of the user's covers it".to_owned()
        };
        Error::new(ErrorKind::PermissionDenied, format!("user {name:?} may not {what} ({why})"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::access::Grant;

    /// The rules once more, as short as they can be said.
    fn model(principal: &Principal, operation: Operation<'_>) -> bool {
        let granted = |words: &[&str], table: &str| {
            principal.grants.is_empty()
                || principal.grants.iter().map(ToString::to_string).any(|grant| {
                    let (word, pattern) = grant.split_once(':').unwrap();
                    words.contains(&word) && (pattern == "*" || pattern.trim_end_matches('*') == &table[..1])
                })
        };
        match (principal.role, operation) {
            (Role::Admin, _) => true,
            (_, Operation::Administer(_)) | (Role::Reader, Operation::Write(_) | Operation::WriteOwn) => false,
            (_, Operation::Read(table)) => granted(&["read", "write"], table),
            (_, Operation::Write(table)) => granted(&["write"], table),
            (_, Operation::WriteOwn) => true,
            (_, Operation::ReadCatalog) => principal.grants.is_empty(),
        }
    }

    proptest! {
        #[test]
        fn what_is_allowed_is_what_the_model_allows(
            role in prop::sample::select(vec![Role::Reader, Role::Writer, Role::Admin]),
            grants in prop::collection::vec(
                (prop::sample::select(vec![Access::Read, Access::Write]), prop::sample::select(vec!["a*", "b*", "*"])), 0..4),
            table in "[abc][a-z]{0,3}",
            which in 0..5,
        ) {
            let grants: Vec<Grant> = grants.into_iter().map(|(access, pattern)| Grant::new(access, pattern)).collect();
            let principal = Principal::new("u", role).with_grants(grants);
            let operation = match which {
                0 => Operation::Read(&table),
                1 => Operation::Write(&table),
                2 => Operation::WriteOwn,
                3 => Operation::ReadCatalog,
                _ => Operation::Administer("x"),
            };
            prop_assert_eq!(principal.may(operation).is_ok(), model(&principal, operation));
        }
    }

    #[test]
    fn grants_match_without_regard_to_case_and_say_what_is_missing() {
        let grants: Vec<Grant> = ["read:Shop_*", "write:tmp_?"].iter().map(|text| text.parse().unwrap()).collect();
        let principal = Principal::new("ann", Role::Writer).with_grants(grants);
        assert!(principal.may(Operation::Read("SHOP_orders")).is_ok());
        assert!(principal.may(Operation::Read("tmp_1")).is_ok());
        assert!(principal.may(Operation::Write("TMP_1")).is_ok());
        let message = principal.may(Operation::Write("shop_orders")).unwrap_err().to_string();
        assert_eq!(message, "user \"ann\" may not write table \"shop_orders\" (no grant of the user's covers it)");
        let reader = Principal::new("bob", Role::Reader);
        let message = reader.may(Operation::Write("t")).unwrap_err().to_string();
        assert_eq!(message, "user \"bob\" may not write table \"t\" (its role is reader, and that takes writer)");
        assert!("all:x".parse::<Grant>().is_err() && "read:".parse::<Grant>().is_err());
    }
}
