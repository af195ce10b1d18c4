//! Files of TLS, good and bad and changed, and what a handshake with them tells.

use futures::StreamExt;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tonic::codegen::http::Request;
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::*;
use crate::access::ClientCertificate;
use crate::config;
use crate::server::connection::{Connection, Peer};
use crate::server::listener::Listener;

/// A CA, and files of certificates that it has signed.
struct Ca {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "the CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        fs::write(folder.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { folder, issuer: Issuer::new(params, key) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes `<file>.pem` and `<file>.key` of somebody.
    fn sign(&self, file: &str, common_name: Option<&str>) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(name) = common_name {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.path(&format!("{file}.pem")), certificate.pem()).unwrap();
        fs::write(self.path(&format!("{file}.key")), key.serialize_pem()).unwrap();
    }

    fn config(&self) -> Config {
        let mut config = Config::default();
        config.tls.certificate = self.path("server.pem");
        config.tls.key = self.path("server.key");
        config
    }

    fn start(config: &Config) -> Result<Tls> {
        Tls::start(config, None, &Environment::default(), &[]).map(|tls| tls.expect("TLS is on"))
    }

    /// What a client trusts and shows.
    fn client(&self, shows: Option<&str>) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(read_certificates("ca", &self.path("ca.pem")).unwrap().remove(0)).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match shows {
            None => builder.with_no_client_auth(),
            Some(file) => {
                let chain = read_certificates("client", &self.path(&format!("{file}.pem"))).unwrap();
                let key = PrivateKeyDer::from_pem_slice(&fs::read(self.path(&format!("{file}.key"))).unwrap()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        TlsConnector::from(Arc::new(config))
    }
}

/// The connection that the server hands on when a client connects; none if it hands on none.
async fn connect(config: &Config, client: TlsConnector) -> Option<Connection> {
    let mut settings = config.server.clone();
    settings.listen = "127.0.0.1:0".to_owned();
    let addresses = crate::server::listener::resolve(&settings.listen).await.unwrap();
    let listener = Listener::open(&settings, &addresses, Some(Ca::start(config).unwrap())).await.unwrap();
    let address = listener.address().unwrap();
    let speaking = async move {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut stream = client.connect(ServerName::try_from("localhost").unwrap(), stream).await.ok()?;
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.ok()?;
        // Until the server has heard it, or has closed it.
        drop(tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 1]).await);
        None::<()>
    };
    let mut connections = std::pin::pin!(listener.into_stream());
    tokio::select! {
        connection = connections.next() => Some(connection.unwrap().unwrap()),
        _ = speaking => None,
    }
}

fn extensions_of(connection: &Connection) -> (Option<ClientCertificate>, TcpConnectInfo) {
    let mut request = Request::new(());
    request.extensions_mut().insert(connection.connect_info());
    let mut request = Peer::introduce(request);
    let addresses = request.extensions_mut().remove().expect("the addresses are there");
    (request.extensions_mut().remove(), addresses)
}

#[tokio::test]
async fn who_the_client_is_is_in_each_request() {
    let (ca, stranger) = (Ca::new(), Ca::new());
    ca.sign("server", Some("server"));
    ca.sign("ada", Some("ada"));
    ca.sign("nameless", None);
    stranger.sign("eve", Some("ada"));
    for file in ["eve.pem", "eve.key"] {
        fs::copy(stranger.path(file), ca.path(file)).unwrap();
    }
    let mut config = ca.config();
    let connection = connect(&config, ca.client(Some("ada"))).await.expect("nobody is asked");
    let (certificate, addresses) = extensions_of(&connection);
    assert_eq!(certificate, None);
    assert!(addresses.remote_addr().unwrap().ip().is_loopback() && addresses.local_addr().is_some());

    config.tls.client_ca = ca.path("ca.pem");
    let connection = connect(&config, ca.client(Some("ada"))).await.expect("it is signed");
    let (certificate, addresses) = extensions_of(&connection);
    assert_eq!(certificate, Some(ClientCertificate { name: "ada".into() }));
    assert!(addresses.remote_addr().is_some());
    let connection = connect(&config, ca.client(Some("nameless"))).await.expect("it is signed");
    assert_eq!(extensions_of(&connection).0, None);
    assert!(connect(&config, ca.client(None)).await.is_none());
    assert!(connect(&config, ca.client(Some("eve"))).await.is_none());

    config.tls.client_optional = true;
    let connection = connect(&config, ca.client(None)).await.expect("none is needed");
    assert_eq!(extensions_of(&connection).0, None);
    assert!(connect(&config, ca.client(Some("ada"))).await.is_some());
    assert!(connect(&config, ca.client(Some("eve"))).await.is_none());
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named() {
    let ca = Ca::new();
    ca.sign("server", Some("server"));
    ca.sign("other", Some("other"));
    fs::write(ca.path("text"), "hello").unwrap();
    let refused = |change: &dyn Fn(&mut config::Tls), words: &[&str]| {
        let mut config = ca.config();
        change(&mut config.tls);
        let error = Ca::start(&config).unwrap_err();
        assert_eq!(error.kind(), crate::error::ErrorKind::InvalidArgument);
        assert!(words.iter().all(|word| error.message().contains(word)), "{error}");
    };
    refused(&|tls| tls.certificate = ca.path("none"), &["`tls.certificate` = ", "/none cannot be read: No such file"]);
    refused(&|tls| tls.certificate = ca.path("text"), &["/text has no certificate in PEM"]);
    refused(&|tls| tls.key = ca.path("text"), &["`tls.key` = ", "/text has no private key that can be read"]);
    refused(&|tls| tls.key = ca.path("other.key"), &["other.key does not go with the certificate in ", "server.pem"]);
    refused(&|tls| tls.client_ca = ca.path("text"), &["`tls.client_ca` = ", "/text has no certificate in PEM"]);
    assert!(Tls::start(&Config::default(), None, &Environment::default(), &[]).unwrap().is_none());
}

#[tokio::test]
async fn files_are_read_again_when_they_change() {
    let ca = Ca::new();
    ca.sign("server", Some("server"));
    let tls = Ca::start(&ca.config()).unwrap();
    let first = tls.config();
    // Half of a renewal, and then nonsense: the old one stays.
    fs::write(ca.path("server.key"), "nonsense").unwrap();
    tokio::time::sleep(LOOK_INTERVAL * 3).await;
    assert!(Arc::ptr_eq(&first, &tls.config()));
    ca.sign("server", Some("server"));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while Arc::ptr_eq(&first, &tls.config()) {
        assert!(tokio::time::Instant::now() < deadline, "it was not read again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_certificate_of_our_own_is_there_without_any_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.tls.self_signed = true;
    let database = folder.path().join("a.duckdb");
    let start = || Tls::start(&config, Some(&database), &Environment::default(), &[]).unwrap().unwrap();
    let first = start().identity().clone();
    assert_eq!(first.fingerprint.len(), 64);
    assert_eq!(first.self_signed, Some(folder.path().join("a.duckdb.tls-certificate.pem")));
    assert_eq!(start().identity().fingerprint, first.fingerprint);
}
