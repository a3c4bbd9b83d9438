//! The official samples of the biscuit project, byte for byte, out of the package of `biscuit-auth` 6.0.0 (`samples/`).
//!
//! Of the 33 whose signatures are valid 11 lie inside the language. For these the verdict is the one that the samples' own
//! `samples.json` states, as far as a message can say what their authorizers say; the others are refused, each for what it
//! was made to show. Their checks, where they are inside, are among the tests of the operators.

// The lint's own leave for tests does not reach the helpers of a test crate.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use biscuit_auth::builder::Algorithm;
use biscuit_auth::{Biscuit, PublicKey};
use postern_capabilities::language::{self, Plan, Verdict};
use postern_capabilities::message::Message;

/// 2020-12-21T09:23:12Z, the time that the samples' authorizers state.
const TIME: u64 = 1_608_542_592;

const ROOT: &str = "1055c750b1a1505937af1537c626ba3263995c33a64758aaafb1275b0312e284";

/// Where the samples are: in the package of `biscuit-auth` itself, as cargo has unpacked it.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let metadata = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version", "1", "--locked", "--manifest-path"])
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
            .output()
            .unwrap();
        assert!(metadata.status.success(), "{}", String::from_utf8_lossy(&metadata.stderr));
        let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).unwrap();
        let packages = metadata["packages"].as_array().unwrap();
        let package = packages.iter().find(|package| package["name"] == "biscuit-auth").unwrap();
        Path::new(package["manifest_path"].as_str().unwrap()).with_file_name("samples")
    })
}

fn sample(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(format!("{name}.bc"))).unwrap()
}

fn verified(bytes: &[u8]) -> bool {
    let root = PublicKey::from_bytes_hex(ROOT, Algorithm::Ed25519).unwrap();
    Biscuit::from(bytes, root).is_ok()
}

/// Inside the language: the sample, the message, and which checks fail, or `None` where nothing can be decided.
#[test]
fn inside_the_language_the_verdict_is_the_samples() {
    type Failed = Option<&'static [(usize, usize)]>;
    let cases: &[(&str, &str, &str, Failed)] = &[
        // Its authorizer states no operation; a message has one, that the token does not speak of.
        ("test001_basic", "file1", "none", Some(&[(1, 0)])),
        ("test001_basic", "file1", "read", Some(&[])),
        ("test001_basic", "file3", "read", Some(&[(1, 0)])),
        ("test009_expired_token", "file1", "read", Some(&[(1, 1)])),
        // The failing check is its authorizer's; the token has none.
        ("test011_authorizer_authority_caveats", "file2", "read", Some(&[])),
        ("test012_authority_caveats", "file1", "read", Some(&[])),
        ("test012_authority_caveats", "file2", "read", Some(&[(0, 0)])),
        ("test015_multi_queries_caveats", "file1", "read", Some(&[])),
        ("test020_sealed", "file1", "read", Some(&[])),
        ("test021_parsing", "file1", "read", Some(&[])),
        // Its authorizer states two operations at once; a message has one.
        ("test025_check_all", "file1", "A", Some(&[])),
        ("test025_check_all", "file1", "B", Some(&[])),
        ("test025_check_all", "file1", "invalid", Some(&[(0, 0)])),
        ("test027_integer_wraparound", "file1", "read", None),
        ("test028_expressions_v4", "file1", "read", Some(&[])),
        // The last two checks read facts that its authorizer states and no message has.
        ("test031_heterogeneous_equal", "file1", "read", Some(&[(0, 19), (0, 20)])),
    ];
    for (name, resource, operation, failed) in cases {
        let bytes = sample(name);
        assert!(verified(&bytes), "{name}");
        let plan = Plan::compile(language::admit(&bytes).unwrap_or_else(|reason| panic!("{name}: {reason}")));
        let message = Message::new(resource, operation, "/", TIME, [127, 0, 0, 1].into());
        let verdict = match plan.evaluate(&message, &[]) {
            Verdict::Passed => Some(Vec::new()),
            Verdict::Failed(failed) => Some(failed.iter().map(|check| (check.block, check.index)).collect()),
            Verdict::Undecidable(_) => None,
            Verdict::BeyondMaxima(what) => panic!("{name}: {what}"),
        };
        assert_eq!(verdict.as_deref(), *failed, "{name}, {operation} of {resource}");
    }
}

/// Outside: what is named as the reason.
const OUTSIDE: &[(&str, &str)] = &[
    ("test007_scoped_rules", "a rule"),
    ("test008_scoped_checks", "a fact"),
    ("test010_authorizer_scope", "a fact"),
    ("test013_block_rules", "a rule"),
    ("test014_regex_constraint", "a regular expression (`.matches()`)"),
    ("test016_caveat_head_name", "a fact"),
    ("test017_expressions", "a regular expression (`.matches()`)"),
    ("test018_unbound_variables_in_rule", "a rule"),
    ("test019_generating_ambient_from_variables", "a rule"),
    ("test022_default_symbols", "the fact `resource`"),
    ("test023_execution_scope", "a fact"),
    ("test024_third_party", "the fact `right`"),
    ("test026_public_keys_interning", "the fact `query`"),
    ("test029_reject_if", "`reject if`"),
    ("test030_null", "`null`"),
    ("test032_laziness_closures", "a closure with parameters"),
    ("test033_typeof", "`null`"),
    ("test034_array_map", "an array"),
    ("test035_ffi", "an extern function"),
    ("test036_secp256r1", "the next key"),
    ("test037_secp256r1_third_party", "the next key"),
    ("test038_try_op", "`.try_or()`"),
];

#[test]
fn outside_the_language_each_is_refused_for_what_it_shows() {
    for (name, construct) in OUTSIDE {
        let bytes = sample(name);
        assert!(verified(&bytes), "{name}");
        let refused = language::admit(&bytes).expect_err(name);
        assert_eq!(refused.construct, *construct, "{name}: {refused}");
    }
}

/// The rest is there for its signatures. Whether one of them could be admitted is nobody's question: signatures come first.
#[test]
fn the_others_have_bad_signatures() {
    for name in [
        "test002_different_root_key",
        "test003_invalid_signature_format",
        "test004_random_block",
        "test005_invalid_signature",
        "test006_reordered_blocks",
    ] {
        assert!(!verified(&sample(name)), "{name}");
    }
}
