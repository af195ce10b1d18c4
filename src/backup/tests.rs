//! Tests of backups without a server: names, who may, and manifests. `tests/clients/test_backup.py` has the rest.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytesize::ByteSize;
use sha2::{Digest, Sha256};

use super::directory::{Directory, check_name};
use super::manifest::{FileDigest, Manifest};
use super::{create, list, verify};
use crate::access::{Principal, Role};
use crate::config::Config;
use crate::engine::{Call, Database, Engine, TableContents};
use crate::error::ErrorKind;

#[test]
fn names_are_names_of_directories() {
    for name in ["nightly", "2026-11-25T22-14-16.123Z", "a_b", &"x".repeat(128)] {
        assert!(check_name(name).is_ok(), "{name}");
    }
    for name in ["", ".", "..", ".lock", "../a", "a/b", "a\\b", "a b", "-a", "\0", "é", &"x".repeat(129)] {
        assert_eq!(check_name(name).unwrap_err().kind(), ErrorKind::InvalidArgument, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_admins_back_up() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.engine.memory_limit = ByteSize::mib(256);
    let engine = Engine::open(&config, Database { path: None, temp_directory: None, read_only: false }).unwrap();
    let call_of = |role| Call { principal: Some(Arc::new(Principal::new("ann", role))), ..Call::default() };
    let admin = call_of(Role::Admin);
    let error = create(&engine, &config, String::new(), &admin).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "none is offered");

    config.backup.directory = folder.path().join("backups");
    for role in [Role::Reader, Role::Writer] {
        let error = create(&engine, &config, "a".to_owned(), &call_of(role)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert_eq!(list(&config, &call_of(role)).await.unwrap_err().kind(), ErrorKind::PermissionDenied);
    }
    assert!(!config.backup.directory.exists());
    let made = create(&engine, &config, "a".to_owned(), &admin).await.unwrap();
    assert_eq!(verify(&made.path, &config.engine).unwrap(), made.manifest);
    assert_eq!(list(&config, &Call::default()).await.unwrap().len(), 1);
}

#[test]
fn one_backup_at_a_time_with_room_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let directory = Directory::lock(folder.path()).unwrap();
    assert_eq!(Directory::lock(folder.path()).unwrap_err().kind(), ErrorKind::FailedPrecondition);
    let error = directory.begin("a", 0, ByteSize(u64::MAX)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
    let partial = Directory::lock(folder.path()).unwrap().begin("a", 0, ByteSize(0)).unwrap();
    let path = partial.path().to_owned();
    assert!(path.is_dir());
    drop(partial);
    assert!(!path.exists());
    let partial = Directory::lock(folder.path()).unwrap().begin("a", 0, ByteSize(0)).unwrap();
    assert_eq!(partial.finish().unwrap(), folder.path().join("a"));
    let error = Directory::lock(folder.path()).unwrap().begin("a", 0, ByteSize(0)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
}

fn manifest() -> Manifest {
    let table = TableContents { schema: "main".to_owned(), name: "t".to_owned(), rows: 2, checksum: "7".to_owned() };
    let digest = FileDigest { bytes: 3, sha256: "ab".repeat(32) };
    Manifest::new(jiff::Timestamp::UNIX_EPOCH, digest, vec![table])
}

/// Writes the text of a manifest with the sums that it has to have.
fn write(directory: &Path, text: &str) {
    let sum = hex::encode(Sha256::digest(text));
    fs::write(directory.join("manifest.json"), text).unwrap();
    fs::write(directory.join("SHA256SUMS"), format!("{}  data.duckdb\n{sum}  manifest.json\n", "ab".repeat(32)))
        .unwrap();
}

#[test]
fn manifests_are_read_as_they_were_written() {
    let folder = tempfile::tempdir().unwrap();
    manifest().write(folder.path()).unwrap();
    assert_eq!(Manifest::read(folder.path()).unwrap(), manifest());

    let text = fs::read_to_string(folder.path().join("manifest.json")).unwrap();
    let refused = |text: &str| {
        write(folder.path(), text);
        Manifest::read(folder.path()).unwrap_err().message().to_owned()
    };
    assert!(refused(&text.replace("\"format\": 1", "\"format\": 2")).contains("has format 2"));
    assert!(refused(&text.replace("\"rows\"", "\"lines\"")).contains("manifest.json cannot be read"));
    assert!(refused(&text.replace("abab", "cdcd")).contains("differ"));
    write(folder.path(), &text);
    assert_eq!(Manifest::read(folder.path()).unwrap(), manifest());
}
