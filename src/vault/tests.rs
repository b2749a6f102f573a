use std::os::unix::fs::PermissionsExt;

use jiff::Timestamp;
use secrecy::ExposeSecret;

use super::{Kind, Level, MasterKey, Vault, VaultError, open_keys};
use crate::id::RepositoryName;
use crate::store::Store;

fn vault() -> (Store, Vault) {
    let store = Store::temporary().unwrap();
    let vault = Vault::new(store.clone(), vec![MasterKey::generate().unwrap()]);
    (store, vault)
}

#[tokio::test]
async fn environment_goes_before_repository_before_global() {
    let (_, vault) = vault();
    let (now, name) = (Timestamp::UNIX_EPOCH, RepositoryName::from("o/r"));
    let environment = Level::Environment(name.clone(), "Production".to_owned());
    for (level, value) in [(Level::Global, "g"), (Level::Repository(name.clone()), "r"), (environment, "e")] {
        vault.set(now, Kind::Secret, &level, "token", value).await.unwrap();
        vault.set(now, Kind::Variable, &level, "Region", value).await.unwrap();
    }
    let secret = |repository: &str, environment| {
        vault.secrets_for(&repository.into(), environment).unwrap()["TOKEN"].expose_secret().to_owned()
    };
    assert_eq!(secret("o/r", Some("production")), "e");
    assert_eq!(secret("O/R", None), "r");
    assert_eq!(secret("o/other", Some("production")), "g");
    assert_eq!(vault.vars_for(&name, Some("production")).unwrap()["REGION"], "e");
    assert_eq!(vault.list(Kind::Secret, &Level::Global).unwrap()[0].value, None);
    assert_eq!(vault.list(Kind::Variable, &Level::Global).unwrap()[0].value.as_deref(), Some("g"));
    assert!(vault.remove(Kind::Secret, &Level::Repository(name.clone()), "TOKEN").await.unwrap());
    assert!(!vault.remove(Kind::Secret, &Level::Repository(name), "TOKEN").await.unwrap());
    assert_eq!(secret("o/r", None), "g");
}

#[tokio::test]
async fn names_and_sizes_are_checked() {
    let (_, vault) = vault();
    for name in ["", "1A", "A-B", "GITHUB_TOKEN", "github_x", "Ä", "A B"] {
        let error = vault.set(Timestamp::UNIX_EPOCH, Kind::Secret, &Level::Global, name, "x").await.unwrap_err();
        assert!(matches!(error, VaultError::Name(_)), "{name}: {error}");
    }
    let long = "x".repeat(48 * 1024 + 1);
    let error = vault.set(Timestamp::UNIX_EPOCH, Kind::Secret, &Level::Global, "LONG", &long).await.unwrap_err();
    assert!(matches!(error, VaultError::TooLong { .. }));
}

#[tokio::test]
async fn rotation_seals_again_and_old_keys_are_not_needed_after() {
    let (store, vault) = vault();
    let now = Timestamp::UNIX_EPOCH;
    vault.set(now, Kind::Secret, &Level::Global, "A", "one").await.unwrap();
    let next = MasterKey::generate().unwrap();
    assert_eq!(vault.rotate(next.clone()).await.unwrap(), 1);
    let fresh = Vault::new(store.clone(), vec![next]);
    assert_eq!(fresh.secrets_for(&"o/r".into(), None).unwrap()["A"].expose_secret(), "one");
    let stranger = Vault::new(store, vec![MasterKey::generate().unwrap()]);
    assert!(matches!(stranger.secrets_for(&"o/r".into(), None), Err(VaultError::WrongKey { .. })));
}

#[test]
fn a_sealed_value_is_bound_to_its_name() {
    let (_, vault) = vault();
    let mut sealed = vault.seal("a", b"text").unwrap();
    assert_eq!(vault.open("a", &sealed).unwrap(), b"text");
    assert!(matches!(vault.open("b", &sealed), Err(VaultError::Damaged { .. })));
    assert!(!sealed.windows(4).any(|part| part == b"text"));
    let last = sealed.len() - 1;
    sealed[last] ^= 1;
    assert!(matches!(vault.open("a", &sealed), Err(VaultError::Damaged { .. })));
    for length in 0..sealed.len() {
        assert!(vault.open("a", &sealed[..length]).is_err());
    }
}

#[test]
fn the_key_file_is_private_and_stays_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let first = open_keys(None, directory.path()).unwrap();
    let path = directory.path().join("master.key");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let again = open_keys(None, directory.path()).unwrap();
    assert_eq!(first[0].id(), again[0].id());
    let next = MasterKey::generate().unwrap();
    next.install(directory.path()).unwrap();
    let ids: Vec<_> = open_keys(None, directory.path()).unwrap().iter().map(MasterKey::id).collect();
    assert_eq!(ids, [next.id(), first[0].id()]);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(open_keys(None, directory.path()).unwrap_err().to_string().contains("chmod 600"));
}

#[test]
fn a_credential_goes_before_the_file() {
    let (state, credentials) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let key = [7; 32];
    std::fs::write(credentials.path().join("towline-master-key"), key).unwrap();
    let keys = open_keys(Some(credentials.path()), state.path()).unwrap();
    assert_eq!(keys.len(), 1);
    assert_eq!(keys[0].bytes(), key);
    assert!(!state.path().join("master.key").exists());
    let hex = "07".repeat(32);
    assert_eq!(MasterKey::parse(hex.as_bytes()).unwrap().bytes(), key);
    assert!(MasterKey::parse(b"short").is_none());
}
