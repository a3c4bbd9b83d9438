//! The handle: revoking, keys, minting, following, over the embedded engine in a temporary folder.

use postern_capabilities::keys::SigningKey;

use super::verify::verify_against;
use super::*;

fn key() -> PublicKey {
    SigningKey::generate().public()
}

fn id(byte: u8) -> RevocationId {
    RevocationId::from_bytes(&[byte; 64]).unwrap()
}

fn open(folder: &tempfile::TempDir) -> Ledger {
    Ledger::open(&EmbeddedOptions::new(folder.path().join(FILE_NAME)), Arc::default()).unwrap()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Law 6 and law 7: an acknowledged revocation is in force at that moment, and after a restart.
#[test]
fn an_acknowledged_revocation_is_in_force_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(&folder);
    let by = By::presenter("1a2b3c4d");
    assert_eq!(block_on(ledger.revoke(&[id(1), id(2), id(1)], by.clone())), Ok(2));
    assert!(ledger.standing().is_revoked(&id(1)) && ledger.standing().is_revoked(&id(2)));
    assert_eq!(block_on(ledger.revoke(&[id(2), id(3)], by.clone())), Ok(1), "what is revoked is not recorded again");
    assert_eq!(block_on(ledger.revoke(&[id(2)], by)), Ok(0));
    assert_eq!(ledger.state().read().position(), Position(3));
    drop(ledger);
    let ledger = open(&folder);
    assert_eq!(ledger.standing().revoked_count(), 3);
    assert_eq!(ledger.state().read().revocation(&id(3)).unwrap().by.as_str(), "1a2b3c4d");
}

#[test]
fn keys_are_adopted_rotated_and_retired() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(&folder);
    let (first, second) = (key(), key());
    assert_eq!(block_on(ledger.adopt_root_key(first)), Ok(KeyId(0)));
    assert_eq!(block_on(ledger.adopt_root_key(first)), Ok(KeyId(0)), "at every later start it is known");
    let other = block_on(ledger.adopt_root_key(second)).unwrap_err();
    assert!(matches!(other, LedgerError::OtherRootKey { .. }), "{other}");
    assert_eq!(block_on(ledger.retire(KeyId(0), By::gateway())), Err(LedgerError::RetireMinting(KeyId(0))));
    assert_eq!(block_on(ledger.rotate(second, By::gateway())), Ok(KeyId(1)));
    assert!(ledger.standing().keys().is_live(&first));
    assert_eq!(block_on(ledger.retire(KeyId(0), By::gateway())), Ok(()));
    assert!(!ledger.standing().keys().is_live(&first), "in force at the acknowledgement");
    assert_eq!(block_on(ledger.retire(KeyId(0), By::gateway())), Ok(()));
    assert_eq!(
        block_on(ledger.retire(KeyId(9), By::gateway())),
        Err(LedgerError::Keys(KeyRingError::Unknown(KeyId(9))))
    );
    drop(ledger);
    let ledger = open(&folder);
    assert_eq!(ledger.standing().keys().minting().unwrap().key, second);
    assert_eq!(block_on(ledger.adopt_root_key(second)), Ok(KeyId(1)));
}

#[test]
fn decisions_on_keys_hold_against_other_appends() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(&folder);
    block_on(async {
        let first = key();
        ledger.adopt_root_key(first).await.unwrap();
        let resource = ResourceName::parse("orders").unwrap();
        let mint = async {
            for byte in 0..50 {
                let (resource, under, key) = (resource.clone(), &[id(200)], &first);
                let mint = NewMint { resource, id: id(byte), under, key, until: None };
                ledger.minted(mint, By::gateway()).await.unwrap();
            }
        };
        let rotate = async {
            for _ in 0..3 {
                ledger.rotate(key(), By::gateway()).await.unwrap();
            }
            assert!(matches!(ledger.rotate(key(), By::gateway()).await, Err(LedgerError::Keys(_))), "four live keys");
        };
        tokio::join!(mint, rotate);
    });
    assert_eq!(ledger.state().read().minted_count(), 50);
    assert_eq!(ledger.standing().keys().live().count(), 4);
}

#[test]
fn waiting_ends_with_the_next_record() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(&folder);
    block_on(async {
        let ids = [id(1)];
        let (_, revoked) = tokio::join!(ledger.wait_beyond(Position::START), ledger.revoke(&ids, By::gateway()));
        revoked.unwrap();
        ledger.wait_beyond(Position::START).await;
    });
}

#[test]
fn the_live_state_is_compared_with_the_rebuilt_one() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(&folder);
    block_on(ledger.revoke(&[id(1), id(2)], By::gateway())).unwrap();
    let file = folder.path().join(FILE_NAME);
    let live = ledger.state().read().clone();
    assert!(verify_against(&file, &live).unwrap().is_sound(), "beside the running gateway");
    let mut other = Projection::default();
    for entry in block_on(ledger.record().read(Position::START, 10)).unwrap() {
        let event = Event::Revoked { id: id(u8::try_from(entry.position.0).unwrap() + 7) };
        other.apply(&Entry { happening: Happening { event, ..entry.happening }, ..entry }).unwrap();
    }
    assert!(!verify_against(&file, &other).unwrap().is_sound());
}
