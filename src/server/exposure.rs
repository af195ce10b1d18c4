//! Who could reach the server, and whether it may start like that: beyond this machine only with users and with TLS, unless the
//! operator insists.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::config::Config;
use crate::error::{Error, Result};

/// What is missing for a server that others can reach.
const USERS: &str = "users (`merganser user add NAME`)";
const TLS: &str = "TLS (`--tls-self-signed`, or `tls.certificate` and `tls.key`)";

/// What the operator should know of who can reach the server, for when it has started.
#[derive(Debug, Default)]
pub struct Remarks(BTreeSet<Remark>);

impl Remarks {
    /// Tells it.
    pub fn log(&self) {
        for remark in &self.0 {
            match remark {
                Remark::Open(text) => tracing::info!("{text}"),
                Remark::Insecure(text) => tracing::warn!("{text}"),
            }
        }
    }
}

/// One thing that the operator should know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Remark {
    /// As it is meant to be on a machine of one's own.
    Open(String),
    /// As the operator has insisted on.
    Insecure(String),
}

/// [`check`] of all the addresses that a server is to listen on.
pub fn check_all(config: &Config, has_users: bool, addresses: &[SocketAddr]) -> Result<Remarks> {
    let checked = addresses.iter().map(|address| check(config, has_users, *address));
    Ok(Remarks(checked.filter_map(Result::transpose).collect::<Result<_>>()?))
}

/// Whether a server may listen on `address`; what the operator should know of it, if there is something.
///
/// # Errors
/// `FailedPrecondition` if others could reach a server without users or without TLS; the message says what to do.
pub fn check(config: &Config, has_users: bool, address: SocketAddr) -> Result<Option<Remark>> {
    let missing = match (has_users, config.tls.is_on()) {
        (true, true) => return Ok(None),
        (false, false) => format!("{USERS} and {TLS}"),
        (false, true) => USERS.to_owned(),
        (true, false) => TLS.to_owned(),
    };
    // An IPv4 address in the clothes of IPv6 is what it is.
    if address.ip().to_canonical().is_loopback() {
        let open = "there are no users: every program on this machine may read and change everything";
        return Ok((!has_users).then(|| Remark::Open(open.to_owned())));
    }
    if !config.server.insecure {
        return Err(Error::precondition(format!(
            "{address} can be reached from other machines, which needs {missing}; or give `--insecure` to serve there all the same"
        )));
    }
    let consequence = match (has_users, config.tls.is_on()) {
        (false, _) => "may read and change everything",
        (true, _) => "on the way may read along, passwords included",
    };
    let remark = format!("`server.insecure`: {address} lacks {missing}: whoever reaches it {consequence}");
    Ok(Some(Remark::Insecure(remark)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    /// What `check` says: `ok`, the words of a warning, or those of a refusal.
    fn verdict(address: &str, has_users: bool, tls: &str, insecure: bool) -> String {
        let mut config = Config::default();
        config.server.insecure = insecure;
        match tls {
            "self-signed" => config.tls.self_signed = true,
            "certificate" => config.tls.certificate = "a.pem".into(),
            _ => {}
        }
        match check(&config, has_users, address.parse().unwrap()) {
            Ok(None) => "ok".to_owned(),
            Ok(Some(Remark::Open(text))) => format!("open: {text}"),
            Ok(Some(Remark::Insecure(text))) => format!("warned: {text}"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
                format!("refused: {error}")
            }
        }
    }

    #[test]
    fn only_who_is_guarded_or_insists_is_exposed() {
        let (local, all, far) = ("127.0.0.1:1", "0.0.0.0:1", "192.0.2.1:1");
        let (add_user, make_tls) = ("`merganser user add NAME`", "`--tls-self-signed`");
        for (address, users, tls, insecure, begins, names) in [
            (local, false, "", false, "open: there are no users", ""),
            (local, false, "self-signed", false, "open: there are no users", ""),
            (local, true, "", false, "ok", ""),
            (local, true, "certificate", false, "ok", ""),
            (local, false, "", true, "open: there are no users", ""),
            ("127.3.2.1:1", false, "", false, "open: there are no users", ""),
            ("[::1]:1", false, "", false, "open: there are no users", ""),
            ("[::ffff:127.0.0.1]:1", false, "", false, "open: there are no users", ""),
            (all, false, "", false, "refused: 0.0.0.0:1", add_user),
            (all, false, "", false, "refused: 0.0.0.0:1", make_tls),
            (all, false, "self-signed", false, "refused: 0.0.0.0:1", add_user),
            (all, true, "", false, "refused: 0.0.0.0:1", make_tls),
            (all, true, "", false, "refused: 0.0.0.0:1", "`--insecure`"),
            (all, true, "self-signed", false, "ok", ""),
            (all, true, "certificate", false, "ok", ""),
            (all, false, "", true, "warned: `server.insecure`", "change everything"),
            (all, false, "certificate", true, "warned: `server.insecure`", "change everything"),
            (all, true, "", true, "warned: `server.insecure`", "passwords"),
            (far, false, "", false, "refused: 192.0.2.1:1", add_user),
            (far, true, "certificate", false, "ok", ""),
            ("[::]:1", false, "", false, "refused: [::]:1", make_tls),
            ("[::ffff:192.0.2.1]:1", false, "", false, "refused: ", add_user),
            ("[2001:db8::1]:1", true, "", false, "refused: ", make_tls),
        ] {
            let said = verdict(address, users, tls, insecure);
            let case = format!("{address}, users {users}, tls {tls:?}, insecure {insecure}: {said}");
            assert!(said.starts_with(begins) && said.contains(names), "{case}");
            // What is there is not asked for.
            assert!(!users || !said.contains(add_user), "{case}");
            assert!(tls.is_empty() || !said.contains(make_tls), "{case}");
            assert!(!said.contains('\n'), "{case}");
        }
    }

    #[test]
    fn each_thing_is_said_once() {
        let all = |addresses: &[&str]| {
            let addresses: Vec<_> = addresses.iter().map(|address| address.parse().unwrap()).collect();
            check_all(&Config::default(), false, &addresses)
        };
        assert_eq!(all(&["127.0.0.1:1", "[::1]:1"]).unwrap().0.len(), 1);
        assert!(all(&["127.0.0.1:1", "192.0.2.1:1"]).is_err());
    }
}
