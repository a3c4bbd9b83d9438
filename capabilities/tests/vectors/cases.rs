//! The cases: what a right covers, what each caveat prohibits, and who is believed. The hostile ones are in `hostile`.

use postern_capabilities::caveat::MCP_HOUSEKEEPING;
use postern_capabilities::keys::KeyState;

use super::format::{Case, FORMAT, File, Item, MessageText};
use super::make::{appended, case, foreign, key, minted, narrowed, pair, secret, text_of, third_party};

/// 2027-01-15T08:00:00Z, the moment at which most messages are sent.
pub(crate) const NOW: u64 = 1_800_000_000;

const ALL: &[(&str, &str)] = &[("orders", "*")];

/// Every file, by its name.
pub(crate) fn files() -> Vec<(&'static str, File)> {
    let file = |about: &str, cases| File { format: FORMAT.into(), about: about.into(), cases };
    vec![
        ("rights", file("What a right covers.", rights())),
        (
            "caveats",
            file("Every caveat that can be written as a flag: a message that passes and some that do not.", caveats()),
        ),
        ("attenuation", file("Narrowing and sealing: a holder can only take away.", attenuation())),
        ("scopes", file("Whose facts a check believes.", scopes())),
        ("standing", file("Revoked capabilities, retired and unknown keys.", standing())),
        ("unreadable", file("Texts that are no token, or only part of one.", super::hostile::unreadable())),
        ("forged", file("Tokens whose signatures do not hold, or should not be relied on.", super::hostile::forged())),
        (
            "language",
            file(
                "What the caveat language does not admit, what costs too much, and what cannot be decided.",
                super::hostile::language(),
            ),
        ),
        (
            "narrowed",
            file(
                "What a gateway hands to a backend in place of its caller's token.",
                super::narrowed::narrowed_cases(),
            ),
        ),
        ("leeway", file("Clocks that are off.", super::narrowed::leeway_cases())),
        ("samples", file("Checks of the official biscuit samples, on our messages.", super::samples::samples())),
    ]
}

pub(crate) fn message() -> MessageText {
    MessageText::default()
}

fn at(path: &str) -> MessageText {
    MessageText { path: path.into(), ..message() }
}

fn does(operation: &str) -> MessageText {
    MessageText { operation: operation.into(), ..message() }
}

fn to(resource: &str) -> MessageText {
    MessageText { resource: resource.into(), ..message() }
}

pub(crate) fn time(time: u64) -> MessageText {
    MessageText { time, ..message() }
}

fn query(query_string: &str) -> MessageText {
    MessageText { query_string: query_string.into(), ..message() }
}

fn post(items: Vec<Item>) -> MessageText {
    MessageText { operation: "POST".into(), path: "/mcp".into(), body_size: Some(100), items, ..message() }
}

fn call(tool: &str, args: &[(&str, serde_json::Value)]) -> Item {
    let args = args.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    Item { rpc: "tools/call".into(), tool: Some(tool.into()), args, unstated: None }
}

fn rpc(method: &str) -> Item {
    Item { rpc: method.into(), tool: None, args: Vec::new(), unstated: None }
}

fn rights() -> Vec<Case> {
    let plain = |name: &str, why: &str, list: &[(&str, &str)]| case(name, why, minted(name, list, &[]));
    vec![
        plain("one-right", "A right covers its own operation on its own resource.", &[("orders", "GET")]).decide(
            &[message(), at("/"), query("page=2")],
            &[("not-permitted", does("POST")), ("not-permitted", does("HEAD")), ("not-found", to("invoices"))],
        ),
        plain("star-is-every-operation", "The operation `*` covers all, on that resource only.", ALL)
            .decide(&[message(), does("DELETE"), does("PROPFIND")], &[("not-found", to("invoices"))]),
        plain(
            "several-resources",
            "Rights are alternatives.",
            &[("orders", "GET"), ("orders", "POST"), ("invoices", "GET")],
        )
        .decide(
            &[message(), does("POST"), to("invoices")],
            &[
                ("not-permitted", MessageText { operation: "POST".into(), ..to("invoices") }),
                ("not-found", MessageText { operation: "POST".into(), ..to("stock") }),
            ],
        ),
        plain("administration-alone", "A reserved resource stands alone in its token.", &[("postern", "*")]).decide(
            &[MessageText { path: "/revocations".into(), operation: "POST".into(), ..to("postern") }],
            &[("not-found", message())],
        ),
        case(
            "biscuit-prefix",
            "The text may begin with `biscuit:`.",
            format!("biscuit:{}", minted("biscuit-prefix", ALL, &[])),
        )
        .decide(&[message()], &[]),
        case("padded", "Padding is optional.", padded(&minted("padded", ALL, &[]))).decide(&[message()], &[]),
        case("data-in-the-authority-block", "Other facts of the authority block are data that checks can use.", {
            let code = "right(\"orders\", \"GET\"); tenant(\"north\"); check if tenant($t), query(\"tenant\", $t)";
            text_of(&foreign("data-in-the-authority-block", code, &pair(1)))
        })
        .decide(&[query("tenant=north")], &[("not-permitted", query("tenant=south")), ("not-permitted", message())]),
        case("no-right-at-all", "A token without a right is a token that allows nothing.", {
            text_of(&foreign("no-right-at-all", "tenant(\"north\")", &pair(1)))
        })
        .decide(&[], &[("not-found", message())]),
    ]
}

fn padded(text: &str) -> String {
    format!("{text}{}", "=".repeat((4 - text.len() % 4) % 4))
}

fn caveats() -> Vec<Case> {
    let mut cases = time_and_place();
    cases.extend(bodies());
    cases
}

fn flagged(name: &str, why: &str, flags: &[(&str, &[&str])]) -> super::make::Draft {
    case(name, why, minted(name, ALL, flags))
}

fn time_and_place() -> Vec<Case> {
    let refuse =
        |messages: Vec<MessageText>| messages.into_iter().map(|message| ("not-permitted", message)).collect::<Vec<_>>();
    vec![
        flagged("expires", "Up to and including that second.", &[("expires", &["10m"])]).decide(
            &[message(), time(0), time(NOW + 600)],
            &[("expired", time(NOW + 601)), ("expired", time(u64::MAX))],
        ),
        flagged(
            "expires-is-not-the-only-reason",
            "Expired is said only where nothing else stops the message.",
            &[("expires", &["10m"]), ("method", &["GET"])],
        )
        .decide(
            &[message()],
            &[("expired", time(NOW + 601)), ("not-permitted", MessageText { time: NOW + 601, ..does("POST") })],
        ),
        flagged(
            "expired-without-a-right",
            "No right and expired: the token is expired, whatever is asked of it.",
            &[("expires", &["10m"])],
        )
        .decide(&[], &[("not-found", to("invoices")), ("expired", MessageText { time: NOW + 601, ..to("invoices") })]),
        flagged("not-before", "From that second on.", &[("not-before", &["10m"])])
            .decide(&[time(NOW + 600)], &refuse(vec![message(), time(NOW + 599)])),
        flagged("method", "Any of the listed.", &[("method", &["GET,HEAD"])])
            .decide(&[message(), does("HEAD")], &refuse(vec![does("POST"), does("GETS")])),
        flagged("path-exact", "That path and no other.", &[("path", &["/v1/orders/42"])])
            .decide(&[message()], &refuse(vec![at("/v1/orders/42/"), at("/v1/orders/421"), at("/v1/orders"), at("/")])),
        flagged(
            "path-below",
            "That path and what lies below it, at segment boundaries.",
            &[("path", &["/v1/orders/**"])],
        )
        .decide(
            &[message(), at("/v1/orders"), at("/v1/orders/")],
            &refuse(vec![at("/v1/orders2"), at("/v1/orders2/42"), at("/v1"), at("/x/v1/orders/1")]),
        ),
        flagged("path-any-of-several", "Several paths are alternatives.", &[("path", &["/a", "/b/**"])])
            .decide(&[at("/a"), at("/b/c")], &refuse(vec![at("/a/b"), at("/c")])),
        flagged("path-everything", "`/**` is every path.", &[("path", &["/**"])]).decide(&[at("/"), message()], &[]),
        flagged("path-escaped", "Written in the canonical form that messages have.", &[("path", &["/caf\u{e9} 1"])])
            .decide(&[at("/caf%C3%A9%201")], &refuse(vec![at("/cafe")])),
        flagged("query", "Present, and each of its values is this one.", &[("query", &["page=2"])]).decide(
            &[query("page=2"), query("a=b&page=2&page=2"), query("p%61ge=%32")],
            &[
                ("not-permitted", query("page=3")),
                ("not-permitted", query("")),
                ("not-permitted", query("page=2&page=3")),
                ("not-permitted", query("page=3&page=2")),
                ("bad-query", query("Page=2")),
                ("not-permitted", query("page")),
                ("bad-query", query("page=2;page=3")),
                ("bad-query", query("page=%ff")),
                ("bad-query", query("page=%zz")),
            ],
        ),
        flagged(
            "query-spellings",
            "What some service reads as the name that a caveat reads, without being it, is no way past it.",
            &[("query", &["user_id=7"])],
        )
        .decide(
            &[
                query("user_id=7"),
                query("user_id=7&page[number]=1&page[size]=10&a.b=1&a_b=2"),
                query("user_id=7&user-id=8&userid=8&user_ids=8&user[name]=x"),
            ],
            &[
                "user_id=7&user.id=8",
                "user_id=7&user_id[]=8",
                "user_id=7&user%5Bid=8",
                "user_id=7&user+id=8",
                "user_id=7&%20user_id=8",
                "user_id=7&user_id%00=8",
                "user_id=7&USER_ID=8",
                "user_id=7&[user_id]=8",
                "user_id=7&x%07=8",
            ]
            .map(|text| ("bad-query", query(text))),
        ),
        flagged(
            "query-names-by-a-variable",
            "Where a caveat reads parameters by whatever name they have, no two are spellings of one.",
            &[("check", &["check all query($name, $value), $value !== \"root\""])],
        )
        .decide(
            &[query("a=1&b=2&a=3"), query("page[number]=1&page[size]=2")],
            &["a.b=1&a_b=2", "ID=1&id=2", "page=1&page[size]=2"].map(|text| ("bad-query", query(text))),
        ),
        flagged("query-with-spaces", "`+` and `%20` are spaces.", &[("query", &["q=a b"])])
            .decide(&[query("q=a+b"), query("q=a%20b")], &refuse(vec![query("q=a%2Bb")])),
        flagged("host", "Lower case, no port.", &[("host", &["API.example.com"])])
            .decide(&[message()], &refuse(vec![MessageText { host: "example.com".into(), ..message() }])),
        flagged("client", "Networks; an address stands for itself.", &[("client", &["10.0.0.0/8", "2001:db8::1"])])
            .decide(
                &[message(), MessageText { client: "2001:db8::1".parse().unwrap(), ..message() }],
                &refuse(vec![
                    MessageText { client: "11.0.0.1".parse().unwrap(), ..message() },
                    MessageText { client: "2001:db8::2".parse().unwrap(), ..message() },
                    MessageText { client: "::a01:203".parse().unwrap(), ..message() },
                ]),
            ),
        flagged(
            "client-cert",
            "The certificate of this hash, and not none.",
            &[("client-cert", &["AB".repeat(32).as_str()])],
        )
        .decide(
            &[MessageText { client_cert: Some("ab".repeat(32)), ..message() }],
            &refuse(vec![message(), MessageText { client_cert: Some("cd".repeat(32)), ..message() }]),
        ),
        flagged("no-upgrade", "No switch to another protocol.", &[("no-upgrade", &[""])])
            .decide(&[message()], &refuse(vec![MessageText { upgrade: Some("websocket".into()), ..message() }])),
    ]
}

fn bodies() -> Vec<Case> {
    let sized = |body_size| MessageText { body_size, ..does("POST") };
    let refuse =
        |messages: Vec<MessageText>| messages.into_iter().map(|message| ("not-permitted", message)).collect::<Vec<_>>();
    let orders = || call("search", &[("table", "orders".into())]);
    let grpc =
        |service: &str, method: &str| MessageText { grpc: Some((service.into(), method.into())), ..does("POST") };
    vec![
        flagged("max-body", "The declared length; without one it cannot be decided.", &[("max-body", &["1KiB"])])
            .decide(
                &[sized(Some(0)), sized(Some(1024)), message()],
                &[("not-permitted", sized(Some(1025))), ("length-required", sized(None))],
            ),
        flagged("rpc", "The listed methods, each item by itself.", &[("rpc", &["tools/list,ping"])]).decide(
            &[post(vec![rpc("ping")]), post(vec![rpc("ping"), rpc("tools/list")])],
            &refuse(vec![
                post(vec![rpc("ping"), rpc("tools/call")]),
                post(vec![rpc("tools/call"), rpc("ping")]),
                post(vec![rpc("Ping")]),
            ]),
        ),
        flagged("tool", "That tool, and what starts a session.", &[("tool", &["search"])]).decide(
            &MCP_HOUSEKEEPING
                .iter()
                .map(|method| post(vec![rpc(method)]))
                .chain([post(vec![call("search", &[])])])
                .collect::<Vec<_>>(),
            &refuse(vec![
                post(vec![call("delete", &[])]),
                post(vec![call("search", &[]), call("delete", &[])]),
                post(vec![rpc("tools/call")]),
                post(vec![rpc("resources/read")]),
                post(vec![Item { tool: Some("search".into()), ..rpc("tools/run") }]),
                // What else than a POST has a body, no server reads.
                MessageText { operation: "GET".into(), ..post(vec![rpc("ping")]) },
                MessageText { operation: "DELETE".into(), ..post(vec![call("search", &[])]) },
            ]),
        ),
        flagged("arg", "Present, and this; for every call.", &[("arg", &["table=orders"])]).decide(
            &[post(vec![orders()]), post(vec![orders(), orders()])],
            &refuse(vec![
                post(vec![call("search", &[("table", "users".into())])]),
                post(vec![call("search", &[("table", 1.into())])]),
                post(vec![call("search", &[])]),
                post(vec![rpc("initialize")]),
                post(vec![orders(), call("search", &[("table", "users".into())])]),
            ]),
        ),
        flagged(
            "arg-spelled-twice",
            "Two values for one name: both must be the wanted one.",
            &[("arg", &["/filter/owner=7"])],
        )
        .decide(
            &[post(vec![call("search", &[("/filter/owner", 7.into())])])],
            &refuse(vec![post(vec![call("search", &[("/filter/owner", 7.into()), ("/filter/owner", 8.into())])])]),
        ),
        flagged("arg-number-is-not-text", "7 is the integer; \"7\" is another value.", &[("arg", &["id=7"])]).decide(
            &[post(vec![call("get", &[("id", 7.into())])])],
            &refuse(vec![
                post(vec![call("get", &[("id", "7".into())])]),
                post(vec![call("get", &[("id", true.into())])]),
            ]),
        ),
        flagged(
            "tool-and-arg",
            "Together they speak of that tool's calls; the session can start.",
            &[("tool", &["search"]), ("arg", &["table=orders"])],
        )
        .decide(
            &[post(vec![orders()]), post(vec![rpc("initialize")]), post(vec![rpc("")])],
            &refuse(vec![
                post(vec![call("search", &[("table", "users".into())])]),
                post(vec![call("drop", &[("table", "orders".into())])]),
            ]),
        ),
        flagged(
            "arg-that-is-no-fact",
            "A fraction, say, is no fact: who asks for it by name finds nothing, who asks for every argument cannot decide.",
            &[("check", &["check all arg($name, $value), $name === \"table\" or arg(\"owner\", $owner)"])],
        )
        .decide(
            &[post(vec![orders()])],
            &refuse(vec![
                post(vec![Item { unstated: Some("limit".into()), ..orders() }]),
                post(vec![call("search", &[("limit", 1.into())])]),
            ]),
        ),
        flagged("grpc", "One method, or all of a service.", &[("grpc", &["shop.Orders/Get,shop.Stock"])]).decide(
            &[grpc("shop.Orders", "Get"), grpc("shop.Stock", "List")],
            &refuse(vec![grpc("shop.Orders", "Delete"), grpc("shop.StockAdmin", "List"), message()]),
        ),
        flagged(
            "check",
            "The rest of the language.",
            &[("check", &["check if path($p), $p.starts_with(\"/v1/\") && !$p.ends_with(\"/secret\")"])],
        )
        .decide(&[message()], &refuse(vec![at("/v1/secret"), at("/v2")])),
    ]
}

fn attenuation() -> Vec<Case> {
    let base = minted("attenuation", ALL, &[("expires", &["1h"])]);
    let once = narrowed("once", &base, &[("method", &["GET"])]);
    let twice = narrowed("twice", &once, &[("path", &["/v1/orders/42"])]);
    let sealed = postern_capabilities::seal(&twice).ok().unwrap().expose().to_owned();
    let backend = narrowed("backend", &base, &[("check", &["check if backend(\"orders\")"])]);
    let foreign = |name: &str| foreign(name, "right(\"orders\", \"GET\")", &pair(1));
    let widened = |name: &str, why: &str, code: &str| {
        case(name, why, text_of(&appended(name, &foreign(name), code))).refused("not-admitted")
    };
    vec![
        case("narrowed-once", "Both blocks' checks hold.", once).decide(
            &[message()],
            &[
                ("not-permitted", does("POST")),
                ("expired", time(NOW + 3601)),
                ("not-permitted", MessageText { time: NOW + 3601, ..does("POST") }),
            ],
        ),
        case("narrowed-twice", "All blocks' checks hold.", twice)
            .decide(&[message()], &[("not-permitted", at("/v1/orders/43")), ("not-permitted", does("POST"))]),
        case("sealed", "A sealed token decides as before.", sealed)
            .decide(&[message()], &[("not-permitted", at("/v1/orders/43"))]),
        case(
            "for-a-backend-only",
            "The gateway never supplies `backend`: a token narrowed for a backend is refused here and passes there.",
            backend,
        )
        .decide(
            &[MessageText { backend: Some("orders".into()), ..message() }],
            &[
                ("not-permitted", message()),
                ("not-permitted", MessageText { backend: Some("invoices".into()), ..message() }),
            ],
        ),
        widened("a-right-appended", "A holder cannot add a right.", "right(\"invoices\", \"GET\")"),
        widened("a-fact-appended", "A holder cannot add any fact.", "tenant(\"north\")"),
        widened("a-message-fact-appended", "A holder cannot speak for the gateway.", "operation(\"GET\")"),
        widened("a-rule-appended", "A holder cannot derive a right.", "right($r, \"DELETE\") <- resource($r)"),
    ]
}

fn scopes() -> Vec<Case> {
    let friend = secret(7).public();
    let trusting = format!("right(\"orders\", \"GET\"); check if member(\"north\") trusting {friend}");
    let base = |name: &str| foreign(name, &trusting, &pair(1));
    let with = |name: &str, party: u8, code: &str| text_of(&third_party(name, &base(name), &pair(party), code));
    vec![
        case(
            "trusted-key-present",
            "A fact in a block signed by the trusted key satisfies the check.",
            with("trusted-key-present", 7, "member(\"north\")"),
        )
        .decide(&[message()], &[]),
        case("trusted-key-absent", "Without that block the check fails.", text_of(&base("trusted-key-absent")))
            .decide(&[], &[("not-permitted", message())]),
        case(
            "another-key",
            "The same fact from another key is not believed.",
            with("another-key", 8, "member(\"north\")"),
        )
        .decide(&[], &[("not-permitted", message())]),
        case(
            "trusted-key-other-fact",
            "The key is trusted for what it says, not for what it does not.",
            with("trusted-key-other-fact", 7, "member(\"south\")"),
        )
        .decide(&[], &[("not-permitted", message())]),
        case(
            "third-party-checks-hold",
            "A third party can restrict, too.",
            with("third-party-checks-hold", 7, "member(\"north\"); check if operation(\"HEAD\")"),
        )
        .decide(&[], &[("not-permitted", message())]),
        case(
            "third-party-right",
            "A right in a third party's block is no right.",
            with("third-party-right", 7, "right(\"invoices\", \"GET\")"),
        )
        .refused("not-admitted"),
        case(
            "third-party-message-fact",
            "A third party cannot speak for the gateway.",
            with("third-party-message-fact", 7, "member(\"north\"); time(2020-01-01T00:00:00Z)"),
        )
        .refused("not-admitted"),
        case("sibling-not-believed", "A block does not believe its sibling unless it says `trusting previous`.", {
            let token = third_party(
                "sibling-not-believed",
                &foreign("sibling-not-believed", "right(\"orders\", \"GET\")", &pair(1)),
                &pair(7),
                "member(\"north\")",
            );
            text_of(&appended("sibling-not-believed", &token, "check if member(\"north\")"))
        })
        .decide(&[], &[("not-permitted", message())]),
        case("previous-believed", "`trusting previous` believes every block before, whoever signed it.", {
            let token = third_party(
                "previous-believed",
                &foreign("previous-believed", "right(\"orders\", \"GET\")", &pair(1)),
                &pair(7),
                "member(\"north\")",
            );
            text_of(&appended("previous-believed", &token, "check if member(\"north\") trusting previous"))
        })
        .decide(&[message()], &[]),
        case("authority-data-believed", "An appended block believes the authority block.", {
            let token =
                foreign("authority-data-believed", "right(\"orders\", \"GET\"); owner(\"/v1/orders/42\")", &pair(1));
            text_of(&appended("authority-data-believed", &token, "check if owner($p), path($p)"))
        })
        .decide(&[message()], &[("not-permitted", at("/v1/orders/43"))]),
    ]
}

fn standing() -> Vec<Case> {
    let base = minted("standing", ALL, &[]);
    let child = narrowed("standing", &base, &[("method", &["GET"])]);
    let sibling = narrowed("standing's sibling", &base, &[("method", &["GET,HEAD"])]);
    let ids = |token: &str| {
        postern_capabilities::Unverified::parse(token)
            .unwrap_or_else(|error| panic!("{error}"))
            .revocation_ids()
            .to_vec()
    };
    let of_key = |number: u8, id: Option<u32>| {
        let name = format!("key {number} {id:?}");
        let mut builder = biscuit_auth::builder::BiscuitBuilder::new().code("right(\"orders\", \"GET\")").unwrap();
        if let Some(id) = id {
            builder = builder.root_key_id(id);
        }
        text_of(&super::make::foreign_of(&name, builder, &pair(number)))
    };
    let ring = || vec![key(1, KeyState::Live), key(2, KeyState::Minting), key(3, KeyState::Retired)];
    vec![
        case("revoked-itself", "Its own id is revoked.", child.clone())
            .revoked(vec![ids(&child)[1]])
            .decide(&[], &[("revoked", message())]),
        case("revoked-parent", "What it was derived from is revoked.", child.clone())
            .revoked(vec![ids(&child)[0]])
            .decide(&[], &[("revoked", message())]),
        case("revoked-child", "Revoking what was derived leaves the parent alone.", base.clone())
            .revoked(vec![ids(&child)[1]])
            .decide(&[message()], &[]),
        case("revoked-sibling", "Revoking a sibling leaves this one alone.", sibling)
            .revoked(vec![ids(&child)[1]])
            .decide(&[message()], &[]),
        case(
            "revoked-and-sealed",
            "Sealing changes no revocation id.",
            postern_capabilities::seal(&child).ok().unwrap().expose(),
        )
        .revoked(vec![ids(&child)[1]])
        .decide(&[], &[("revoked", message())]),
        case(
            "revoked-before-anything-else",
            "Revoked comes before no right and before expiry.",
            minted("revoked-before", ALL, &[("expires", &["1s"])]),
        )
        .revoked(vec![ids(&minted("revoked-before", ALL, &[("expires", &["1s"])]))[0]])
        .decide(&[], &[("revoked", time(NOW + 100)), ("revoked", to("invoices"))]),
        case("key-by-number", "The number names the key to try.", of_key(2, Some(2)))
            .keys(ring())
            .decide(&[message()], &[]),
        case("key-without-number", "Without a number each live key is tried.", of_key(2, None))
            .keys(ring())
            .decide(&[message()], &[]),
        case("key-number-wrong", "A number that names another key is not made up for.", of_key(2, Some(1)))
            .keys(ring())
            .refused("invalid-token"),
        case("key-number-unknown", "No key has this number.", of_key(2, Some(9))).keys(ring()).refused("unknown-key"),
        case("key-retired", "What a retired key signed is refused.", of_key(3, Some(3)))
            .keys(ring())
            .refused("revoked"),
        case("key-retired-without-number", "A retired key is not tried.", of_key(3, None))
            .keys(ring())
            .refused("invalid-token"),
        case("no-live-key", "Without a live key nothing is accepted.", of_key(3, None))
            .keys(vec![key(3, KeyState::Retired)])
            .refused("invalid-token"),
    ]
}
