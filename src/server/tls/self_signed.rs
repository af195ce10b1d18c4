//! A certificate that nobody has signed: made once and kept, so that clients who trust it, or its fingerprint, go on doing so.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{self, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;

use super::certificate::Facts;
use crate::config::{Config, Environment};
use crate::error::{Error, Result};
use crate::files::{failed, with_ending};

/// How long a certificate lasts. Its end breaks the trust of all who have its fingerprint, and nobody can revoke it anyway.
const LIFETIME: Duration = Duration::from_hours(10 * 365 * 24);
/// From so long before its end on, the next start makes a new one.
const RENEW_BEFORE: Duration = Duration::from_hours(30 * 24);
/// Clocks of clients may be behind ours.
const CLOCK_DIFFERENCE: Duration = Duration::from_hours(24);
/// Where they are without a database file, in the user's data directory.
const DEFAULT_FILE: &str = "merganser/merganser";

/// The names that a certificate is for.
#[derive(Debug)]
pub(super) struct Names {
    /// Those without which it is useless: the host and the addresses that the server was told to listen on.
    needed: Vec<String>,
    /// Those that are good to have: this machine's own. They may change at every start, as in a container.
    more: Vec<String>,
}

/// The files of the certificate and of its key: beside the database file, else in the user's data directory.
pub(super) fn files(database: Option<&Path>, environment: &Environment) -> Result<(PathBuf, PathBuf)> {
    let beside = match (database, &environment.data_directory) {
        (Some(file), _) => path::absolute(file).map_err(|error| failed("cannot use", file, error))?,
        (None, Some(directory)) => directory.join(DEFAULT_FILE),
        (None, None) => {
            return Err(Error::invalid(
                "there is no home directory to keep a certificate in: give `tls.certificate` and `tls.key`",
            ));
        }
    };
    Ok((with_ending(&beside, ".tls-certificate.pem"), with_ending(&beside, ".tls-key.pem")))
}

/// The names by which clients may know a server that listens on `addresses`.
pub(super) fn names(config: &Config, addresses: &[SocketAddr]) -> Names {
    let host = config.server.listen.rsplit_once(':').map_or("", |(host, _)| host.trim_matches(['[', ']']));
    let mut needed: Vec<String> = addresses
        .iter()
        .map(|address| address.ip().to_canonical())
        .filter(|address| !address.is_unspecified())
        .map(|address| address.to_string())
        .collect();
    if host.parse::<std::net::IpAddr>().is_err() {
        needed.push(host.to_owned());
    }
    let mut more: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    more.extend(rustix::system::uname().nodename().to_str().ok().map(str::to_owned));
    Names { needed, more }
}

/// Makes the certificate and its key, unless they are there and good.
pub(super) fn ensure(certificate: &Path, key: &Path, names: &Names, now: SystemTime) -> Result<()> {
    let why = match existing(certificate, key) {
        Ok(facts) if facts.ends_within(RENEW_BEFORE, now) => "the old one ends soon".to_owned(),
        Ok(facts) => match names.needed.iter().find(|name| !facts.covers(name)) {
            Some(name) => format!("the old one was not for {name}"),
            None => return Ok(()),
        },
        Err(None) => "there was none".to_owned(),
        Err(Some(reason)) => format!("the old one cannot be used: {reason}"),
    };
    let (certificate_pem, key_pem) =
        make(names, now).map_err(|error| Error::internal("cannot make a certificate").with_source(error))?;
    // The key first: a certificate alone would not tell that its key is another's.
    write(key, &key_pem, 0o600)?;
    write(certificate, &certificate_pem, 0o644)?;
    tracing::info!("made the certificate {}: {why}", certificate.display());
    Ok(())
}

/// The certificate that is there, if its key is, too; nothing if there is none, a reason if it is of no use.
fn existing(certificate: &Path, key: &Path) -> Result<Facts, Option<String>> {
    let read = |path: &Path| match fs::read(path) {
        Ok(bytes) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(None),
        Err(error) => Err(Some(error.to_string())),
    };
    let (certificate, key) = (read(certificate)?, read(key)?);
    let useless = |error: &dyn std::fmt::Display| Some(error.to_string());
    let certificate = CertificateDer::from_pem_slice(&certificate).map_err(|error| useless(&error))?;
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| useless(&error))?;
    let facts = Facts::read(&certificate).map_err(|error| useless(&error))?;
    CertifiedKey::from_der(vec![certificate], key, &Arc::new(ring::default_provider()))
        .map_err(|error| useless(&error))?;
    Ok(facts)
}

/// A new certificate and its key, in PEM.
fn make(names: &Names, now: SystemTime) -> Result<(String, String), rcgen::Error> {
    let mut all: Vec<String> = names.needed.iter().chain(&names.more).cloned().collect();
    all.sort_unstable();
    all.dedup();
    let mut params = CertificateParams::new(all)?;
    params.distinguished_name.push(DnType::CommonName, "Merganser, self-signed");
    params.not_before = (now - CLOCK_DIFFERENCE).into();
    params.not_after = (now + LIFETIME).into();
    // Clients that are given it trust this server, and nobody that it could sign for.
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

/// Puts a file there as a whole, or not at all.
fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let write = || {
        fs::create_dir_all(directory)?;
        let mut file = tempfile::Builder::new()
            .prefix(".merganser-")
            .permissions(Permissions::from_mode(mode))
            .tempfile_in(directory)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path).map(drop).map_err(io::Error::from)
    };
    write().map_err(|error| failed("cannot keep a certificate: cannot write", path, error))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn names(needed: &[&str]) -> Names {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Names { needed: owned(needed), more: owned(&["localhost", "127.0.0.1", "::1"]) }
    }

    #[test]
    fn it_is_kept_until_it_is_of_no_use() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("new/a.pem"), folder.path().join("new/a.key"));
        let ensure = |needed: &[&str], now| {
            ensure(&certificate, &key, &names(needed), now).unwrap();
            existing(&certificate, &key).unwrap()
        };
        let now = SystemTime::now();
        let first = ensure(&["192.0.2.7"], now);
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        for name in ["localhost", "LOCALHOST", "127.0.0.1", "::1", "192.0.2.7"] {
            assert!(first.covers(name), "{name}");
        }
        assert!(!first.covers("192.0.2.8") && !first.covers("example.org"));

        assert_eq!(ensure(&["192.0.2.7"], now).fingerprint, first.fingerprint);
        assert_eq!(ensure(&[], now + LIFETIME - RENEW_BEFORE * 2).fingerprint, first.fingerprint);
        let second = ensure(&["db.example"], now);
        assert_ne!(second.fingerprint, first.fingerprint);
        let third = ensure(&[], now + LIFETIME - RENEW_BEFORE / 2);
        assert_ne!(third.fingerprint, second.fingerprint);
        assert!(third.not_after > second.not_after);
        for damaged in [&certificate, &key] {
            fs::write(damaged, "nothing").unwrap();
            let before = fs::read(if damaged == &key { &certificate } else { &key }).unwrap();
            ensure(&[], now);
            assert_ne!(fs::read(if damaged == &key { &certificate } else { &key }).unwrap(), before);
        }
        // Nothing else is left there.
        assert_eq!(fs::read_dir(folder.path().join("new")).unwrap().count(), 2);
    }

    #[test]
    fn it_lasts_from_before_today() {
        let (pem, _) = make(&names(&[]), UNIX_EPOCH + LIFETIME).unwrap();
        let facts = Facts::read(&CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
        assert_eq!(facts.not_after, UNIX_EPOCH + LIFETIME * 2);
    }

    #[test]
    fn it_is_beside_the_database_or_with_the_user() {
        let environment = Environment { data_directory: Some("/home/a".into()), ..Environment::default() };
        let (certificate, key) = files(Some(Path::new("/data/b.duckdb")), &environment).unwrap();
        assert_eq!(certificate, Path::new("/data/b.duckdb.tls-certificate.pem"));
        assert_eq!(key, Path::new("/data/b.duckdb.tls-key.pem"));
        let (certificate, _) = files(None, &environment).unwrap();
        assert_eq!(certificate, Path::new("/home/a/merganser/merganser.tls-certificate.pem"));
        assert!(files(None, &Environment::default()).is_err());
    }
}
