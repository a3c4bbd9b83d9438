//! Checks of the official biscuit samples, asked of our messages: few of those tokens lie inside the subset as a
//! whole, most of their checks do. The names are those of the sample files.

use super::cases::message;
use super::format::{Case, MessageText};
use super::make::{appended, case, foreign, pair, secret, text_of, third_party};

pub(crate) fn samples() -> Vec<Case> {
    let file1 = || MessageText { resource: "file1".into(), ..message() };
    let file2 = || MessageText { resource: "file2".into(), ..message() };
    let rights = "right(\"file1\", \"GET\"); right(\"file2\", \"GET\"); right(\"file1\", \"PUT\")";
    let both =
        |name: &str, authority: &str, block: &str| text_of(&appended(name, &foreign(name, authority, &pair(1)), block));
    let alone = |name: &str, authority: &str| text_of(&foreign(name, &format!("{rights}; {authority}"), &pair(1)));
    let mut cases = vec![
        case(
            "test001-basic",
            "A check that asks for the right itself.",
            both("test001", rights, "check if resource($0), operation(\"GET\"), right($0, \"GET\")"),
        )
        .decide(&[file1(), file2()], &[("not-permitted", MessageText { operation: "PUT".into(), ..file1() })]),
        case(
            "test009-expired-token",
            "Expired, and beside it another failed check.",
            both(
                "test009",
                rights,
                "check if resource(\"file1\"); check if time($time), $time <= 2018-12-20T00:00:00Z",
            ),
        )
        .decide(&[MessageText { time: 1_500_000_000, ..file1() }], &[("expired", file1()), ("not-permitted", file2())]),
        case(
            "test012-authority-caveats",
            "A check of the authority block.",
            alone("test012", "check if resource(\"file1\")"),
        )
        .decide(&[file1()], &[("not-permitted", file2())]),
        case(
            "test023-execution-scope",
            "A block's own data is seen by it; here the authority's.",
            both("test023", &format!("{rights}; authority_fact(1)"), "check if authority_fact($var)"),
        )
        .decide(&[file1()], &[]),
        case(
            "test024-third-party",
            "A fact from the trusted key; the third party's own check sees the authority block.",
            {
                let code = format!(
                    "{rights}; permission(\"read\"); check if group(\"admin\") trusting {}",
                    secret(7).public()
                );
                text_of(&third_party(
                    "test024",
                    &foreign("test024", &code, &pair(1)),
                    &pair(7),
                    "group(\"admin\"); check if permission(\"read\")",
                ))
            },
        )
        .decide(&[file1()], &[]),
        case("test025-check-all", "Every match must satisfy the expression, and there must be one.", {
            alone(
                "test025",
                "allowed({\"A\", \"B\"}); check all query(\"op\", $op), allowed($allowed), $allowed.contains($op)",
            )
        })
        .decide(
            &[MessageText { query_string: "op=A&op=B".into(), ..file1() }],
            &[
                ("not-permitted", MessageText { query_string: "op=A&op=invalid".into(), ..file1() }),
                ("not-permitted", file1()),
            ],
        ),
        case("test026-public-keys-interning", "A key in a scope is found although no block of it exists.", {
            alone("test026", &format!("check if true trusting previous, {}", secret(7).public()))
        })
        .decide(&[file1()], &[]),
    ];
    cases.extend(expressions(&alone));
    cases
}

/// Checks without facts: they hold for every message or for none.
fn expressions(alone: &dyn Fn(&str, &str) -> String) -> Vec<Case> {
    let file1 = || MessageText { resource: "file1".into(), ..message() };
    let holds = |name: &str, checks: &[&str]| {
        let code: Vec<String> = checks.iter().map(|check| format!("check if {check}")).collect();
        case(name, "Every one of these expressions is true.", alone(name, &code.join("; "))).decide(&[file1()], &[])
    };
    let fails = |name: &str, check: &str| {
        case(name, "The expression is an error, which refuses.", alone(name, &format!("check if {check}")))
            .decide(&[], &[("not-permitted", file1())])
    };
    vec![
        holds(
            "test017-expressions",
            &[
                "true",
                "!false",
                "true === true",
                "false === false",
                "1 < 2",
                "2 > 1",
                "1 <= 2",
                "1 <= 1",
                "2 >= 1",
                "2 >= 2",
                "3 === 3",
                "1 + 2 * 3 - 4 / 2 === 5",
                "\"hello world\".starts_with(\"hello\"), \"hello world\".ends_with(\"world\")",
                "\"aaabde\".contains(\"abd\")",
                "\"aaabde\" === \"aaa\" + \"b\" + \"de\"",
                "\"abcD12\" === \"abcD12\"",
                "\"abcD12\".length() === 6",
                "\"é\".length() === 2",
                "2019-12-04T09:46:41Z < 2020-12-04T09:46:41Z",
                "2020-12-04T09:46:41Z > 2019-12-04T09:46:41Z",
                "2019-12-04T09:46:41Z <= 2020-12-04T09:46:41Z",
                "2020-12-04T09:46:41Z >= 2020-12-04T09:46:41Z",
                "2020-12-04T09:46:41Z === 2020-12-04T09:46:41Z",
                "hex:12ab === hex:12ab",
                "{1, 2}.contains(2)",
                "{2019-12-04T09:46:41Z, 2020-12-04T09:46:41Z}.contains(2020-12-04T09:46:41Z)",
                "{false, true}.contains(true)",
                "{\"abc\", \"def\"}.contains(\"abc\")",
                "{hex:12ab, hex:34de}.contains(hex:34de)",
                "{1, 2}.contains({2})",
                "{1, 2} === {1, 2}",
                "{1, 2}.intersection({2, 3}) === {2}",
                "{1, 2}.union({2, 3}) === {1, 2, 3}",
                "{1, 2, 3}.intersection({1, 2}).contains(1)",
            ],
        ),
        holds(
            "test028-expressions-v4",
            &[
                "1 !== 3",
                "1 | 2 ^ 3 === 0",
                "\"abcD12x\" !== \"abcD12\"",
                "2022-12-04T09:46:41Z !== 2020-12-04T09:46:41Z",
                "hex:12abcd !== hex:12ab",
                "{1, 4} !== {1, 2}",
            ],
        ),
        holds(
            "test031-heterogeneous-equal",
            &[
                "true == true",
                "false == false",
                "false != true",
                "1 != true",
                "1 == 1",
                "1 != 3",
                "\"abcD12\" == \"abcD12\"",
                "\"abcD12x\" != \"abcD12\"",
                "\"abcD12x\" != true",
                "2022-12-04T09:46:41Z == 2022-12-04T09:46:41Z",
                "2022-12-04T09:46:41Z != 2020-12-04T09:46:41Z",
                "hex:12abcd == hex:12abcd",
                "hex:12abcd != true",
                "{1, 2} == {1, 2}",
                "{1, 4} != {1, 2}",
            ],
        ),
        holds(
            "test032-laziness",
            &[
                "!false && true",
                "false || true",
                "(true || false) && true",
                "!(false && \"x\".intersection(\"x\"))",
                "true || \"x\".intersection(\"x\")",
            ],
        ),
        fails("test027-integer-wraparound-product", "10000000000 * 10000000000 !== 0"),
        fails("test027-integer-wraparound-sum", "9223372036854775807 + 1 !== 0"),
        fails("test027-integer-wraparound-difference", "-9223372036854775808 - 1 !== 0"),
    ]
}
