//! What we look for in a certificate.

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_parser::error::X509Error;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::WARN_BEFORE;
use crate::access::ClientCertificate;

/// The common name of its subject, which is a client's name.
pub(in crate::server) fn common_name(certificate: &CertificateDer<'_>) -> Option<ClientCertificate> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let name = certificate.subject().iter_common_name().next()?.as_str().ok()?;
    (!name.is_empty()).then(|| ClientCertificate { name: name.into() })
}

/// What is told of a server's certificate.
#[derive(Debug)]
pub(super) struct Facts {
    /// SHA-256 of it, in hexadecimal.
    pub(super) fingerprint: String,
    /// When it ends.
    pub(super) not_after: SystemTime,
    names: Vec<String>,
    addresses: Vec<IpAddr>,
}

impl Facts {
    pub(super) fn read(der: &CertificateDer<'_>) -> Result<Self, X509Error> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|error| match error {
            x509_parser::nom::Err::Error(error) | x509_parser::nom::Err::Failure(error) => error,
            x509_parser::nom::Err::Incomplete(_) => X509Error::InvalidCertificate,
        })?;
        let not_after = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
        let (mut names, mut addresses) = (Vec::new(), Vec::new());
        let alternative = certificate.subject_alternative_name()?;
        for name in alternative.iter().flat_map(|extension| &extension.value.general_names) {
            match name {
                GeneralName::DNSName(name) => names.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => addresses.extend(ip_address(bytes)),
                // Nobody connects to those.
                _ => {}
            }
        }
        let fingerprint = hex::encode(Sha256::digest(der));
        Ok(Self { fingerprint, not_after: SystemTime::UNIX_EPOCH + Duration::from_secs(not_after), names, addresses })
    }

    /// Whether clients that connect to `name`, a host name or an address, are at the right place.
    pub(super) fn covers(&self, name: &str) -> bool {
        match name.parse() {
            Ok(address) => self.addresses.contains(&address),
            Err(_) => self.names.iter().any(|known| known.eq_ignore_ascii_case(name)),
        }
    }

    /// Whether it ends within `span` after `now`, or has ended.
    pub(super) fn ends_within(&self, span: Duration, now: SystemTime) -> bool {
        self.not_after < now + span
    }

    /// Tells the operator which certificate it is.
    pub(super) fn log(&self, path: &Path) {
        let path = path.display();
        tracing::info!("TLS with the certificate {path}, SHA-256 fingerprint {}", self.fingerprint);
        let now = SystemTime::now();
        match self.not_after.duration_since(now) {
            Err(_) => tracing::warn!("the certificate {path} has expired"),
            Ok(left) if left < WARN_BEFORE => {
                tracing::warn!("the certificate {path} expires in {} days", left.as_secs() / 86_400);
            }
            Ok(_) => {}
        }
    }
}

fn ip_address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}
