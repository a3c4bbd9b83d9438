//! Blocks that must be read, and blocks that must not: each refusal by the construct that causes it.

use super::super::testing::{
    OWN, POINT, QUERY, TIME, admitted, binary, block, block_with, crafted, crafted_chain, message, predicate, query,
    refused, term, token, truth, value,
};
use super::super::{Plan, Verdict, admit};
use super::*;
use biscuit_auth::format::schema::op_binary;
use biscuit_auth::format::schema::term::Content;

fn construct(block: &schema::Block) -> String {
    admit(&crafted(block)).expect_err("not admitted").construct.into_owned()
}

fn fact(name: u64, terms: Vec<schema::Term>) -> schema::Fact {
    schema::Fact { predicate: predicate(name, terms) }
}

#[test]
fn no_block_says_what_is_true_of_a_message() {
    for fact in [
        "resource(\"invoices\")",
        "operation(\"GET\")",
        "path(\"/\")",
        "query_string(\"\")",
        "time(2030-01-01T00:00:00Z)",
        "host(\"a\")",
        "scheme(\"https\")",
        "client(\"10.0.0.1\")",
        "client_in(\"10.0.0.0/8\")",
        "client_cert(\"00\")",
        "upgrade(\"\")",
        "query(\"a\", \"b\")",
        "body_size(1)",
        "rpc(\"a\")",
        "tool(\"a\")",
        "arg(\"a\", 1)",
        "grpc(\"a\", \"b\")",
        "backend(\"a\")",
        "postern_anything(1)",
        "right(\"orders\")",
        "right(1, 2)",
        "right(\"a\", \"b\", \"c\")",
    ] {
        let name = fact.split('(').next().unwrap();
        assert_eq!(refused(&format!("{fact};")).construct, format!("the fact `{name}`"), "{fact}");
    }
    assert!(admitted("right(\"orders\", \"GET\"); posterns(1); owner(\"alice\"); resources(\"a\");"));
}

#[test]
fn appended_blocks_hold_checks_only() {
    let refused = admit(&token("right(\"orders\", \"GET\");", &["check if true", "owner(\"alice\")"])).unwrap_err();
    assert_eq!((&*refused.construct, refused.block), ("a fact", Some(2)));
    let sentence = refused.to_string();
    assert!(sentence.starts_with("a fact in block 2 is not admitted: whoever holds"), "{sentence}");
    let rule = admit(&token("right(\"orders\", \"GET\");", &["admin($a) <- path($a)"])).unwrap_err();
    assert_eq!((&*rule.construct, rule.block), ("a rule", Some(1)));
    assert_eq!(refused_authority_rule(), "a rule");
}

fn refused_authority_rule() -> String {
    refused("admin($a) <- path($a);").construct.into_owned()
}

#[test]
fn third_parties_state_facts_but_no_rights() {
    let stated = |name, terms| schema::Block { facts: vec![fact(name, terms)], ..block(&["vouched"]) };
    let text = |symbol| term(Content::String(symbol));
    let chain = |stated: &schema::Block| admit(&crafted_chain(&[(&block(&[]), None), (stated, Some(POINT))]));
    assert_eq!(chain(&stated(OWN, vec![text(0)])).unwrap().blocks[1].facts[0].name.as_ref(), "vouched");
    let right = chain(&stated(4, vec![text(0), text(1)])).unwrap_err();
    assert_eq!((&*right.construct, right.block), ("the fact `right`", Some(1)));
    assert_eq!(chain(&stated(TIME, vec![term(Content::Date(0))])).unwrap_err().construct, "the fact `time`");
}

#[test]
fn reject_if_and_unknown_kinds_of_check_are_refused() {
    assert_eq!(refused("reject if path(\"/\");").construct, "`reject if`");
    for kind in [3, 7, -1] {
        let mut block = block_with(query(Vec::new(), vec![vec![truth(true)]]));
        block.checks[0].kind = Some(kind);
        assert!(construct(&block).starts_with("the unknown check kind"), "{kind}");
    }
}

#[test]
fn queries_that_say_nothing_are_refused() {
    assert_eq!(construct(&block_with(query(Vec::new(), Vec::new()))), "an empty query");
    let mut without = block_with(query(Vec::new(), Vec::new()));
    without.checks[0].queries.clear();
    assert_eq!(construct(&without), "a check without a query");
    let mut head = query(Vec::new(), vec![vec![truth(true)]]);
    head.head.terms.push(term(Content::Variable(1024)));
    assert_eq!(construct(&block_with(head)), "a query whose head has terms");
}

#[test]
fn a_date_that_cannot_be_shown_is_refused_wherever_it_stands() {
    let late = Content::Date(DATE_MAX + 1);
    let compare = |date| {
        let variable = || Content::Variable(1024);
        let ops = vec![value(variable()), value(date), binary(op_binary::Kind::LessOrEqual as i32)];
        block_with(query(vec![predicate(TIME, vec![term(variable())])], vec![ops]))
    };
    assert_eq!(construct(&compare(late.clone())), "a date after the year 9999");
    assert_eq!(construct(&compare(Content::Date(u64::MAX))), "a date after the year 9999");
    assert_eq!(
        construct(&compare(Content::Set(schema::TermSet { set: vec![term(late.clone())] }))),
        "a date after the year 9999"
    );
    let stated = schema::Block { facts: vec![fact(OWN, vec![term(late.clone())])], ..block(&["until"]) };
    assert_eq!(construct(&stated), "a date after the year 9999");
    let matched = block_with(query(vec![predicate(TIME, vec![term(late)])], Vec::new()));
    assert_eq!(construct(&matched), "a date after the year 9999");
    let plan = Plan::compile(admit(&crafted(&compare(Content::Date(DATE_MAX)))).unwrap());
    assert_eq!(plan.expires_at(), Some(DATE_MAX));
    assert_eq!(plan.checks().next().unwrap().text(), "check if time($a), $a <= 9999-12-31T23:59:59Z");
}

#[test]
fn facts_are_ground_and_few() {
    let open = schema::Block { facts: vec![fact(OWN, vec![term(Content::Variable(1024))])], ..block(&["a"]) };
    assert_eq!(construct(&open), "a fact with a variable");
    let facts = |count: usize| schema::Block { facts: vec![fact(OWN, Vec::new()); count], ..block(&["a"]) };
    assert!(admit(&crafted(&facts(FACTS_MAX))).is_ok());
    assert_eq!(construct(&facts(FACTS_MAX + 1)), "a fact too many");
    let authority = facts(FACTS_MAX);
    let chain = crafted_chain(&[(&authority, None), (&facts(1), Some(POINT))]);
    assert_eq!(admit(&chain).unwrap_err().block, Some(1));
}

#[test]
fn content_is_bounded_with_every_use_of_a_symbol_counted() {
    let long = "s".repeat(1024);
    let stated = |uses: usize| {
        let texts = vec![term(Content::String(OWN + 1)); uses];
        let checked = query(vec![predicate(OWN, texts.clone())], vec![vec![value(Content::String(OWN + 1))]]);
        schema::Block {
            symbols: vec!["foo".to_owned(), long.clone()],
            facts: vec![fact(OWN, texts)],
            ..block_with(checked)
        }
    };
    let uses = CONTENT_BYTES_MAX / 1024 / 2;
    assert_eq!(construct(&stated(uses)), "content beyond the bound", "facts, terms and expressions all count");
    let program = admit(&crafted(&stated(uses - 1))).unwrap();
    let Value::Text(stated_text) = &program.blocks[0].facts[0].values[0] else { panic!("a text") };
    let Term::Value(Value::Text(checked_text)) =
        &program.blocks[0].checks[0].alternatives[0].predicates[0].terms[uses - 2]
    else {
        panic!("a text")
    };
    assert!(Arc::ptr_eq(stated_text, checked_text), "one symbol is held once");
    // What an appended block says counts on top of it.
    let more = |uses| {
        let body = vec![predicate(OWN, vec![term(Content::String(OWN + 1)); uses])];
        schema::Block { symbols: Vec::new(), ..block_with(query(body, Vec::new())) }
    };
    assert!(admit(&crafted_chain(&[(&stated(uses - 1), None), (&more(0), None)])).is_ok());
    let refused = admit(&crafted_chain(&[(&stated(uses - 1), None), (&more(1), None)])).unwrap_err();
    assert_eq!((&*refused.construct, refused.block), ("content beyond the bound", Some(1)));
}

#[test]
fn names_bytes_and_trusted_keys_count_too() {
    let named = |uses| {
        let body = vec![predicate(OWN, Vec::new()); uses];
        schema::Block { symbols: vec!["n".repeat(4096)], ..block_with(query(body, Vec::new())) }
    };
    assert!(admit(&crafted(&named(15))).is_ok());
    assert_eq!(construct(&named(16)), "content beyond the bound", "the head's name is the last straw");
    let bytes = |length| {
        let stated = vec![fact(OWN, vec![term(Content::Bytes(vec![0; length]))])];
        schema::Block { facts: stated, ..block(&["f"]) }
    };
    assert!(admit(&crafted(&bytes(CONTENT_BYTES_MAX - 1))).is_ok());
    assert_eq!(construct(&bytes(CONTENT_BYTES_MAX)), "content beyond the bound");
    let trusting = |count| {
        let scope = vec![schema::Scope { content: Some(schema::scope::Content::PublicKey(0)) }; count];
        let key = schema::PublicKey { algorithm: 0, key: POINT.to_vec() };
        schema::Block { scope, public_keys: vec![key], ..block(&[]) }
    };
    assert!(admit(&crafted(&trusting(CONTENT_BYTES_MAX / 32))).is_ok());
    assert_eq!(construct(&trusting(CONTENT_BYTES_MAX / 32 + 1)), "content beyond the bound");
}

#[test]
fn a_refusal_quotes_no_more_than_an_excerpt() {
    let stated = schema::Block { facts: vec![fact(OWN, Vec::new())], ..block(&[&"\u{1}".repeat(5000)]) };
    assert!(construct(&stated).len() < 300);
    assert!(construct(&stated).ends_with('…'));
}

#[test]
fn symbols_and_keys_are_resolved_or_refused() {
    let symbol = |number| block_with(query(vec![predicate(TIME, vec![term(Content::String(number))])], Vec::new()));
    assert!(admit(&crafted(&symbol(0))).is_ok() && admit(&crafted(&symbol(1025))).is_ok());
    for number in [28, 1023, 1026, u64::MAX] {
        assert_eq!(construct(&symbol(number)), format!("the unknown symbol {number}"));
    }
    let mut trusting = query(Vec::new(), vec![vec![truth(true)]]);
    for number in [0, -1, i64::MAX] {
        trusting.scope = vec![schema::Scope { content: Some(schema::scope::Content::PublicKey(number)) }];
        assert_eq!(construct(&block_with(trusting.clone())), format!("trusting the key number {number}"));
    }
}

#[test]
fn tables_that_repeat_an_earlier_one_are_refused() {
    let again = admit(&crafted_chain(&[(&block(&["a"]), None), (&block(&["b", "a"]), None)])).unwrap_err();
    assert_eq!((&*again.construct, again.block), ("a repeated symbol", Some(1)));
    assert_eq!(construct(&block(&["resource"])), "something that biscuit refuses");
    // A third-party block has its own table, and may repeat what the others have.
    assert!(admit(&crafted_chain(&[(&block(&["a"]), None), (&block(&["a"]), Some(POINT))])).is_ok());
    let key = |key: [u8; 32]| schema::PublicKey { algorithm: 0, key: key.to_vec() };
    let keyed = schema::Block { public_keys: vec![key(POINT)], ..block(&[]) };
    let again = admit(&crafted_chain(&[(&keyed, None), (&keyed, None)])).unwrap_err();
    assert_eq!(again.construct, "a repeated public key");
}

#[test]
fn first_party_blocks_share_symbols_and_third_party_blocks_do_not() {
    let asks =
        |symbol| schema::Block { symbols: Vec::new(), ..block_with(query(vec![predicate(symbol, vec![])], vec![])) };
    let chain = crafted_chain(&[(&block(&["a"]), None), (&asks(1024), None)]);
    assert_eq!(admit(&chain).unwrap().blocks[1].checks[0].alternatives[0].predicates[0].name.as_ref(), "a");
    let chain = crafted_chain(&[(&block(&["a"]), None), (&asks(1024), Some(POINT))]);
    assert_eq!(admit(&chain).unwrap_err().construct, "the unknown symbol 1024");
    // Nor does it add to them: what it names `b` is nothing to the block behind it.
    let chain = crafted_chain(&[(&block(&["a"]), None), (&block(&["b"]), Some(POINT)), (&asks(1025), None)]);
    assert_eq!(admit(&chain).unwrap_err().construct, "the unknown symbol 1025");
}

#[test]
fn only_ed25519_keys_are_trusted() {
    let p256 = "02e31fc53f8e35c1a7ae1e34f4b7e9d3c6a3a4e8b5b8f0a4d0f5e2c1b3a4958677";
    let key = schema::PublicKey { algorithm: 1, key: p256.as_bytes()[..33].to_vec() };
    let keyed = schema::Block { public_keys: vec![key], ..block(&[]) };
    assert_eq!(construct(&keyed), "a trusted key that is no Ed25519 key");
}

#[test]
fn names_are_what_the_syntax_can_write() {
    for name in ["", "a b", "a\") or true", "é", "a\u{202e}", "a.b"] {
        let stated = schema::Block { facts: vec![fact(OWN, vec![truth_term()])], ..block(&[name]) };
        assert!(construct(&stated).starts_with("the name \""), "{name}");
    }
    let variable = block_with(query(vec![predicate(TIME, vec![term(Content::Variable(1024))])], vec![]));
    let named = |name: &str| schema::Block { symbols: vec![name.to_owned()], ..variable.clone() };
    assert!(admit(&crafted(&named("0"))).is_ok());
    assert_eq!(construct(&named("a b")), "the name \"a b\"");
}

fn truth_term() -> schema::Term {
    term(Content::Bool(true))
}

#[test]
fn sets_hold_plain_values_of_one_type() {
    let set = |members: Vec<Content>| {
        let set = Content::Set(schema::TermSet { set: members.into_iter().map(term).collect() });
        schema::Block { facts: vec![fact(OWN, vec![term(set)])], ..block(&["a"]) }
    };
    let inner = Content::Set(schema::TermSet { set: Vec::new() });
    assert_eq!(construct(&set(vec![inner])), "a set of sets or variables");
    assert_eq!(construct(&set(vec![Content::Variable(1024)])), "a set of sets or variables");
    assert_eq!(construct(&set(vec![Content::Integer(1), Content::Bool(true)])), "a set of several types");
    let program = admit(&crafted(&set(vec![Content::Integer(2), Content::Integer(1), Content::Integer(2)]))).unwrap();
    let sorted = Value::Set([Value::Integer(1), Value::Integer(2)].into());
    assert_eq!(program.blocks[0].facts[0].values[0], sorted);
}

#[test]
fn client_in_takes_a_literal_canonical_block() {
    assert!(admitted("check if client_in(\"10.0.0.0/8\") or client_in(\"2001:db8::/32\");"));
    for check in [
        "client_in($net)",
        "client_in(\"10.1.2.3/8\")",
        "client_in(\"ten\")",
        "client_in(10)",
        "client_in(\"a\", \"b\")",
    ] {
        assert_eq!(refused(&format!("check if {check};")).construct, "`client_in` of something else", "{check}");
    }
}

#[test]
fn what_a_version_does_not_have_is_refused() {
    let versioned =
        |version| schema::Block { version: Some(version), ..block_with(query(vec![], vec![vec![truth(true)]])) };
    for version in [0, 2, 7, u32::MAX] {
        assert_eq!(construct(&versioned(version)), "something that biscuit refuses", "{version}");
    }
    let mut all = versioned(3);
    assert!(admit(&crafted(&all)).is_ok());
    all.checks[0].kind = Some(CHECK_ALL);
    assert_eq!(construct(&all), "something that biscuit refuses");
    let chain = crafted_chain(&[(&block(&[]), None), (&versioned(4), Some(POINT))]);
    assert_eq!(admit(&chain).unwrap_err().construct, "something that biscuit refuses");
}

#[test]
fn a_variable_is_known_by_its_name_not_its_number() {
    // Two symbols of one text: the library translates numbers to texts, so they are one variable.
    let terms = vec![term(Content::Variable(1024))];
    let ops =
        vec![value(Content::Variable(1025)), value(Content::Date(0)), binary(op_binary::Kind::GreaterThan as i32)];
    let block = schema::Block {
        symbols: vec!["t".to_owned(), "t".to_owned()],
        ..block_with(query(vec![predicate(TIME, terms)], vec![ops]))
    };
    let plan = Plan::compile(admit(&crafted(&block)).unwrap());
    assert_eq!(plan.evaluate(&message(), &[]), Verdict::Passed);
    assert_eq!(QUERY, 27);
}
