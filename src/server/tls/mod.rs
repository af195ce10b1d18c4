//! TLS 1.2 and 1.3: the files that the configuration names, or a certificate of our own ([`self_signed`]), as what new connections
//! are encrypted with. The files are looked at every second, and read again when they have changed.

mod certificate;
mod self_signed;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tokio_util::task::AbortOnDropHandle;

use crate::config::{Config, Environment};
use crate::error::{Error, Result};
use certificate::Facts;
pub(super) use certificate::common_name;

/// Time between two looks at the files. A change is read at the second look that finds the same, so that no half of it is.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// From so long before its end on, a certificate is warned of.
const WARN_BEFORE: Duration = Duration::from_hours(14 * 24);
/// HTTP/2, which is all that we speak.
const ALPN: &[u8] = b"h2";

/// What the server's certificate is, for people who connect.
#[derive(Clone, Debug)]
pub struct Identity {
    /// SHA-256 of the certificate, in hexadecimal.
    pub fingerprint: String,
    /// The file of a certificate that nobody has signed, which clients have to be given.
    pub self_signed: Option<PathBuf>,
}

/// What new connections are encrypted with.
#[derive(Debug)]
pub(super) struct Tls {
    current: watch::Receiver<Arc<ServerConfig>>,
    identity: Identity,
    _following: AbortOnDropHandle<()>,
}

impl Tls {
    /// Reads the files that `config` names, or makes them; none if connections are not encrypted.
    ///
    /// # Errors
    /// `InvalidArgument` for files that cannot be used, `FailedPrecondition` if a certificate cannot be kept.
    pub(super) fn start(
        config: &Config,
        database: Option<&Path>,
        environment: &Environment,
        addresses: &[SocketAddr],
    ) -> Result<Option<Self>> {
        let tls = &config.tls;
        if !tls.is_on() {
            return Ok(None);
        }
        let client_ca = (!tls.client_ca.as_os_str().is_empty()).then(|| tls.client_ca.clone());
        let (certificate, key) = if tls.self_signed {
            let (certificate, key) = self_signed::files(database, environment)?;
            self_signed::ensure(&certificate, &key, &self_signed::names(config, addresses), SystemTime::now())?;
            (certificate, key)
        } else {
            (tls.certificate.clone(), tls.key.clone())
        };
        let files = Files { certificate, key, client_ca, client_optional: tls.client_optional };
        files.warn_of_open_key();
        let stamp = files.stamp();
        let (server_config, facts) = files.load()?;
        facts.log(&files.certificate);
        let identity = Identity {
            fingerprint: facts.fingerprint,
            self_signed: tls.self_signed.then(|| files.certificate.clone()),
        };
        let (sender, current) = watch::channel(server_config);
        let following = tokio::spawn(follow(files, stamp, sender));
        Ok(Some(Self { current, identity, _following: AbortOnDropHandle::new(following) }))
    }

    /// What the next connection is encrypted with.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.borrow())
    }

    /// What the certificate was at the start.
    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }
}

/// Reads the files again whenever they have changed; what cannot be used leaves what was.
async fn follow(files: Files, mut loaded: Vec<Stamp>, current: watch::Sender<Arc<ServerConfig>>) {
    let files = Arc::new(files);
    let mut seen = loaded.clone();
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        let looked = Arc::clone(&files);
        // Files may be on a slow disk.
        let Ok(now) = tokio::task::spawn_blocking(move || looked.stamp()).await else { return };
        let settled = now == seen;
        seen.clone_from(&now);
        if now == loaded || !settled {
            continue;
        }
        loaded = now;
        let read = Arc::clone(&files);
        match tokio::task::spawn_blocking(move || read.load()).await {
            Ok(Ok((config, facts))) => {
                facts.log(&files.certificate);
                current.send_replace(config);
            }
            Ok(Err(error)) => tracing::warn!(%error, "the TLS files have changed, and the old ones stay in use"),
            Err(_) => return,
        }
    }
}

/// What tells that a file has changed: its time, size and number; none if it cannot be seen.
type Stamp = Option<(SystemTime, u64, u64)>;

/// The files that TLS is made of.
#[derive(Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
    client_optional: bool,
}

impl Files {
    fn stamp(&self) -> Vec<Stamp> {
        let files = [Some(&self.certificate), Some(&self.key), self.client_ca.as_ref()];
        let stamp = |path: &PathBuf| {
            let metadata = fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
        };
        files.into_iter().flatten().map(stamp).collect()
    }

    fn load(&self) -> Result<(Arc<ServerConfig>, Facts)> {
        let chain = read_certificates("tls.certificate", &self.certificate)?;
        let facts = Facts::read(&chain[0])
            .map_err(|error| unusable("tls.certificate", &self.certificate, "is not a certificate", error))?;
        let key = read("tls.key", &self.key)?;
        let key = PrivateKeyDer::from_pem_slice(&key)
            .map_err(|error| unusable("tls.key", &self.key, "has no private key that can be read", error))?;
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::internal("TLS cannot be set up").with_source(error))?;
        let builder = match self.client_verifier()? {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let why = format!("does not go with the certificate in {}", self.certificate.display());
        let mut config =
            builder.with_single_cert(chain, key).map_err(|error| unusable("tls.key", &self.key, &why, error))?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok((Arc::new(config), facts))
    }

    fn client_verifier(&self) -> Result<Option<Arc<dyn ClientCertVerifier>>> {
        let Some(path) = &self.client_ca else { return Ok(None) };
        let refuse = |error: Cause| unusable("tls.client_ca", path, "is not the certificate of a CA", error);
        let mut roots = RootCertStore::empty();
        for certificate in read_certificates("tls.client_ca", path)? {
            roots.add(certificate).map_err(|error| refuse(error.into()))?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(ring::default_provider()));
        let builder = if self.client_optional { builder.allow_unauthenticated() } else { builder };
        builder.build().map(Some).map_err(|error| refuse(error.into()))
    }

    fn warn_of_open_key(&self) {
        let mode = fs::metadata(&self.key).map_or(0, |metadata| metadata.mode());
        if mode & 0o004 != 0 {
            tracing::warn!("every user of this machine may read the private key {}", self.key.display());
        }
    }
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

fn unusable(setting: &str, path: &Path, why: &str, error: impl Into<Cause>) -> Error {
    let error = error.into();
    Error::invalid(format!("`{setting}` = {} {why}: {error}", path.display())).with_source(error)
}

fn read(setting: &str, path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error: io::Error| unusable(setting, path, "cannot be read", error))
}

/// The certificates of a PEM file, at least one.
fn read_certificates(setting: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let pem = read(setting, path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certificates = certificates.map_err(|error| unusable(setting, path, "is not a PEM file", error))?;
    if certificates.is_empty() {
        return Err(Error::invalid(format!("`{setting}` = {} has no certificate in PEM", path.display())));
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests;
