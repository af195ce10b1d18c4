//! Tickets: what a client hands to DoGet. Ours are a `merganser.v1.Ticket` in an Any; SQL text and a packed
//! CommandStatementQuery are tickets too, so that one call is enough.

use arrow_flight::sql::{Any, Command as SqlCommand};
use bytes::Bytes;
use prost::Message;
use uuid::Uuid;

use super::flights::FlightId;
use super::session::transaction_id;
use crate::engine::TransactionId;
use crate::error::{Error, Result};
use crate::proto::v1;

const VERSION: u32 = 1;
const TYPE_URL: &str = "type.googleapis.com/merganser.v1.Ticket";

/// What a DoGet streams.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Ticket {
    /// The rows of a query, which runs now.
    Query(Query),
    /// A table.
    Table(String),
    /// The rows of a statement that has run; none: it had none.
    Result(Option<FlightId>),
    /// A Flight SQL metadata command.
    Metadata(SqlCommand),
}

/// A query to run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Query {
    pub(super) sql: String,
    /// The plan that was made of it.
    pub(super) flight: Option<FlightId>,
    /// The transaction that it runs in.
    pub(super) transaction: Option<TransactionId>,
    /// Whether parameters are bound to the plan.
    pub(super) bound: bool,
}

impl From<String> for Query {
    fn from(sql: String) -> Self {
        Self { sql, ..Self::default() }
    }
}

/// The ticket's bytes.
pub(super) fn encode(ticket: Ticket) -> Bytes {
    use v1::ticket::Ticket as Body;
    let body = match ticket {
        Ticket::Query(query) => Body::Query(v1::Query {
            sql: query.sql,
            flight: query.flight.map(id_bytes),
            transaction: query.transaction.map(id_bytes),
            bound: query.bound,
        }),
        Ticket::Table(name) => Body::Table(name),
        Ticket::Result(id) => Body::Result(id.map(id_bytes).unwrap_or_default()),
        Ticket::Metadata(command) => return command.into_any().encode_to_vec().into(),
    };
    let ticket = v1::Ticket { version: VERSION, ticket: Some(body) };
    Any { type_url: TYPE_URL.to_owned(), value: ticket.encode_to_vec().into() }.encode_to_vec().into()
}

/// The ticket of some bytes.
///
/// # Errors
/// `InvalidArgument` for what is neither one of ours nor text.
pub(super) fn decode(bytes: &Bytes) -> Result<Ticket> {
    if let Some(any) = decode_any(bytes) {
        if any.type_url == TYPE_URL {
            let ticket = v1::Ticket::decode(any.value)
                .map_err(|error| Error::invalid("the ticket is damaged").with_source(error))?;
            return from_message(ticket);
        }
        let type_url = any.type_url.clone();
        return match SqlCommand::try_from(any) {
            Ok(SqlCommand::CommandStatementQuery(query)) => {
                let transaction = transaction_id(query.transaction_id.as_ref())?;
                Ok(Ticket::Query(Query { transaction, ..query.query.into() }))
            }
            Ok(SqlCommand::TicketStatementQuery(ticket)) => decode(&ticket.statement_handle),
            Ok(SqlCommand::Unknown(_)) => Err(Error::invalid(format!("a ticket of type {type_url} is not known"))),
            Ok(command) => Ok(Ticket::Metadata(command)),
            Err(error) => Err(Error::invalid("the ticket is damaged").with_source(error)),
        };
    }
    match std::str::from_utf8(bytes) {
        Ok(sql) => Ok(Ticket::Query(sql.to_owned().into())),
        Err(_) => Err(Error::invalid("the ticket is neither one of this server's nor SQL text")),
    }
}

fn from_message(message: v1::Ticket) -> Result<Ticket> {
    use v1::ticket::Ticket as Body;
    if message.version != VERSION {
        return Err(Error::invalid(format!(
            "the ticket has version {}, this server knows version {VERSION}",
            message.version
        )));
    }
    match message.ticket {
        Some(Body::Query(query)) => Ok(Ticket::Query(Query {
            sql: query.sql,
            flight: query.flight.as_ref().map(parse_id).transpose()?,
            transaction: query.transaction.as_ref().map(parse_id).transpose()?,
            bound: query.bound,
        })),
        Some(Body::Table(name)) => Ok(Ticket::Table(name)),
        Some(Body::Result(id)) if id.is_empty() => Ok(Ticket::Result(None)),
        Some(Body::Result(id)) => parse_id(&id).map(Some).map(Ticket::Result),
        None => Err(Error::invalid("the ticket is empty")),
    }
}

fn id_bytes(id: Uuid) -> Bytes {
    Bytes::copy_from_slice(id.as_bytes())
}

fn parse_id(bytes: &Bytes) -> Result<Uuid> {
    Uuid::from_slice(bytes).map_err(|error| Error::invalid("the ticket is damaged").with_source(error))
}

/// The Any in `bytes`; none when they are something else. Text can be a valid message by accident, but not with such a URL.
pub(super) fn decode_any(bytes: &Bytes) -> Option<Any> {
    Any::decode(bytes.clone()).ok().filter(|any| any.type_url.starts_with("type.googleapis.com/"))
}

#[cfg(test)]
mod tests {
    use arrow_flight::sql::{CommandStatementQuery, ProstMessageExt};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tickets_come_back() {
        for ticket in [
            Ticket::Query("SELECT 1".to_owned().into()),
            Ticket::Query(Query {
                sql: "SELECT 1".into(),
                flight: Some(Uuid::new_v4()),
                transaction: Some(Uuid::new_v4()),
                bound: true,
            }),
            Ticket::Table("events".into()),
            Ticket::Result(Some(Uuid::new_v4())),
            Ticket::Result(None),
        ] {
            assert_eq!(decode(&encode(ticket.clone())).unwrap(), ticket);
        }
    }

    #[test]
    fn text_and_commands_are_tickets() {
        assert_eq!(
            decode(&Bytes::from_static(b"FROM events")).unwrap(),
            Ticket::Query("FROM events".to_owned().into())
        );
        let command = CommandStatementQuery { query: "SELECT 2".into(), transaction_id: None };
        let packed = Bytes::from(command.as_any().encode_to_vec());
        assert_eq!(decode(&packed).unwrap(), Ticket::Query("SELECT 2".to_owned().into()));
        assert!(decode(&Bytes::from_static(&[0xff, 0xfe, 0x00])).is_err());
    }

    #[test]
    fn other_versions_are_refused() {
        let ticket = v1::Ticket { version: 7, ticket: None };
        let any = Any { type_url: TYPE_URL.into(), value: ticket.encode_to_vec().into() };
        assert!(decode(&any.encode_to_vec().into()).unwrap_err().message().contains("version 7"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_ticket_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(decode(&Bytes::from(bytes)));
        }
    }
}
