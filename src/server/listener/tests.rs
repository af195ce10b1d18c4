//! Who is let in, and when: against a real port, with clients that say nothing, too little or the wrong thing.

use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A port whose connections are counted as they are handed on; each is kept open.
struct Port {
    address: SocketAddr,
    spoken: tokio::sync::mpsc::UnboundedReceiver<()>,
}

impl Port {
    async fn open(change: impl FnOnce(&mut config::Server)) -> Self {
        let mut settings = config::Server { listen: "127.0.0.1:0".to_owned(), ..config::Server::default() };
        change(&mut settings);
        let addresses = resolve(&settings.listen).await.unwrap();
        let listener = Listener::open(&settings, &addresses, None).await.unwrap();
        let address = listener.address().unwrap();
        let (sender, spoken) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut connections = std::pin::pin!(listener.into_stream());
            let mut open = Vec::new();
            while let Some(connection) = connections.next().await {
                let mut connection = connection.unwrap();
                // HTTP/2 reads what was read to look at it.
                let mut heard = [0; PREFACE.len()];
                connection.read_exact(&mut heard).await.unwrap();
                assert_eq!(heard, PREFACE);
                open.push(connection);
                sender.send(()).unwrap();
            }
        });
        Self { address, spoken }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Connects a client that speaks, and waits until it is handed on.
    async fn speak(&mut self) -> TcpStream {
        let mut stream = self.connect().await;
        stream.write_all(PREFACE).await.unwrap();
        tokio::time::timeout(Duration::from_secs(20), self.spoken.recv()).await.expect("it is heard").unwrap();
        stream
    }
}

/// Waits until the server has closed the connection.
async fn closed(stream: &mut TcpStream) {
    let end = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut [0; 1])).await;
    assert!(matches!(end.expect("it is closed"), Ok(0) | Err(_)));
}

#[tokio::test]
async fn who_says_nothing_or_too_little_is_closed_in_time() {
    let mut port = Port::open(|settings| settings.handshake_timeout = Duration::from_millis(300)).await;
    let mut silent = port.connect().await;
    let mut slow = port.connect().await;
    slow.write_all(&PREFACE[..10]).await.unwrap();
    let started = Instant::now();
    // Neither keeps another waiting.
    let mut spoken = port.speak().await;
    closed(&mut silent).await;
    closed(&mut slow).await;
    assert!(started.elapsed() >= Duration::from_millis(250));
    // Who has spoken may be silent.
    let end = tokio::time::timeout(Duration::from_millis(600), spoken.read(&mut [0; 1])).await;
    assert!(end.is_err());
}

#[tokio::test]
async fn what_is_not_http_2_is_closed_at_once() {
    let mut port = Port::open(|settings| settings.handshake_timeout = Duration::from_hours(1)).await;
    for said in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01\x02\x00", b"P ", b"\0"] {
        let mut stream = port.connect().await;
        stream.write_all(said).await.unwrap();
        closed(&mut stream).await;
    }
    let mut gone = port.connect().await;
    gone.shutdown().await.unwrap();
    closed(&mut gone).await;
    // In pieces it is the same.
    let mut stream = port.connect().await;
    for byte in PREFACE {
        stream.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    port.spoken.recv().await.unwrap();
}

#[tokio::test]
async fn the_oldest_that_is_silent_goes_first() {
    let mut port = Port::open(|settings| {
        settings.handshake_timeout = Duration::from_hours(1);
        settings.handshakes_max = 3;
    })
    .await;
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(port.connect().await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let _spoken = port.speak().await;
    closed(&mut silent[0]).await;
    // The place of one that has spoken is free again: the other two stay.
    let _spoken = port.speak().await;
    for stream in &mut silent[1..] {
        assert!(tokio::time::timeout(Duration::from_millis(50), stream.read(&mut [0; 1])).await.is_err());
    }
}

#[tokio::test]
async fn more_connections_than_allowed_are_closed() {
    let mut port = Port::open(|settings| settings.connections_max = 2).await;
    let first = port.speak().await;
    let _second = port.speak().await;
    let mut third = port.connect().await;
    closed(&mut third).await;
    drop(first);
    // The test's own end keeps the connections, so their places stay taken.
    let mut fourth = port.connect().await;
    closed(&mut fourth).await;
}

#[tokio::test]
async fn a_closed_connection_gives_its_place_back() {
    let mut port = Port::open(|settings| {
        settings.connections_max = 1;
        settings.handshake_timeout = Duration::from_millis(100);
    })
    .await;
    let mut silent = port.connect().await;
    closed(&mut silent).await;
    let _spoken = port.speak().await;
}

#[tokio::test]
async fn a_port_in_use_or_of_nobody_is_one_clear_line() {
    let settings = config::Server { listen: "127.0.0.1:0".to_owned(), ..config::Server::default() };
    let first = Listener::open(&settings, &resolve("127.0.0.1:0").await.unwrap(), None).await.unwrap();
    let address = first.address().unwrap();
    let settings = config::Server { listen: address.to_string(), ..settings };
    let error = Listener::open(&settings, &[address], None).await.unwrap_err();
    assert!(error.message().starts_with(&format!("cannot listen on {address}: ")), "{error}");
    let error = resolve("no-such-host.invalid:1").await.unwrap_err();
    assert!(error.message().starts_with("cannot listen on no-such-host.invalid:1: "), "{error}");
}

#[test]
fn logs_are_held_back() {
    let (mut throttle, mut lines) = (Throttle::default(), Vec::new());
    for _ in 0..5 {
        throttle.pass(|more| lines.push(more));
    }
    throttle.last = Instant::now().checked_sub(LOG_INTERVAL);
    throttle.pass(|more| lines.push(more));
    assert_eq!(lines, [0, 4]);
}
