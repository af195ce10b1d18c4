//! `merganser health`: what the operations port of a server says, for whoever has no other program to ask it: the health check of a
//! container holds nothing but this binary.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::output;
use crate::error::{Error, ErrorKind, Result};

/// The time of one answer: more than `ops.probe_timeout`, within which the server knows what to say.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Bytes of an answer; the server says it in a line.
const ANSWER_BYTES_MAX: usize = 4096;

/// Ask the operations port of a server whether the server works
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:\n  \
    merganser health 127.0.0.1:8816\n  \
    merganser health --ready 127.0.0.1:8816")]
pub(super) struct Args {
    /// Address of the operations port, which the server has as ops.listen
    #[arg(value_name = "HOST:PORT", env = "MERGANSER_OPS_LISTEN")]
    address: String,

    /// Ask whether calls should go there (/readyz), not whether the process works (/healthz)
    #[arg(long)]
    ready: bool,
}

pub(super) async fn run(args: Args) -> Result<()> {
    let path = if args.ready { "/readyz" } else { "/healthz" };
    output::print(&ask(&args.address, path, ANSWER_MAX).await?)
}

/// What the port at `address` says of `path`, if that is good.
///
/// # Errors
/// `Unavailable` with what it says, if that is not good or nothing.
async fn ask(address: &str, path: &str, time: Duration) -> Result<String> {
    let unavailable = |why: String| Error::new(ErrorKind::Unavailable, format!("{address} {why}"));
    let (status, answer) = match tokio::time::timeout(time, get(address, path)).await {
        Ok(Ok(answered)) => answered,
        Ok(Err(error)) => return Err(unavailable(format!("gives no answer: {error}"))),
        Err(_) => return Err(unavailable(format!("gives no answer in {} s", time.as_secs_f32()))),
    };
    let answer = String::from_utf8_lossy(&answer).trim().to_owned();
    if status.is_success() { Ok(answer) } else { Err(unavailable(format!("answers {}: {answer}", status.as_u16()))) }
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

async fn get(address: &str, path: &str) -> Result<(StatusCode, Bytes), Cause> {
    // Linux takes an address that stands for all, as a server listens on, for this machine.
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::get(path).header(HOST, address).body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let answer = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await?.to_bytes();
    connection.abort();
    Ok((status, answer))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// What `ask` makes of a server that sends `answer` to the first request, and keeps the connection open.
    async fn asked(answer: String) -> Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 1024];
            let length = stream.read(&mut request).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            (String::from_utf8_lossy(&request[..length]).into_owned(), stream)
        });
        let said = ask(&address, "/readyz", Duration::from_millis(500)).await;
        let (request, _stream) = server.await.unwrap();
        assert!(request.starts_with("GET /readyz HTTP/1.1\r\n"), "{request}");
        assert!(request.contains(&format!("\r\nhost: {address}\r\n")), "{request}");
        said
    }

    fn http(status: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    }

    #[tokio::test]
    async fn good_is_what_the_server_says_is_good() {
        assert_eq!(asked(http("200 OK", "{\"status\":\"ready\"}\n")).await.unwrap(), "{\"status\":\"ready\"}");
        for (answer, says) in [
            (
                http("503 Service Unavailable", "{\"status\":\"not ready\"}\n"),
                "answers 503: {\"status\":\"not ready\"}",
            ),
            (http("404 Not Found", "what?"), "answers 404: what?"),
            (http("200 OK", &"x".repeat(ANSWER_BYTES_MAX + 1)), "gives no answer: length limit exceeded"),
            ("* OK IMAP4 ready\r\n".to_owned(), "gives no answer: invalid HTTP version parsed"),
            (String::new(), "gives no answer in 0.5 s"),
        ] {
            let error = asked(answer).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable);
            assert!(error.message().contains(says), "{error} instead of {says}");
        }
    }

    #[tokio::test]
    async fn nobody_is_not_good() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        for address in [&address, "no address"] {
            let error = ask(address, "/healthz", ANSWER_MAX).await.unwrap_err();
            assert!(error.message().starts_with(&format!("{address} gives no answer: ")), "{error}");
        }
    }
}
