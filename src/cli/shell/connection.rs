//! The shell's connection: one session for all that is typed. When it breaks, a new connection is made, and its user is told whether
//! the session has lived on.

use std::time::Duration;

use crate::cli::client::{Client, ServerArgs, Session};
use crate::error::{Error, ErrorKind, Result};
use crate::proto::v1::ServerInfo;

/// How long a server that is started again is waited for, and how often it is called meanwhile.
const RECONNECT_FOR: Duration = Duration::from_secs(10);
const RECONNECT_EVERY: Duration = Duration::from_millis(250);

/// A connection to a server, in a session.
#[derive(Debug)]
pub(super) struct Connection {
    args: ServerArgs,
    client: Client,
    session: Option<Session>,
    info: ServerInfo,
}

/// What is left of a connection that a call has failed on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// All: the connection is good.
    All,
    /// There is a new connection, in the same session.
    Session,
    /// There is a new connection, in a new session.
    Nothing,
}

impl Connection {
    /// Connects to the server, and begins a session.
    pub(super) async fn open(args: ServerArgs) -> Result<Self> {
        let mut client = Client::connect_once(&args).await?;
        let (session, info) = client.enter(None).await?;
        Ok(Self { args, client, session, info })
    }

    /// Where it goes.
    pub(super) fn args(&self) -> &ServerArgs {
        &self.args
    }

    /// What the server has said of itself.
    pub(super) fn info(&self) -> &ServerInfo {
        &self.info
    }

    /// The connection, in the session.
    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Asks the server again what it is.
    pub(super) async fn refresh(&mut self) -> Result<&ServerInfo> {
        (self.session, self.info) = self.client.enter(self.session.clone()).await?;
        Ok(&self.info)
    }

    /// What there is to do after `error`: only what says that the server could not be reached, or that the session is over, makes it
    /// look. A server that is gone is waited for.
    pub(super) async fn after(&mut self, error: &Error) -> Result<Left> {
        if error.kind() == ErrorKind::NotFound && error.message().starts_with("the session has ended") {
            (self.session, self.info) = self.client.enter(None).await?;
            return Ok(Left::Nothing);
        }
        let known = self.session.clone();
        if error.kind() == ErrorKind::FailedPrecondition && error.message().contains("session") {
            // Its token may be too old.
            self.refresh().await?;
            return Ok(if self.session == known { Left::All } else { Left::Nothing });
        }
        if error.kind() != ErrorKind::Unavailable {
            return Ok(Left::All);
        }
        if self.client.enter(known.clone()).await.is_ok_and(|(session, _)| session == known) {
            return Ok(Left::All);
        }
        let deadline = tokio::time::Instant::now() + RECONNECT_FOR;
        loop {
            match self.reconnect().await {
                Ok(left) => return Ok(left),
                // It is there, and does not let us in any more.
                Err(error) if error.kind() != ErrorKind::Unavailable => return Err(error),
                Err(error) if tokio::time::Instant::now() >= deadline => return Err(error),
                Err(_) => tokio::time::sleep(RECONNECT_EVERY).await,
            }
        }
    }

    async fn reconnect(&mut self) -> Result<Left> {
        let mut client = Client::connect_once(&self.args).await?;
        let known = self.session.clone();
        let (session, info) = client.enter(known.clone()).await?;
        let left = if session.is_some() && session == known { Left::Session } else { Left::Nothing };
        (self.client, self.session, self.info) = (client, session, info);
        Ok(left)
    }

    /// Ends the session, so that the server need not wait until it is idle for too long.
    pub(super) async fn close(mut self) {
        if self.session.is_some() {
            // It ends by itself, too.
            drop(self.client.close_session().await);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::fake::{self, Script};

    #[tokio::test]
    async fn a_session_is_taken_up_and_known_again() {
        let script = Script { session: Some("a".to_owned()), ..Script::default() };
        let (server, _) = fake::start(script).await;
        let mut connection = Connection::open(server).await.unwrap();
        assert_eq!(connection.info().version, "1.2.3");
        let session = connection.session.clone();
        assert!(session.is_some());

        // An error of the statement says nothing about the connection, and one of the server is looked at.
        assert_eq!(connection.after(&Error::invalid("no")).await.unwrap(), Left::All);
        assert_eq!(connection.after(&Error::new(ErrorKind::Unavailable, "no")).await.unwrap(), Left::All);
        assert_eq!(connection.session, session);

        assert_eq!(connection.reconnect().await.unwrap(), Left::Session);
        let ended = Error::not_found("the session has ended: it was closed");
        assert_eq!(connection.after(&ended).await.unwrap(), Left::Nothing);
    }

    #[tokio::test]
    async fn a_server_that_was_started_again_has_another_session() {
        let script = |name: &str| Script { session: Some(name.to_owned()), ..Script::default() };
        let (server, _) = fake::start(script("a")).await;
        let mut connection = Connection::open(server).await.unwrap();
        let (server, _) = fake::start(script("b")).await;
        connection.args = server;
        assert_eq!(connection.reconnect().await.unwrap(), Left::Nothing);
        assert_eq!(connection.after(&Error::new(ErrorKind::Unavailable, "no")).await.unwrap(), Left::All);
    }
}
