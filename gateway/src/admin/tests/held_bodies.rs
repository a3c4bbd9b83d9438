//! A body may trickle. Who loses the capability before the body is whole has lost it for this message too.

use super::*;

/// Every message that changes something.
fn changes() -> [(&'static str, String); 4] {
    [
        ("/capabilities/orders", "{}".into()),
        ("/revocations", json!({ "ids": ["ab".repeat(64)] }).to_string()),
        ("/keys", json!({ "action": "rotate" }).to_string()),
        ("/keys", json!({ "action": "retire", "id": 0 }).to_string()),
    ]
}

/// Sends all but the last byte of each body, and returns when every head has been permitted: the gateway asks for a body
/// (100 Continue) only then.
fn hold(gateway: &Gateway, token: &TokenText) -> Vec<TcpStream> {
    let begin = |(path, body): (&str, String)| {
        let mut stream = gateway.connect();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nExpect: 100-continue\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            token.expose(),
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut asked_for = [0; 25];
        stream.read_exact(&mut asked_for).unwrap();
        assert_eq!(&asked_for, b"HTTP/1.1 100 Continue\r\n\r\n", "{path}");
        stream.write_all(&body.as_bytes()[..body.len() - 1]).unwrap();
        stream
    };
    changes().into_iter().map(begin).collect()
}

fn release(held: Vec<TcpStream>) -> Vec<Reply> {
    let finish = |mut stream: TcpStream| {
        stream.write_all(b"}").unwrap();
        read(stream)
    };
    held.into_iter().map(finish).collect()
}

fn end(gateway: &Gateway, token: &TokenText) -> Value {
    gateway.ask(token, "GET", "/ledger", None).body["end"].clone()
}

fn nothing_is_done(gateway: &Gateway, operator: &TokenText, held: Vec<TcpStream>) {
    let before = end(gateway, operator);
    for (reply, (path, _)) in release(held).into_iter().zip(changes()) {
        assert_eq!((reply.status, reply.kind()), (401, "revoked"), "{path}");
        assert_eq!(reply.body.get("token"), None, "{path}");
    }
    assert!(before.is_u64());
    assert_eq!(end(gateway, operator), before, "nothing is recorded");
    assert!(!gateway.state.path().join("root.key.next").exists(), "no key is left behind");
}

/// Law 6, and with it the counter-proof: held bodies of a capability in good standing are acted on.
#[test]
fn a_capability_revoked_while_its_body_trickles_does_nothing() {
    let gateway = Gateway::start();
    let (operator, holder) = (gateway.admin_token(&[]), gateway.admin_token(&[]));
    let held = hold(&gateway, &holder);
    gateway.ask(&operator, "POST", "/revocations", Some(&ids(&gateway.verify(holder.expose()))));
    nothing_is_done(&gateway, &operator, held);
    let held = hold(&gateway, &operator);
    let [minted, revoked, rotated, _] = &release(held)[..] else { panic!("as many answers as messages") };
    assert_eq!([minted.status, revoked.status, rotated.status], [201, 200, 200]);
}

/// The same for a key that is retired meanwhile.
#[test]
fn a_capability_whose_key_is_retired_while_its_body_trickles_does_nothing() {
    let gateway = Gateway::start();
    let holder = gateway.admin_token(&[]);
    let rotated = gateway.ask(&holder, "POST", "/keys", Some(&json!({ "action": "rotate" })));
    assert_eq!(rotated.status, 200, "{}", rotated.body);
    let operator = gateway.admin_token(&[]);
    let held = hold(&gateway, &holder);
    let retired = gateway.ask(&operator, "POST", "/keys", Some(&json!({ "action": "retire", "id": 0 })));
    assert_eq!(retired.status, 200, "{}", retired.body);
    nothing_is_done(&gateway, &operator, held);
}

/// A turn to change keys is waited for; the change before may be what ends the capability of who waits.
#[test]
fn of_changes_that_wait_for_each_other_each_is_permitted_in_its_turn() {
    let gateway = Gateway::start();
    let holder = gateway.admin_token(&[]);
    assert_eq!(gateway.ask(&holder, "POST", "/keys", Some(&json!({ "action": "rotate" }))).status, 200);
    // Both are permitted by their heads; whichever comes second finds its key retired, or comes before.
    let body = json!({ "action": "retire", "id": 0 });
    let text = request(Some(&holder), "POST", "/keys", Some(&body));
    let mut both = [gateway.connect(), gateway.connect()];
    both.iter_mut().for_each(|stream| stream.write_all(text.as_bytes()).unwrap());
    let mut statuses = both.map(|stream| read(stream).status);
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 401], "what the first one ended, the second one does not have");
}
