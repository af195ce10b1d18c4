//! A connection from its first byte: TLS if there is any, and the preface that every client of HTTP/2 sends first. Only who has
//! spoken both within their time is handed on, so that whoever says nothing costs nobody else anything.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use metrics::{Gauge, gauge};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tonic::codegen::http::Request;
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::tls;
use crate::access::ClientCertificate;
use crate::telemetry::instruments;

/// What a client of HTTP/2 says first.
const PREFACE: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long, and for how many of its bytes, a client that is refused has the time to read why.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 64 << 10;

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    addresses: TcpConnectInfo,
    certificate: Option<ClientCertificate>,
}

impl Peer {
    /// Puts the peer that tonic has found into the request's extensions as what the rest of the crate looks for: the addresses as
    /// [`TcpConnectInfo`], with TLS and without, and the client's certificate, if it has shown one, as [`ClientCertificate`].
    pub(super) fn introduce<B>(mut request: Request<B>) -> Request<B> {
        let extensions = request.extensions_mut();
        if let Some(Self { addresses, certificate }) = extensions.remove::<Self>() {
            extensions.insert(addresses);
            if let Some(certificate) = certificate {
                extensions.insert(certificate);
            }
        }
        request
    }
}

/// A connection whose client speaks HTTP/2.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Either<TcpStream, Box<TlsStream<TcpStream>>>,
    /// How much of the preface, which was read to look at it, HTTP/2 has read again.
    replayed: usize,
    peer: Peer,
    /// One of `server.connections_max`.
    _place: OwnedSemaphorePermit,
    _counted: Counted,
}

/// Counts a connection among those that are open, as long as it lives.
#[derive(Debug)]
struct Counted(Gauge);

impl Counted {
    fn new() -> Self {
        let open = gauge!(instruments::CONNECTIONS);
        open.increment(1.0);
        Self(open)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

impl Connection {
    /// Hears what a new connection says first.
    ///
    /// # Errors
    /// `InvalidData` if it is not what a client of ours says.
    pub(super) async fn open(
        stream: TcpStream,
        address: SocketAddr,
        tls: Option<Arc<ServerConfig>>,
        place: OwnedSemaphorePermit,
    ) -> io::Result<Self> {
        // Without it every small answer waits 40 ms for the client's delayed acknowledgement.
        stream.set_nodelay(true)?;
        let addresses = TcpConnectInfo { local_addr: stream.local_addr().ok(), remote_addr: Some(address) };
        let mut peer = Peer { addresses, certificate: None };
        let mut stream = match tls {
            None => Either::Left(stream),
            Some(config) => {
                let stream = match TlsAcceptor::from(config).accept(stream).into_fallible().await {
                    Ok(stream) => stream,
                    Err((error, stream)) => {
                        linger(stream).await;
                        return Err(error);
                    }
                };
                let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
                peer.certificate = shown.and_then(|certificate| tls::common_name(certificate));
                Either::Right(Box::new(stream))
            }
        };
        hear_preface(&mut stream).await?;
        Ok(Self { stream, replayed: 0, peer, _place: place, _counted: Counted::new() })
    }
}

/// Waits until the client has read why it is refused: if the connection were closed while its words are under way, the reason would
/// be lost.
async fn linger(mut stream: TcpStream) {
    let read_out = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(LINGER_BYTES), &mut tokio::io::sink()).await
    };
    // It is over in any case.
    drop(tokio::time::timeout(LINGER, read_out).await);
}

async fn hear_preface(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let mut heard = [0; PREFACE.len()];
    let mut length = 0;
    while length < heard.len() {
        let more = stream.read(&mut heard[length..]).await?;
        if more == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        length += more;
        if !PREFACE.starts_with(&heard[..length]) {
            let why = match heard[0] {
                // The type of a record that begins a handshake.
                0x16 => "the client speaks TLS, and the server has none",
                _ => "the client does not speak HTTP/2",
            };
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
    }
    Ok(())
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.replayed < PREFACE.len() {
            let rest = &PREFACE[self.replayed..];
            let length = rest.len().min(into.remaining());
            into.put_slice(&rest[..length]);
            self.replayed += length;
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
