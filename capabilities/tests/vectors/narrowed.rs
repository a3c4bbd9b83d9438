//! Cases of what a gateway hands to a backend, and of clocks that are not quite right.

use postern_capabilities::narrow::{Narrowable, Narrower};
use postern_capabilities::revocation::Standing;
use postern_capabilities::token::{PRICE_BUDGET_DEFAULT, Unverified};
use postern_capabilities::{KeyRing, keys::KeyId};

use super::cases::{NOW, message, time};
use super::format::{Case, MessageText};
use super::make::{case, foreign, minted, narrowed, pair, rng, root, text_of, third_party};

const ALL: &[(&str, &str)] = &[("orders", "*"), ("invoices", "*")];

/// What a gateway makes of this token for this message, at the time of the message.
fn for_backend(name: &str, token: &str, message: &MessageText) -> String {
    let standing = Standing::new(KeyRing::of(KeyId(1), root().public()));
    let capability = Unverified::parse(token).unwrap().verify(&standing, PRICE_BUDGET_DEFAULT).unwrap();
    let narrower = Narrower::with_rng(PRICE_BUDGET_DEFAULT, &mut rng(name));
    let narrowable = Narrowable::of(token, &capability).unwrap();
    let text = message.with(|message| narrower.narrow(&narrowable, &message, message.time + 60));
    text.unwrap_or_else(|error| panic!("{name}: {error}")).expose().to_owned()
}

fn at(backend: &str, message: MessageText) -> MessageText {
    MessageText { backend: Some(backend.into()), ..message }
}

pub(crate) fn narrowed_cases() -> Vec<Case> {
    let asked = || MessageText { query_string: "page=2".into(), ..message() };
    let mine = |message| at("orders", message);
    let refuse = |message: MessageText| ("not-permitted", message);
    let base = minted("narrowed", ALL, &[("expires", &["1h"])]);
    let third = {
        let party = pair(7);
        let code = format!("right(\"orders\", \"GET\"); check if paid(true) trusting {}", party.public().print());
        let token = foreign("narrowed third party", &code, &pair(1));
        text_of(&third_party("narrowed third party", &token, &party, "paid(true); seen(\"backend\")"))
    };
    vec![
        case(
            "one-message",
            "Good for this message at this backend, for a minute.",
            for_backend("one", &base, &asked()),
        )
        .decide(
            &[mine(asked()), mine(MessageText { time: NOW + 60, ..asked() })],
            &[
                ("expired", mine(MessageText { time: NOW + 61, ..asked() })),
                refuse(mine(message())),
                refuse(mine(MessageText { path: "/v1/orders/43".into(), ..asked() })),
                refuse(mine(MessageText { operation: "POST".into(), ..asked() })),
                refuse(mine(MessageText { query_string: "page=2&".into(), ..asked() })),
            ],
        ),
        case("the-gateway", "A gateway states no backend, so it refuses it.", for_backend("gateway", &base, &asked()))
            .decide(&[], &[refuse(asked())]),
        case("another-backend", "Its caller had a right there too.", for_backend("another", &base, &asked())).decide(
            &[],
            &[
                refuse(at("invoices", asked())),
                refuse(at("invoices", MessageText { resource: "invoices".into(), ..asked() })),
            ],
        ),
        case("what-it-was-before", "The caller's own caveats still hold.", {
            let token = narrowed("narrowed before", &base, &[("host", &["api.example.com"]), ("no-upgrade", &[""])]);
            for_backend("before", &token, &asked())
        })
        .decide(&[mine(asked())], &[refuse(mine(MessageText { host: "example.com".into(), ..asked() }))]),
        case("third-party", "A third party's block stays what it was.", for_backend("third", &third, &message()))
            .decide(&[mine(message())], &[refuse(message())]),
        case("empty-query", "No query is a query too.", for_backend("empty", &base, &message()))
            .decide(&[mine(message())], &[refuse(mine(asked()))]),
    ]
}

pub(crate) fn leeway_cases() -> Vec<Case> {
    vec![
        case(
            "none",
            "Unless asked for, clocks are taken to be right.",
            minted("leeway", ALL, &[("expires", &["10m"])]),
        )
        .decide(&[time(NOW + 600)], &[("expired", time(NOW + 601))]),
        case("expired", "Expired by no more than that.", minted("leeway", ALL, &[("expires", &["10m"])]))
            .leeway(5)
            .decide(&[time(NOW + 600), time(NOW + 605)], &[("expired", time(NOW + 606))]),
        case("not-yet", "Early by no more than that.", minted("leeway early", ALL, &[("not-before", &["10m"])]))
            .leeway(5)
            .decide(&[time(NOW + 595)], &[("not-permitted", time(NOW + 594))]),
        case(
            "nothing-else",
            "It forgives no other caveat.",
            minted("leeway else", ALL, &[("expires", &["10m"]), ("method", &["GET"])]),
        )
        .leeway(5)
        .decide(&[time(NOW + 605)], &[("not-permitted", MessageText { operation: "POST".into(), ..time(NOW + 605) })]),
    ]
}
