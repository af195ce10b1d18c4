//! Statements: what a DoGet streams, and running a statement once for its effect.

use std::time::Instant;

use super::encode::Outgoing;
use super::ticket::Ticket;
use super::{State, metadata};
use crate::engine::{Executed, Execution, Started};
use crate::error::Result;
use crate::ingest;

/// The rows of a ticket.
pub(super) async fn get(state: &State, ticket: Ticket, deadline: Option<Instant>) -> Result<Outgoing> {
    match ticket {
        Ticket::Query(sql) => match state.engine.query(sql.clone(), deadline).await? {
            Started::Rows(rows) => Ok(rows.into()),
            Started::Change => Ok(execute(state, sql, deadline).await?.into()),
        },
        Ticket::Table(name) => Ok(state.engine.scan(name, deadline).await?.into()),
        Ticket::Result(handle) if handle.is_empty() => Ok(Executed::default().into()),
        Ticket::Result(handle) => Ok(state.results.find(&handle)?.into()),
        Ticket::Metadata(command) => metadata::rows(state, command).await,
    }
}

/// Runs a statement once, to its end. An INSERT into a managed table is an ingest of the rows that it gives.
pub(super) async fn execute(state: &State, sql: String, deadline: Option<Instant>) -> Result<Executed> {
    match state.engine.execute(sql, deadline).await? {
        Execution::Done(executed) => Ok(executed),
        Execution::Insert(insert) => {
            let outcome = ingest::insert(&state.engine, &state.budget, insert, deadline).await?;
            Ok(Executed { changed: Some(outcome.inserted + outcome.replaced), ..Executed::default() })
        }
    }
}
