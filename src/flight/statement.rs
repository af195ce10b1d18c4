//! Statements: what a DoGet streams, and running a statement once for its effect.

use arrow::array::RecordBatch;
use futures::StreamExt;

use super::encode::Outgoing;
use super::flights::{FlightId, Plan};
use super::ticket::{Query, Ticket};
use super::{State, metadata};
use crate::engine::{Bound, Call, Executed, Execution, Owner, Rows, Started};
use crate::error::{Error, Result};
use crate::{batch, ingest};

/// The rows of a ticket.
pub(super) async fn get(state: &State, ticket: Ticket, call: Call) -> Result<Outgoing> {
    match ticket {
        Ticket::Query(query) => run(state, query, call).await,
        Ticket::Table(name) => Ok(state.engine.scan(name, &call).await?.into()),
        Ticket::Result(None) => Ok(Executed::default().into()),
        Ticket::Result(Some(id)) => Ok(state.flights.result(id, call.owner())?.into()),
        Ticket::Metadata(command) => metadata::rows(state, &call, command).await,
    }
}

/// Runs the plan that GetFlightInfo has made; plans again if it is gone.
async fn run(state: &State, query: Query, call: Call) -> Result<Outgoing> {
    let mut values = None;
    if let Some(id) = query.flight
        && let Some(Plan { mut rows, bound }) = state.flights.take_plan(id, call.owner())
    {
        if rows.start(call.deadline) {
            return Ok(watched(state, id, call.owner(), rows));
        }
        values = bound;
    }
    if query.bound && values.is_none() {
        return Err(Error::not_found(
            "the ticket has expired (query.plans_expire), or was read: execute the statement again",
        ));
    }
    let call = call.within(query.transaction);
    match state.engine.query_now(query.sql.clone(), values.clone(), &call).await? {
        Started::Rows(rows) => match query.flight {
            Some(id) => Ok(watched(state, id, call.owner(), rows)),
            None => Ok(rows.into()),
        },
        Started::Change => Ok(execute(state, query.sql, values, &call).await?.into()),
    }
}

/// The rows of a query that can be cancelled by its flight while it is read.
fn watched(state: &State, id: FlightId, owner: Owner, rows: Rows) -> Outgoing {
    let running = state.flights.run(id, owner, rows.canceller());
    let mut outgoing = Outgoing::from(rows);
    outgoing.batches = outgoing.batches.inspect(move |_| _ = &running).boxed();
    outgoing
}

/// Runs a statement once, to its end, or once for each row of parameters. An INSERT into a managed table is an ingest of the
/// rows that it gives.
pub(super) async fn execute(state: &State, sql: String, bound: Option<Bound>, call: &Call) -> Result<Executed> {
    let (call, tracked) = state.engine.track_update(&sql, call);
    let outcome = execute_tracked(state, sql, bound, &call).await;
    if let Some(tracked) = tracked {
        if let Ok(executed) = &outcome {
            let rows: usize = executed.batches.iter().map(RecordBatch::num_rows).sum();
            tracked.set_rows(executed.changed.unwrap_or(rows as u64));
            tracked.set_bytes(executed.batches.iter().map(|batch| batch::bytes(batch) as u64).sum());
        }
        tracked.end(&outcome);
    }
    outcome
}

async fn execute_tracked(state: &State, sql: String, bound: Option<Bound>, call: &Call) -> Result<Executed> {
    match state.engine.execute(sql.clone(), bound.clone(), call).await? {
        Execution::Done(executed) => Ok(executed),
        Execution::Insert(insert) => {
            let source = insert.source.clone();
            let inserted = ingest::insert(&state.engine, &state.budget, insert, bound, call).await;
            let outcome = inserted.map_err(|error| of_part(error, &source, &sql))?;
            Ok(Executed { changed: Some(outcome.inserted + outcome.replaced), ..Executed::default() })
        }
    }
}

/// The error of running a part of `sql`, with its place in the whole.
fn of_part(error: Error, part: &str, sql: &str) -> Error {
    let before = sql.find(part).map(|start| sql[..start].chars().count());
    let position = error.position().zip(before).map(|(position, before)| position + before);
    error.at(position)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_in_a_part_is_one_in_the_whole() {
        let error = || Error::invalid("no").at(Some(7));
        assert_eq!(of_part(error(), "SELECT x", "INSERT INTO é SELECT x").position(), Some(21));
        assert_eq!(of_part(error(), "SELECT  x", "INSERT INTO é SELECT x").position(), None);
        assert_eq!(of_part(Error::invalid("no"), "SELECT x", "SELECT x").position(), None);
    }
}
