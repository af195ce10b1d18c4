//! What answers at an address where no call is answered: for those who have the wrong port, or TLS on one side only.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Time that one look takes at most.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// How a client of HTTP/2 begins: its preface, and a frame of settings without any.
const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// Where a frame of HTTP/2 has its type, and the type of settings, with which a server begins.
const FRAME_TYPE: usize = 3;
const SETTINGS: u8 = 4;
/// The first byte of an alert of TLS.
const TLS_ALERT: u8 = 0x15;

/// What answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The port is closed.
    Nobody,
    /// It takes the connection, and says nothing.
    Silence,
    /// It takes the connection, and ends it.
    Closed,
    Tls,
    Http1,
    Http2,
    Other,
}

/// Greets whoever listens there.
pub(super) async fn look(host: &str, port: u16) -> Answer {
    match timeout(WAIT_MAX, greet(host.trim_matches(['[', ']']), port)).await {
        Ok(Ok(first)) => told_by(&first),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Answer::Nobody,
        Ok(Err(_)) => Answer::Closed,
        Err(_) => Answer::Silence,
    }
}

/// The first bytes of its answer.
async fn greet(host: &str, port: u16) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect((host, port)).await?;
    stream.write_all(GREETING).await?;
    let mut first = Vec::new();
    // Until it is known what it is, or ends.
    while first.len() <= FRAME_TYPE && stream.read_buf(&mut first).await? > 0 {}
    Ok(first)
}

fn told_by(first: &[u8]) -> Answer {
    match first {
        [] => Answer::Closed,
        [TLS_ALERT, 3, ..] => Answer::Tls,
        [b'H', b'T', b'T', b'P', ..] => Answer::Http1,
        _ if first.get(FRAME_TYPE) == Some(&SETTINGS) => Answer::Http2,
        _ => Answer::Other,
    }
}

impl Answer {
    /// What to tell a person who has called `server`, which is without TLS.
    pub(super) fn advice(self, server: &str) -> Option<String> {
        let address = server.split_once("://").map_or(server, |(_, address)| address);
        let advice = match self {
            Self::Nobody => {
                return Some(format!("cannot reach {server}: is the server running? start one with `merganser serve`"));
            }
            Self::Tls => format!("it speaks TLS: say grpc+tls://{address}"),
            Self::Http1 => "it is a web server, and no Flight server: is the port right?".to_owned(),
            Self::Silence => "it says nothing: is the port right?".to_owned(),
            Self::Closed => {
                format!("it ends the connection: does it want TLS (grpc+tls://{address}), or is it another port?")
            }
            Self::Other => "it is no Flight server: is the port right?".to_owned(),
            Self::Http2 => return None,
        };
        Some(format!("{server} does not answer as a Flight server: {advice}"))
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// What is said to somebody who calls a server that answers with these bytes; none: it says nothing.
    async fn advice(answer: Option<&'static [u8]>) -> Option<String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut greeting = vec![0; GREETING.len()];
            stream.read_exact(&mut greeting).await.unwrap();
            match answer {
                Some(bytes) => stream.write_all(bytes).await.unwrap(),
                None => std::future::pending().await,
            }
        });
        look("127.0.0.1", port).await.advice("grpc://a:1")
    }

    #[tokio::test]
    async fn who_answers_is_told() {
        let answers = "grpc://a:1 does not answer as a Flight server: ";
        for (bytes, told) in [
            (&b"\x15\x03\x03\0\x02\x02\x46"[..], Some("it speaks TLS: say grpc+tls://a:1")),
            (
                &b"HTTP/1.1 400 Bad Request\r\n"[..],
                Some("it is a web server, and no Flight server: is the port right?"),
            ),
            (&b"\0\0\x06\x04\0\0\0\0\0"[..], None),
            (&b"SSH-2.0-x\r\n"[..], Some("it is no Flight server: is the port right?")),
            (&b""[..], Some("it ends the connection: does it want TLS (grpc+tls://a:1), or is it another port?")),
        ] {
            assert_eq!(advice(Some(bytes)).await, told.map(|told| format!("{answers}{told}")));
        }
    }

    #[tokio::test]
    async fn nobody_and_silence_are_told() {
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        assert_eq!(look("[127.0.0.1]", port).await, Answer::Nobody);
        let told = advice(None).await.unwrap();
        assert!(told.ends_with("it says nothing: is the port right?"), "{told}");
    }
}
