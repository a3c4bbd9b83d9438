//! The hostile cases: texts that are no token, signatures that do not hold, and language beyond the subset.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use biscuit_auth::builder::{Algorithm, BiscuitBuilder, BlockBuilder, Fact, Term};
use biscuit_auth::format::schema;
use biscuit_auth::{Biscuit, KeyPair};
use prost::Message;

use super::cases::message;
use super::format::{Case, MessageText};
use super::make::{appended, case, foreign, foreign_of, minted, narrowed, pair, rng, text_of, third_party};

const READ: &str = "right(\"orders\", \"GET\")";

fn three_blocks(name: &str) -> Biscuit {
    let token = foreign(name, READ, &pair(1));
    let token = appended(name, &token, "check if operation(\"GET\")");
    appended(name, &token, "check if path(\"/v1/orders/42\")")
}

/// The token as its outer message, changed, and written again.
fn changed(token: &Biscuit, change: impl FnOnce(&mut schema::Biscuit)) -> String {
    let mut outer = token.container().to_proto();
    change(&mut outer);
    BASE64.encode(outer.encode_to_vec())
}

pub(crate) fn unreadable() -> Vec<Case> {
    let token = minted("unreadable", &[("orders", "GET")], &[]);
    let cut = |name: &str, end: usize| case(name, "The text was cut.", &token[..end]).refused("truncated-token");
    let blocks = |name: &str, count: usize| {
        let mut token = foreign(name, READ, &pair(1));
        for _ in 1..count {
            token = appended(name, &token, "check if scheme(\"https\")");
        }
        text_of(&token)
    };
    vec![
        case("empty", "Nothing at all.", "").refused("invalid-token"),
        case("prefix-only", "Nothing behind the prefix.", "biscuit:").refused("invalid-token"),
        case("standard-alphabet", "`+` and `/` are of the other base64.", "En0+/w").refused("invalid-token"),
        case("with-its-scheme", "The carrier's word is no part of the token.", format!("Bearer {token}"))
            .refused("invalid-token"),
        case("two-tokens", "A list is no token.", format!("{token},{token}")).refused("invalid-token"),
        case(
            "json-web-token",
            "Another kind of token.",
            "eyJhbGciOiJIUzI1NiJ9.e30.ZRrHA1JJJW8opsbCGfG_HACGpVUMN_a9IV7pAx_Zmeo",
        )
        .refused("invalid-token"),
        case("text-in-base64", "Base64 of something else.", BASE64.encode("let me in, please"))
            .refused("invalid-token"),
        cut("cut-at-a-quarter", token.len() / 4),
        cut("cut-at-half", token.len() / 2),
        cut("cut-by-four", token.len() - 4),
        cut("cut-by-one", token.len() - 1),
        case(
            "trailing-bytes",
            "Something behind the token's end.",
            BASE64.encode([BASE64.decode(&token).unwrap(), vec![0]].concat()),
        )
        .refused("invalid-token"),
        case("too-long", "More text than is read, whatever it says.", "A".repeat(8193)).refused("invalid-token"),
        case("most-blocks", "24 blocks are verified.", blocks("most-blocks", 24)).decide(&[message()], &[]),
        case("too-many-blocks", "25 blocks are not.", blocks("too-many-blocks", 25)).refused("invalid-token"),
    ]
}

pub(crate) fn forged() -> Vec<Case> {
    let flipped = |name: &str, why: &str, change: fn(&mut schema::Biscuit)| {
        case(name, why, changed(&three_blocks(name), change)).refused("invalid-token")
    };
    let mut cases = vec![
        case("another-root", "Signed by a key that is not ours.", text_of(&foreign("another-root", READ, &pair(9))))
            .refused("invalid-token"),
        flipped("content-bit", "One bit of the rights.", |token| token.authority.block[2] ^= 1),
        flipped("signature-bit", "One bit of a signature.", |token| token.blocks[0].signature[5] ^= 0x10),
        flipped("next-key-bit", "One bit of a next key.", |token| token.blocks[1].next_key.key[0] ^= 1),
        flipped("secret-bit", "One bit of the secret at the end.", |token| match &mut token.proof.content {
            Some(schema::proof::Content::NextSecret(secret)) => secret[0] ^= 1,
            _ => unreachable!("the token is not sealed"),
        }),
        flipped("signature-cut", "A signature of 63 bytes.", |token| token.blocks[0].signature.truncate(63)),
        flipped("signature-empty", "A signature of none.", |token| token.authority.signature.clear()),
        flipped("block-dropped", "A caveat taken out of the chain.", |token| drop(token.blocks.remove(0))),
        flipped("last-block-dropped", "The last caveat taken off.", |token| drop(token.blocks.pop())),
        flipped("blocks-swapped", "Two blocks in the other order.", |token| token.blocks.swap(0, 1)),
        flipped("block-doubled", "A block repeated.", |token| token.blocks.push(token.blocks[1].clone())),
        flipped(
            "signature-rewritten",
            "The other representation of an Ed25519 signature, which verification must not accept.",
            |token| {
                add_order(&mut token.blocks[1].signature);
            },
        ),
        case("block-of-another-token", "A block transplanted.", {
            let other = three_blocks("block-of-another-token's donor").container().to_proto();
            changed(&three_blocks("block-of-another-token"), |token| token.blocks[1] = other.blocks[1].clone())
        })
        .refused("invalid-token"),
        case("seal-taken-off", "A sealed token with a made-up secret in place of the seal.", {
            let sealed = three_blocks("seal-taken-off").seal().unwrap();
            changed(&sealed, |token| token.proof.content = Some(schema::proof::Content::NextSecret(vec![5; 32])))
        })
        .refused("invalid-token"),
        case("seal-missing", "A sealed token without its seal.", {
            let sealed = three_blocks("seal-missing").seal().unwrap();
            changed(&sealed, |token| token.proof.content = None)
        })
        .refused("invalid-token"),
        case("external-signature-swapped", "A third party's block under another key.", {
            let token = third_party(
                "external-signature-swapped",
                &three_blocks("external-signature-swapped"),
                &pair(7),
                "member(\"north\")",
            );
            changed(&token, |token| {
                if let Some(external) = &mut token.blocks[2].external_signature {
                    external.public_key.key = pair(8).public().to_bytes();
                }
            })
        })
        .refused("invalid-token"),
    ];
    cases.extend(other_algorithms());
    cases.extend(oddities());
    cases
}

/// Adds the order of Ed25519's group to the second half of a signature: the same number to a lenient verifier.
fn add_order(signature: &mut [u8]) {
    const ORDER: [u8; 32] = [
        0xED, 0xD3, 0xF5, 0x5C, 0x1A, 0x63, 0x12, 0x58, 0xD6, 0x9C, 0xF7, 0xA2, 0xDE, 0xF9, 0xDE, 0x14, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut carry = 0;
    for (byte, add) in signature[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        *byte = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
}

/// P-256 anywhere: its signatures can be rewritten, and with them the revocation ids.
fn other_algorithms() -> Vec<Case> {
    let p256 = |name: &str| KeyPair::new_with_rng(Algorithm::Secp256r1, &mut rng(name));
    let of_authority = {
        let builder = BiscuitBuilder::new().root_key_id(1).code(READ).unwrap();
        builder.build_with_key_pair(&pair(1), Default::default(), &p256("a next key")).unwrap()
    };
    let of_block = |next: &KeyPair| {
        let token = foreign("p256-next-key-of-a-block", READ, &pair(1));
        token.append_with_keypair(next, BlockBuilder::new().code("check if operation(\"GET\")").unwrap()).unwrap()
    };
    vec![
        case("p256-root", "Signed by a P-256 key.", text_of(&foreign("p256-root", READ, &p256("p256-root's key"))))
            .refused("invalid-token"),
        case("p256-next-key", "The authority block names a P-256 key.", text_of(&of_authority))
            .refused("invalid-token"),
        case(
            "p256-next-key-of-a-block",
            "An appended block names a P-256 key.",
            text_of(&of_block(&p256("another next key"))),
        )
        .refused("invalid-token"),
        case(
            "p256-next-key-sealed",
            "Sealing does not help.",
            text_of(&of_block(&p256("a third next key")).seal().unwrap()),
        )
        .refused("invalid-token"),
        case("p256-inner-block", "A later Ed25519 block does not help.", {
            text_of(&appended("p256-inner-block", &of_block(&p256("an inner key")), "check if scheme(\"https\")"))
        })
        .refused("invalid-token"),
        case("p256-third-party", "A third party signs with P-256.", {
            text_of(&third_party(
                "p256-third-party",
                &foreign("p256-third-party", READ, &pair(1)),
                &p256("a party"),
                "member(\"north\")",
            ))
        })
        .refused("invalid-token"),
    ]
}

/// What protobuf readers skip or settle by themselves, in the part that no signature covers.
fn oddities() -> Vec<Case> {
    let with = |name: &str, why: &str, tail: &[u8]| {
        let bytes = foreign(name, READ, &pair(1)).to_vec().unwrap();
        case(name, why, BASE64.encode([bytes, tail.to_vec()].concat())).refused("invalid-token")
    };
    vec![
        with("unknown-outer-field", "A field that the format does not have.", &[0x78, 1]),
        with("second-root-key-id", "A number given twice, the last being the right one.", &[0x08, 1]),
    ]
}

pub(crate) fn language() -> Vec<Case> {
    let of_authority = |name: &str, why: &str, code: &str| {
        case(name, why, text_of(&foreign(name, &format!("{READ}; {code}"), &pair(1)))).refused("not-admitted")
    };
    let of_block = |name: &str, why: &str, code: &str| {
        case(name, why, text_of(&appended(name, &foreign(name, READ, &pair(1)), code))).refused("not-admitted")
    };
    let mut cases = vec![
        of_authority("rule-in-the-authority-block", "No rules, wherever.", "tenant($t) <- query(\"tenant\", $t)"),
        of_block("regular-expression", "No regular expressions.", "check if path($p), $p.matches(\"^/v1/\")"),
        of_block(
            "closure-with-a-parameter",
            "No closures with parameters.",
            "check if path($p), {\"/a\", \"/b\"}.any($x -> $x == $p)",
        ),
        of_block("extern-function", "No functions from outside.", "check if path($p), $p.extern::ok()"),
        of_block(
            "reject-if",
            "No `reject if`: the library lets it pass where it should not.",
            "reject if operation(\"POST\")",
        ),
        of_block("array", "No arrays.", "check if [1, 2].contains(1)"),
        of_block("map", "No maps.", "check if {\"a\": 1}.get(\"a\") == 1"),
        of_block("null", "No null.", "check if null == null"),
        of_block("type-of", "No types as values.", "check if path($p), $p.type() == \"string\""),
        of_block("try-or", "Errors are not caught.", "check if (1 / 0 == 1).try_or(true)"),
        of_authority(
            "reserved-resource-fact",
            "A message's fact in the authority block would speak for the gateway.",
            "resource(\"orders\")",
        ),
        of_authority("reserved-time-fact", "So would a time.", "time(2020-01-01T00:00:00Z)"),
        of_authority("reserved-backend-fact", "So would a backend.", "backend(\"orders\")"),
        of_authority("reserved-prefix", "Names that begin with `postern_` are kept for later.", "postern_later(1)"),
        of_authority("right-of-another-shape", "A right has a resource and an operation.", "right(\"orders\")"),
    ];
    cases.push(
        case(
            "reserved-mixed",
            "A reserved resource beside another.",
            text_of(&foreign("reserved-mixed", &format!("{READ}; right(\"postern\", \"GET\")"), &pair(1))),
        )
        .refused("not-admitted"),
    );
    cases.push(
        case("date-after-9999", "A date that no calendar of ours reaches.", {
            let fact = Fact::new("until".to_owned(), [Term::Date(u64::MAX)]);
            text_of(&foreign_of(
                "date-after-9999",
                BiscuitBuilder::new().root_key_id(1).code(READ).unwrap().fact(fact).unwrap(),
                &pair(1),
            ))
        })
        .refused("not-admitted"),
    );
    cases.extend(costs());
    cases.extend(undecidable());
    cases
}

fn costs() -> Vec<Case> {
    let three = "check if query($a, $x), query($b, $y), query($c, $z), $x == $y, $y == $z";
    let dear = |name: &str| text_of(&appended(name, &foreign(name, READ, &pair(1)), three));
    let cheap = narrowed("budget", &minted("budget", &[("orders", "GET")], &[]), &[("method", &["GET"])]);
    vec![
        case("too-dear", "Three free parameters: 64 * 64 * 64 combinations.", dear("too-dear")).refused("over-budget"),
        case("too-dear-for-this-budget", "The budget is the gateway's choice.", cheap.clone())
            .budget(1)
            .refused("over-budget"),
        case("within-this-budget", "Plain caveats cost next to nothing.", cheap).budget(100).decide(&[message()], &[]),
    ]
}

fn undecidable() -> Vec<Case> {
    let of_block = |name: &str, why: &str, code: &str| {
        case(name, why, text_of(&appended(name, &foreign(name, READ, &pair(1)), code)))
    };
    let query = |query_string: &str| MessageText { query_string: query_string.into(), ..message() };
    vec![
        of_block("overflow", "Integers do not wrap.", "check if body_size($n), $n + 9223372036854775807 > 0")
            .decide(&[message()], &[("not-permitted", MessageText { body_size: Some(1), ..message() })]),
        of_block("division-by-zero", "Nothing is divided by zero.", "check if body_size($n), 10 / $n > 0")
            .decide(&[MessageText { body_size: Some(2), ..message() }], &[("not-permitted", message())]),
        of_block(
            "strict-comparison-across-types",
            "`===` wants one type on both sides.",
            "check if path($p), $p === 1",
        )
        .decide(&[], &[("not-permitted", message())]),
        of_block(
            "any-binding-that-errs",
            "An error in any binding refuses, whatever the others say.",
            "check if query(\"n\", $v), $v === \"5\" || $v === 1",
        )
        .decide(&[], &[("not-permitted", query("n=5&n=6")), ("not-permitted", query("n=6&n=5"))]),
        of_block("first-success-stops", "A later alternative is not looked at.", "check if true or 1 / 0 === 1")
            .decide(&[message()], &[]),
        of_block("first-error-stops", "An earlier alternative is.", "check if 1 / 0 === 1 or true")
            .decide(&[], &[("not-permitted", message())]),
    ]
}
