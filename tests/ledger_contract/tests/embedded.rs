//! The embedded engine, held to the contract.

use std::path::PathBuf;
use std::sync::Arc;

use postern_gateway::ledger::record::{Observer, Record};
use postern_gateway::ledger::{Embedded, EmbeddedOptions, verify};
use postern_ledger_contract::{Engine, property, run_all};
use proptest::prelude::*;

struct InFolder {
    folder: tempfile::TempDir,
}

impl InFolder {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("ledger.db")
    }
}

impl Engine for InFolder {
    fn open(&self, observer: Box<dyn Observer>) -> Arc<dyn Record> {
        let options = EmbeddedOptions::new(self.file());
        Arc::new(Embedded::open(&options, observer, Arc::default()).expect("the ledger opens"))
    }
}

#[test]
fn the_embedded_engine_keeps_the_contract() {
    run_all(InFolder::new);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn what_is_rebuilt_is_what_was_live(steps in property::steps()) {
        let engine = InFolder::new();
        property::rebuilt_is_live(&engine, &steps);
        let report = verify::verify(&engine.file()).expect("verified");
        prop_assert!(report.is_sound(), "{}", report);
    }
}
