//! TLS of the client commands: which servers they trust, and what they show them.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{DigitallySignedStruct, Error as TlsError, SignatureScheme};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use super::output;
use crate::error::{Error, Result};

/// Whom to trust, and who we are: the options of `grpc+tls://`.
#[derive(Clone, Debug, Default, clap::Args)]
#[expect(clippy::struct_field_names, reason = "they are the names of the options, among those of a whole command")]
pub(crate) struct TlsArgs {
    /// With grpc+tls://, trust the certificates in this PEM file and those signed by them [default: the system's CAs]
    #[arg(long, env = "MERGANSER_TLS_CA", value_name = "FILE")]
    tls_ca: Option<PathBuf>,

    /// Trust the certificate with this SHA-256 fingerprint and no other: `serve --tls-self-signed` tells it
    #[arg(long, env = "MERGANSER_TLS_FINGERPRINT", value_name = "SHA256")]
    tls_fingerprint: Option<Fingerprint>,

    /// Show the server the certificate in this PEM file
    #[arg(long, env = "MERGANSER_CLIENT_CERT", value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// The PEM file of that certificate's private key
    #[arg(long, env = "MERGANSER_CLIENT_KEY", value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Trust any certificate: whoever is between may read and change everything
    #[arg(long, conflicts_with_all = ["tls_ca", "tls_fingerprint"])]
    pub(super) tls_skip_verify: bool,
}

impl TlsArgs {
    /// Whether anything is asked for that only TLS gives.
    pub(super) fn is_given(&self) -> bool {
        let files = [&self.tls_ca, &self.tls_cert, &self.tls_key];
        self.tls_skip_verify || self.tls_fingerprint.is_some() || files.into_iter().any(Option::is_some)
    }

    /// `endpoint` with TLS.
    pub(super) fn apply(&self, endpoint: Endpoint) -> Result<Endpoint> {
        let mut config = ClientTlsConfig::new();
        if let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) {
            let certificate = read_certificates("--tls-cert", certificate)?;
            config = config.identity(Identity::from_pem(certificate, read("--tls-key", key)?));
        }
        let with_tls = if self.tls_skip_verify {
            output::warn("--tls-skip-verify: the server may be anybody");
            endpoint.tls_config_with_verifier(config, Arc::new(Verifier::new(None)))
        } else if let Some(fingerprint) = self.tls_fingerprint {
            endpoint.tls_config_with_verifier(config, Arc::new(Verifier::new(Some(fingerprint))))
        } else if let Some(ca) = &self.tls_ca {
            endpoint.tls_config(config.ca_certificate(Certificate::from_pem(read_certificates("--tls-ca", ca)?)))
        } else {
            endpoint.tls_config(config.with_native_roots())
        };
        with_tls.map_err(|error| {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            Error::invalid(format!("TLS cannot be set up{cause}")).with_source(error)
        })
    }
}

fn read(option: &str, path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| {
        Error::invalid(format!("{option} {}: {}", path.display(), output::reason(&error))).with_source(error)
    })
}

/// A PEM file that has certificates.
fn read_certificates(option: &str, path: &Path) -> Result<Vec<u8>> {
    let pem = read(option, path)?;
    match CertificateDer::pem_slice_iter(&pem).next() {
        Some(Ok(_)) => Ok(pem),
        _ => Err(Error::invalid(format!("{option} {}: there is no certificate in PEM", path.display()))),
    }
}

/// The SHA-256 of a certificate: 64 hexadecimal digits, maybe with colons between, as openssl writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fingerprint([u8; 32]);

impl FromStr for Fingerprint {
    type Err = &'static str;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        let digits: Vec<u8> = text
            .chars()
            .filter(|c| *c != ':')
            .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
            .collect::<Option<_>>()
            .unwrap_or_default();
        let (pairs, _) = digits.as_chunks::<2>();
        let bytes: Vec<u8> = pairs.iter().map(|[high, low]| high << 4 | low).collect();
        match bytes.try_into() {
            Ok(bytes) if digits.len() == 64 => Ok(Self(bytes)),
            _ => Err("a SHA-256 fingerprint has 64 hexadecimal digits"),
        }
    }
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// Trusts one certificate, or all; and checks in any case that the server has the key of the one that it shows.
#[derive(Debug)]
struct Verifier {
    wanted: Option<Fingerprint>,
    provider: CryptoProvider,
}

impl Verifier {
    fn new(wanted: Option<Fingerprint>) -> Self {
        Self { wanted, provider: ring::default_provider() }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, TlsError> {
        let shown = Fingerprint(Sha256::digest(certificate).into());
        match self.wanted {
            Some(wanted) if wanted != shown => Err(TlsError::General(format!(
                "its certificate has the fingerprint {shown}, which is not the given one"
            ))),
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_written_in_two_ways() {
        let plain = "00ff".repeat(16);
        let fingerprint: Fingerprint = plain.parse().unwrap();
        assert_eq!(fingerprint.to_string(), plain);
        let colons = ["00", "FF"].repeat(16).join(":");
        assert_eq!(colons.parse(), Ok(fingerprint));
        for bad in ["", "00", &plain[1..], &"zz".repeat(32), &"00ff".repeat(17)] {
            assert!(bad.parse::<Fingerprint>().is_err(), "{bad}");
        }
    }

    #[test]
    fn files_are_named_when_they_are_of_no_use() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pem");
        let apply = |args: &TlsArgs| {
            let error = args.apply(Endpoint::from_static("https://localhost:1")).unwrap_err();
            error.message().to_owned()
        };
        let args = TlsArgs { tls_ca: Some(path.clone()), ..TlsArgs::default() };
        assert_eq!(apply(&args), format!("--tls-ca {}: no such file or directory", path.display()));
        fs::write(&path, "no PEM").unwrap();
        assert!(apply(&args).ends_with("a.pem: there is no certificate in PEM"));
        let args = TlsArgs { tls_cert: Some(path.clone()), tls_key: Some(path), ..TlsArgs::default() };
        assert!(apply(&args).starts_with("--tls-cert "));
        assert!(args.is_given() && !TlsArgs::default().is_given());
    }
}
