//! GetFlightInfo, GetSchema and ListFlights: what there is to get, and the ticket for it.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use arrow_flight::{FlightDescriptor, FlightEndpoint, FlightInfo, SchemaResult, Ticket as FlightTicket};
use bytes::Bytes;

use super::command::{self, Command, Statement};
use super::encode::{schema_bytes, wire_schema};
use super::flights::Plan;
use super::prepared::Prepared;
use super::ticket::{self, Query, Ticket};
use super::{State, metadata, statement};
use crate::access::Operation;
use crate::engine::{Action, Bound, Call, Started};
use crate::error::{Error, Result};

/// What a descriptor leads to. A statement that changes something runs here, once: some clients never come for its rows.
pub(super) async fn flight_info(state: &State, descriptor: FlightDescriptor, call: &Call) -> Result<FlightInfo> {
    let command = command::decode(Some(&descriptor))?;
    let (schema, ticket, total_records) = match command {
        Command::Table(name) => table(state, name, call).await?,
        Command::Query(Statement { sql, transaction }) => {
            query(state, sql, None, &call.clone().within(transaction)).await?
        }
        Command::PreparedQuery(handle) => {
            let Prepared { sql, transaction, bound } = state.prepared.find(&handle, call.owner())?;
            query(state, sql, bound, &call.clone().within(transaction)).await?
        }
        Command::Metadata(command) => (metadata::schema(&command)?, Ticket::Metadata(command), -1),
        other => return Err(other.refuse("GetFlightInfo")),
    };
    let expires = matches!(ticket, Ticket::Result(Some(_))).then(|| state.flights.expiration());
    let mut info = build(descriptor, &schema, ticket, total_records)?;
    for endpoint in &mut info.endpoint {
        endpoint.expiration_time = expires.map(Into::into);
    }
    Ok(info)
}

async fn table(state: &State, name: String, call: &Call) -> Result<(SchemaRef, Ticket, i64)> {
    call.may(Operation::Read(&name))?;
    let table = state.engine.describe(name, call).await?;
    let rows = state.engine.row_count(table.name.clone(), call).await?;
    Ok((wire_schema(&table.arrow_schema), Ticket::Table(table.name), rows))
}

/// Plans a query, for its DoGet to run; runs anything else.
async fn query(state: &State, sql: String, bound: Option<Bound>, call: &Call) -> Result<(SchemaRef, Ticket, i64)> {
    if let Started::Rows(rows) = state.engine.query(sql.clone(), bound.clone(), call).await? {
        let schema = wire_schema(rows.schema());
        let is_bound = bound.is_some();
        let flight = Some(state.flights.keep_plan(Plan { rows, bound }, call.owner()));
        let ticket = Query { sql, flight, transaction: call.transaction, bound: is_bound };
        return Ok((schema, Ticket::Query(ticket), -1));
    }
    if let Err(full) = state.flights.check_results()
        && !matches!(state.engine.plan(sql.clone(), call).await?.action, Action::Change)
    {
        return Err(full);
    }
    let executed = statement::execute(state, sql, bound, call).await?;
    let schema = wire_schema(&executed.schema);
    let rows: usize = executed.batches.iter().map(arrow::array::RecordBatch::num_rows).sum();
    let records = executed.changed.map_or(rows as u64, |changed| changed);
    let id = state.flights.keep_result(executed, call.owner());
    Ok((schema, Ticket::Result(id), i64::try_from(records).unwrap_or(-1)))
}

/// The columns that a descriptor's rows have; nothing runs.
pub(super) async fn schema(state: &State, descriptor: FlightDescriptor, call: &Call) -> Result<SchemaResult> {
    let schema = match command::decode(Some(&descriptor))? {
        Command::Table(name) => {
            call.may(Operation::Read(&name))?;
            wire_schema(&state.engine.describe(name, call).await?.arrow_schema)
        }
        Command::Query(Statement { sql, transaction }) | Command::Update(Statement { sql, transaction }) => {
            planned_schema(state, sql, &call.clone().within(transaction)).await?
        }
        Command::PreparedQuery(handle) | Command::PreparedUpdate(handle) => {
            let Prepared { sql, transaction, .. } = state.prepared.find(&handle, call.owner())?;
            planned_schema(state, sql, &call.clone().within(transaction)).await?
        }
        Command::Metadata(command) => metadata::schema(&command)?,
        ingest @ Command::Ingest(..) => return Err(ingest.refuse("GetSchema")),
    };
    Ok(SchemaResult { schema: schema_bytes(&schema)? })
}

async fn planned_schema(state: &State, sql: String, call: &Call) -> Result<SchemaRef> {
    match state.engine.plan(sql, call).await?.action {
        Action::Read(schema) | Action::ChangeWithRows(Some(schema)) => Ok(wire_schema(&schema)),
        Action::Change => Ok(Arc::new(Schema::empty())),
        Action::ChangeWithRows(None) => {
            Err(Error::precondition("the columns of this statement are known only when it has run: use GetFlightInfo"))
        }
    }
}

/// One FlightInfo a table; `expression` is a LIKE pattern of names, all if it is empty.
pub(super) async fn list(state: &State, expression: &Bytes, call: &Call) -> Result<Vec<FlightInfo>> {
    let pattern = std::str::from_utf8(expression)
        .map_err(|_| Error::invalid("the criteria are a LIKE pattern of table names, in UTF-8"))?;
    let pattern = (!pattern.is_empty()).then(|| pattern.to_owned());
    let mut flights = Vec::new();
    for listing in state.engine.tables(None, pattern, call).await? {
        let description = match state.engine.describe(listing.name.clone(), call).await {
            Ok(description) => description,
            // A table dropped meanwhile, or a view over one: the others are listed all the same.
            Err(error) => {
                tracing::debug!(table = listing.name, %error, "not listed");
                continue;
            }
        };
        let descriptor = FlightDescriptor::new_path(vec![listing.name.clone()]);
        let schema = wire_schema(&description.arrow_schema);
        flights.push(build(descriptor, &schema, Ticket::Table(listing.name), listing.row_count.unwrap_or(-1))?);
    }
    Ok(flights)
}

/// One endpoint without a location: the client stays on its connection.
fn build(descriptor: FlightDescriptor, schema: &Schema, ticket: Ticket, total_records: i64) -> Result<FlightInfo> {
    let endpoint = FlightEndpoint::new().with_ticket(FlightTicket::new(ticket::encode(ticket)));
    let info = FlightInfo::new().try_with_schema(schema)?.with_descriptor(descriptor).with_endpoint(endpoint);
    Ok(info.with_total_records(total_records).with_total_bytes(-1).with_ordered(true))
}
