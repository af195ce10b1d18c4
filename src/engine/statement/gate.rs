//! The gate: statements that are refused to everybody, those that only make sense in a session, and classes of statements.

use duckdb_neo::connection::Connection;
use duckdb_neo::query_result::StatementType;

use super::scan::{self, Setting};
use super::targets::{self, Target, Verb};
use crate::engine::work::Work;
use crate::error::{Error, ErrorKind, Result};

impl Work {
    /// Refuses what would harm everybody.
    pub(super) fn refuse(&self, statement_type: StatementType, sql: &str) -> Result<()> {
        let forbidden = |what: &str| {
            let message = format!("{what} is not allowed: it would change the server for everybody");
            Err(Error::new(ErrorKind::PermissionDenied, message))
        };
        match statement_type {
            StatementType::Attach => forbidden("ATTACH"),
            StatementType::Detach => forbidden("DETACH"),
            StatementType::Load | StatementType::Extension | StatementType::UpdateExtensions => {
                forbidden("loading extensions")
            }
            StatementType::Export | StatementType::CopyDatabase => forbidden("EXPORT and COPY DATABASE"),
            StatementType::Connect | StatementType::Disconnect | StatementType::ExternalResource => {
                forbidden("CONNECT")
            }
            StatementType::Set if scan::setting(self.connection(), sql)? == Setting::Other => {
                forbidden("a setting other than TimeZone, schema, search_path or a variable")
            }
            StatementType::Pragma | StatementType::Call if !scan::only_looks(self.connection(), sql)? => {
                forbidden("a PRAGMA or CALL that does more than look")
            }
            StatementType::Create => match scan::creates(self.connection(), sql, &["secret", "trigger"])? {
                Some(what) => Err(Error::new(
                    ErrorKind::PermissionDenied,
                    format!("CREATE {} is not offered: it would act with the rights of others", what.to_uppercase()),
                )),
                None => Ok(()),
            },
            StatementType::Explain => self.refuse_explained(sql),
            // An EXECUTE would hide what it runs from every check.
            StatementType::Prepare | StatementType::Execute => Err(Error::unimplemented(
                "PREPARE and EXECUTE are not offered in SQL: the protocol's prepared statements are",
            )),
            _ => Ok(()),
        }
    }

    /// EXPLAIN ANALYZE runs what it explains, and nothing else here would look at that.
    fn refuse_explained(&self, sql: &str) -> Result<()> {
        let (explained, analyzes) = scan::explained(self.connection(), sql)?;
        let statement_type = super::single(self.connection(), explained)?.get_type()?;
        let targets = targets::of(&scan::tokens(self.connection(), explained)?);
        refuse_copy_from(&targets)?;
        if !analyzes || (statement_type == StatementType::Select && targets.is_empty()) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::PermissionDenied, "EXPLAIN ANALYZE is for queries: it would run the statement"))
    }
}

/// COPY FROM: DuckDB reads the file while it binds the statement, before the guard hears of it; and its own files it always may.
pub(super) fn refuse_copy_from(targets: &[Target]) -> Result<()> {
    if targets.iter().any(|target| target.verb == Verb::CopyInto) {
        return Err(Error::new(
            ErrorKind::PermissionDenied,
            "COPY FROM is not offered, as it reads files on the server: `merganser ingest` sends them",
        ));
    }
    Ok(())
}

/// Whether a statement leaves something behind that only its session has.
pub(super) fn belongs_to_session(connection: &Connection, statement_type: StatementType, sql: &str) -> Result<bool> {
    match statement_type {
        StatementType::Set => Ok(scan::setting(connection, sql)? != Setting::GlobalTimeZone),
        StatementType::VariableSet | StatementType::Transaction => Ok(true),
        StatementType::Create | StatementType::CreateFunc => scan::creates_temporary(connection, sql),
        _ => Ok(false),
    }
}

/// Statements whose answer is a number of rows, unless they say RETURNING.
pub(super) fn changes_rows(statement_type: StatementType) -> bool {
    matches!(
        statement_type,
        StatementType::Insert
            | StatementType::Update
            | StatementType::Delete
            | StatementType::MergeInto
            | StatementType::Copy
    )
}

/// Statements after which a managed table may be gone, or hold fewer rows.
pub(super) fn may_change_tables(statement_type: StatementType) -> bool {
    matches!(
        statement_type,
        StatementType::Delete
            | StatementType::Drop
            | StatementType::Alter
            | StatementType::Select
            | StatementType::Multi
    )
}

/// Statements that must or should not run inside a transaction: CHECKPOINT, VACUUM, PRAGMA.
pub(super) fn is_maintenance(statement_type: StatementType) -> bool {
    !may_change_tables(statement_type)
        && !matches!(
            statement_type,
            StatementType::Create
                | StatementType::CreateFunc
                | StatementType::Insert
                | StatementType::Update
                | StatementType::MergeInto
        )
}

pub(super) fn has_no_rows(statement_type: StatementType) -> bool {
    matches!(
        statement_type,
        StatementType::Create
            | StatementType::CreateFunc
            | StatementType::Drop
            | StatementType::Alter
            | StatementType::Set
            | StatementType::VariableSet
            | StatementType::Transaction
            | StatementType::Vacuum
    )
}
