//! Bad configurations and the exact sentences they get; the default file against the code.

use super::*;

const RESOURCE: &str = "[resource.orders]\nupstream = \"http://127.0.0.1:3000\"\n";

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse(text, Path::new("/nonexistent"))
}

fn mistakes(text: &str) -> Vec<String> {
    match parse(text) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.mistakes.iter().map(Mistake::to_string).collect(),
    }
}

#[test]
fn the_default_file_says_what_the_code_does() {
    let documented = parse(DEFAULT_FILE).expect("the default file is valid");
    assert_eq!(documented, parse(RESOURCE).expect("valid"));
}

/// Every key that the code knows stands in the default file, commented out where it has no default.
#[test]
fn the_default_file_names_every_key() {
    let everything = "zz = 1\n[tls]\nzz = 1\n[admin]\nzz = 1\n[ledger]\nzz = 1\n[log]\nzz = 1\n[telemetry]\nzz = 1\n[telemetry.tls]\nzz = 1\n[limits]\nzz = 1\n[resource.r]\nzz = 1\n[resource.r.health]\nzz = 1\n[resource.r.cors]\nzz = 1\n[resource.r.upstream_tls]\nzz = 1\n";
    let mut keys = 0;
    for mistake in mistakes(everything) {
        let Some((_, known)) = mistake.split_once("the keys here are ") else { continue };
        for key in known.trim_end_matches('.').split(", ").map(|key| key.trim_matches('`')) {
            keys += 1;
            let later = ["topic"].contains(&key);
            let table =
                ["tls", "admin", "ledger", "log", "telemetry", "limits", "resource", "health", "cors", "upstream_tls"]
                    .contains(&key);
            let stands = DEFAULT_FILE.lines().any(|line| {
                let line = line.trim_start_matches("# ");
                line.starts_with(&format!("{key} = "))
                    || (table && (line.starts_with(&format!("[{key}")) || line.ends_with(&format!(".{key}]"))))
            });
            assert!(stands || later, "{key} is missing from postern.default.toml");
        }
    }
    assert!(keys > 50, "the keys were not listed: {keys}");
}

#[test]
fn a_whole_file_is_read() {
    let dir = tempfile::tempdir().expect("a folder");
    for name in ["tls.pem", "tls.key", "clients.pem", "anonymous.token"] {
        std::fs::write(dir.path().join(name), "").expect("written");
    }
    let text = r#"
        listen = ["0.0.0.0:8443", "[::]:8444"]
        workers = 2
        trusted_proxies = ["10.0.0.0/8", "::1"]
        trusted_fields = ["forwarded", "x-forwarded-prefix"]
        state_dir = "state"
        tls = { cert = "tls.pem", key = "tls.key", client_ca = "clients.pem" }
        admin.listen = "127.0.0.1:9000"
        log.access = "access.log"
        [limits]
        head_bytes_max = "16KiB"
        body_bytes_max = "1GiB"
        idle_timeout = "75s"
        h2_streams_max = 50
        [resource.api]
        upstream = ["http://10.0.0.1:3000", "http://API.internal"]
        prefix = "/"
        keep_prefix = true
        host = "api.example.com"
        forward_token = "original"
        authorization = "pass"
        encoded_slash = "pass"
        upstream_host = "Internal:8080"
        anonymous = "anonymous.token"
        max_body = "10MiB"
        response_timeout = "5m"
        health = { path = "/health?deep=1", interval = "1s", healthy_after = 1, status = [204, "300-399"] }
        allow_headers = ["X-Original-URL"]
        strip_headers = ["X-Staff-Id", "X_Team-*"]
        [resource.admin]
        upstream = "http://10.0.0.1:3000"
        prefix = "/admin"
        nested = true
    "#;
    let config = Config::parse(text, dir.path()).expect("valid");
    assert_eq!(config.files().len(), 4, "certificate, key, client authorities, anonymous token: {:?}", config.files());
    assert_eq!(config.listen.len(), 2);
    assert_eq!(config.workers, Some(2));
    assert!(config.trusted_proxies.contains("10.9.9.9".parse().expect("address")));
    let named = [TrustedField::Forwarded, TrustedField::XForwardedPrefix];
    assert_eq!(config.trusted_fields, TrustedFields::of(&named));
    assert_eq!(config.state_dir, Some(dir.path().join("state")));
    assert_eq!(config.tls.expect("tls").client_ca, Some(dir.path().join("clients.pem")));
    assert_eq!(config.access_log, AccessLog::File(dir.path().join("access.log")));
    assert_eq!((config.limits.head_bytes_max, config.limits.h2_streams_max), (16 * 1024, 50));
    assert_eq!(config.limits.body_bytes_max, Some(1 << 30));
    let api = &config.resources[0];
    assert_eq!((api.name.as_str(), api.prefix.as_str(), api.keep_prefix), ("api", "/", true));
    assert_eq!(api.upstream[1].place, UpstreamPlace::Host("api.internal".into(), 80));
    assert_eq!((api.forward_token, api.authorization), (ForwardToken::Original, AuthorizationUse::Pass));
    assert_eq!(api.upstream_host.as_deref(), Some("internal:8080"));
    assert_eq!(api.max_body, Some(10 << 20));
    assert_eq!(api.response_timeout, Some(std::time::Duration::from_secs(300)));
    let health = api.health.as_ref().expect("a health check");
    assert_eq!((health.path.as_str(), health.interval.as_secs(), health.timeout.as_secs()), ("/health?deep=1", 1, 2));
    assert_eq!((health.healthy_after, health.unhealthy_after), (1, 3));
    let passing: Vec<u16> = [200, 204, 299, 300, 399, 400].into_iter().filter(|s| health.passes(*s)).collect();
    assert_eq!(passing, [204, 300, 399]);
    assert_eq!(api.allow_headers, ["x-original-url"]);
    assert_eq!(api.strip_headers, ["x-staff-id", "x-team-*"]);
    assert_eq!(config.resources[1].name.as_str(), "admin");
}

/// One bad line each, and the one sentence it gets. `@` stands for the usual resource.
#[test]
fn every_mistake_has_its_sentence() {
    let cases: &[(&str, &str)] = &[
        (
            "",
            "resource: there is nothing to stand in front of; write [resource.orders] and below it upstream = [\"http://127.0.0.1:3000\"].",
        ),
        ("lisen = []\n@", "line 1: lisen: there is no such key; did you mean `listen`?"),
        ("listen = []\n@", "line 1: listen: there is no address to listen on; write [\"0.0.0.0:7400\"]."),
        ("listen = 7400\n@", "line 1: listen: this is a whole number; write a list like [\"0.0.0.0:7400\"]."),
        (
            "listen = [\"localhost:7400\"]\n@",
            "line 1: listen: \"localhost:7400\" is no address to listen on; write an IP address and a port, like \"0.0.0.0:7400\".",
        ),
        ("listen = [\"0.0.0.0:1\", \"0.0.0.0:1\"]\n@", "line 1: listen: 0.0.0.0:1 stands here twice; write it once."),
        (
            "listen = [\"0.0.0.0:7401\"]\n@",
            "admin.listen: 127.0.0.1:7401 is taken by `listen` (0.0.0.0:7401); choose another port.",
        ),
        (
            "workers = 0\n@",
            "line 1: workers: write the number of worker threads, 1 to 1024, or leave the key out: one for each core.",
        ),
        (
            "trusted_proxies = [\"10.0.0.1/8\"]\n@",
            "line 1: trusted_proxies: \"10.0.0.1/8\" has bits beyond its prefix length set; write the first address of the block.",
        ),
        (
            "trusted_fields = [\"x-real-ip\"]\n@",
            "line 1: trusted_fields: \"x-real-ip\" says nothing about a client here; the fields that do are \"forwarded\", \"x-forwarded-for\", \"x-forwarded-proto\", \"x-forwarded-host\", \"x-forwarded-port\", \"x-forwarded-prefix\".",
        ),
        (
            "trusted_fields = [\"forwarded\", \"forwarded\"]\n@",
            "line 1: trusted_fields: \"forwarded\" stands here twice; write it once.",
        ),
        (
            "trusted_fields = [\"forwarded\", \"X-Forwarded-For\"]\n@",
            "line 1: trusted_fields: \"forwarded\" and \"x-forwarded-for\" both say the address; name the one that the proxies in front set themselves: they pass the other on as their clients made it up.",
        ),
        ("state_dir = \"\"\n@", "line 1: state_dir: this names no file; write one like \".postern\"."),
        (
            "@[resource.orders.health]\ninterval = \"5s\"",
            "resource.orders.health.path: a health check needs a path to ask for; write path = \"/health\".",
        ),
        (
            "@health.path = \"health\"",
            "line 3: resource.orders.health.path: \"health\" is no path: a path must begin with `/`. Write one like \"/health\".",
        ),
        (
            "@health.path = \"/a?b#c\"",
            "line 3: resource.orders.health.path: the query of \"/a?b#c\" has a character that may not stand there; escape it with %.",
        ),
        (
            "@health = { path = \"/h\", status = [\"399-200\"] }",
            "line 3: resource.orders.health.status: \"399-200\" is no status; write one from 200 to 599, or a range like \"200-399\".",
        ),
        (
            "@health = { path = \"/h\", status = [] }",
            "line 3: resource.orders.health.status: no check could pass; write [\"200-399\"].",
        ),
        (
            "@health = { path = \"/h\", healthy_after = 0 }",
            "line 3: resource.orders.health.healthy_after: this count is out of range; write 1 to 1000.",
        ),
        (
            "@health = { path = \"/h\", timeout = 2 }",
            "line 3: resource.orders.health.timeout: this is a whole number; write a text like \"30s\".",
        ),
        (
            "@health = \"/h\"",
            "line 3: resource.orders.health: this is a text; write a table, `[resource.orders.health]`.",
        ),
        (
            "@response_timeout = \"5\"",
            "line 3: resource.orders.response_timeout: \"5\" is no duration; write a whole number with its unit, like \"250ms\", \"30s\" or \"5m\".",
        ),
        (
            "@[ledger]\nengine = \"nats\"",
            "line 4: ledger.engine: the engine \"nats\" is not available in this version; write \"embedded\".",
        ),
        (
            "@[ledger]\nengine = \"redis\"",
            "line 4: ledger.engine: the engine \"redis\" is unknown; write \"embedded\".",
        ),
        (
            "@[admin]\nlisten = true",
            "line 4: admin.listen: this is true or false; write a text like \"127.0.0.1:7401\".",
        ),
        ("admin = 1\n@", "line 1: admin: this is a whole number; write a table, `[admin]`."),
        (
            "@[tls]\ncert = \"x.pem\"\nkey = \"/nonexistent/k\"",
            "line 4: tls.cert: the file /nonexistent/x.pem cannot be read: No such file or directory (os error 2). Name one that is there (relative to the configuration's folder).",
        ),
        (
            "@[limits]\nhead_timeout = 10",
            "line 4: limits.head_timeout: this is a whole number; write a text like \"30s\".",
        ),
        (
            "@[limits]\nhead_timeout = \"0s\"",
            "line 4: limits.head_timeout: this time is out of range; write one from \"1ms\" to \"24h\".",
        ),
        (
            "@[limits]\nhead_timeout = \"10\"",
            "line 4: limits.head_timeout: \"10\" is no duration; write a whole number with its unit, like \"250ms\", \"30s\" or \"5m\".",
        ),
        (
            "@[limits]\nhead_bytes_max = \"16KB\"",
            "line 4: limits.head_bytes_max: \"16KB\" is no size; write bytes as a number, or \"64KiB\", \"10MiB\", \"1GiB\".",
        ),
        (
            "@[limits]\nhead_bytes_max = -1",
            "line 4: limits.head_bytes_max: this number is out of range; write a whole number from 0 to 2^63-1.",
        ),
        ("@[limits]\nfields_max = \"many\"", "line 4: limits.fields_max: this limit is a count; write a whole number."),
        (
            "@[limits]\nh2_connection_window_bytes = \"2GiB\"",
            "line 4: limits.h2_connection_window_bytes: 2147483648 is out of range; write 65535 to 2147483647.",
        ),
        ("@[limits]\nbody_max = 1", "line 4: limits.body_max: there is no such key; the keys here are"),
        (
            "[resource.Orders]\nupstream = \"http://a\"",
            "line 1: resource.Orders: the resource name \"Orders\" must begin with a lower-case letter.",
        ),
        (
            "[resource.postern]\nupstream = \"http://a\"",
            "line 1: resource.postern: the name \"postern\" is the gateway's own; choose another.",
        ),
        (
            "[resource.messages]\nupstream = \"http://a\"",
            "line 1: resource.messages: the name \"messages\" is the gateway's own; choose another.",
        ),
        (
            "[resource.orders]",
            "resource.orders.upstream: the resource leads nowhere; write upstream = [\"http://127.0.0.1:3000\"].",
        ),
        (
            "[resource.orders]\nupstream = []",
            "line 2: resource.orders.upstream: the list is empty; write at least one address, [\"http://127.0.0.1:3000\"].",
        ),
        (
            "[resource.orders]\nupstream = \"127.0.0.1:3000\"",
            "line 2: resource.orders.upstream: \"127.0.0.1:3000\" is not a URL; write one like \"http://127.0.0.1:3000\".",
        ),
        (
            "[resource.orders]\nupstream = \"https://a\"\nupstream_tls = { server_name = \"a:1\" }",
            "line 3: resource.orders.upstream_tls.server_name: \"a:1\" is no host name; write one like \"orders.internal\".",
        ),
        (
            "[resource.orders]\nupstream = \"http://a\"\nupstream_tls = { server_name = \"b\" }",
            "line 3: resource.orders.upstream_tls: no upstream of the resource is spoken to over TLS; write \"https://…\" there, or remove this table.",
        ),
        (
            "[resource.orders]\nupstream = \"unix:run/a\"",
            "line 2: resource.orders.upstream: \"unix:run/a\" is no absolute path of a socket; write one like \"unix:/run/app.sock\".",
        ),
        (
            "[resource.orders]\nupstream = [\"http://a\", \"http://a:80\"]",
            "line 2: resource.orders.upstream: http://a stands here twice; write it once.",
        ),
        (
            "[resource.orders]\nupstream = \"http://a/v1\"",
            "line 2: resource.orders.upstream: \"http://a/v1\" has a path, query or fragment; write scheme, host and port only. A message's path below the resource is passed on as it is.",
        ),
        (
            "@prefix = \"orders\"",
            "line 3: resource.orders.prefix: \"orders\" is no prefix: a path must begin with `/`. Write one like \"/orders\".",
        ),
        ("@prefix = \"/orders/\"", "line 3: resource.orders.prefix: a prefix ends without a slash; write \"/orders\"."),
        (
            "@prefix = \"/%6frders\"",
            "line 3: resource.orders.prefix: \"/%6frders\" is not in canonical form; write \"/orders\".",
        ),
        (
            "@prefix = \"/.well-known/postern/x\"",
            "line 3: resource.orders.prefix: \"/.well-known/postern/x\" is one of the gateway's own paths; choose another prefix.",
        ),
        (
            "@host = \"API.example.com\"",
            "line 3: resource.orders.host: \"API.example.com\" is not in lower case; write \"api.example.com\".",
        ),
        (
            "@host = \"api.example.com:443\"",
            "line 3: resource.orders.host: \"api.example.com:443\" has a port; write the name alone: ports take no part in routing.",
        ),
        (
            "@host = \"*.example.com\"",
            "line 3: resource.orders.host: \"*.example.com\" is a pattern; write one host name, like \"api.example.com\".",
        ),
        ("@keep_prefix = \"yes\"", "line 3: resource.orders.keep_prefix: this is a text; write true or false."),
        (
            "@forward_token = \"all\"",
            "line 3: resource.orders.forward_token: \"all\" is not known; write \"none\" or \"original\" or \"narrowed\".",
        ),
        (
            "@authorization = \"basic\"",
            "line 3: resource.orders.authorization: \"basic\" is not known; write \"capability\" or \"pass\".",
        ),
        (
            "@topic = true",
            "line 3: resource.orders.topic: topics are not available in this version; name an `upstream` instead.",
        ),
        (
            "@cors = {}",
            "resource.orders.cors.origins: nobody is named; write origins = [\"https://app.example.com\"], or remove the table.",
        ),
        (
            "@cors = { origins = [\"https://App.example\"] }",
            "line 3: resource.orders.cors.origins: \"https://App.example\" is no origin; write scheme, host and port as browsers do, like \"https://app.example.com\" or \"http://localhost:3000\".",
        ),
        (
            "@cors = { origins = [\"https://app.example:443\"] }",
            "line 3: resource.orders.cors.origins: \"https://app.example:443\" is no origin; write scheme, host and port as browsers do, like \"https://app.example.com\" or \"http://localhost:3000\".",
        ),
        (
            "@cors = { origins = [\"*\"], credentials = true }",
            "line 3: resource.orders.cors.origins: with credentials = true no page may be let in unseen; name the origins instead of \"*\".",
        ),
        (
            "@cors = { origins = [\"*\"], methods = [\"put\"] }",
            "line 3: resource.orders.cors.methods: \"put\" is no method; write one like \"PUT\".",
        ),
        (
            "proxy_protocol = true\n@",
            "line 1: proxy_protocol: nobody's header would be believed; name the peers that send one in trusted_proxies.",
        ),
        (
            "@allow_headers = [\"Host\"]",
            "line 3: resource.orders.allow_headers: \"Host\" cannot be allowed here: it is the gateway's own to read, to set or to remove.",
        ),
        (
            "@strip_headers = [\"Content_Type\"]",
            "line 3: resource.orders.strip_headers: \"Content_Type\" cannot be stripped: it would take \"content-type\" away, which frames or routes the message or carries its token.",
        ),
        (
            "@strip_headers = [\"Sec-WebSocket-Key\"]",
            "line 3: resource.orders.strip_headers: \"Sec-WebSocket-Key\" cannot be stripped: it would take \"sec-websocket-*\" away, which frames or routes the message or carries its token.",
        ),
        (
            "@strip_headers = [\"a*\"]",
            "line 3: resource.orders.strip_headers: \"a*\" cannot be stripped: it would take \"authorization\" away, which frames or routes the message or carries its token.",
        ),
        (
            "@strip_headers = [\"Postern-Capability\"]",
            "line 3: resource.orders.strip_headers: \"Postern-Capability\" cannot be stripped: it is the gateway's own to read, to set or to remove.",
        ),
        (
            "@strip_headers = [\"X-*-Id\"]",
            "line 3: resource.orders.strip_headers: \"X-*-Id\" is no name of a field; write one like \"X-Staff-Id\", or \"X-Staff-*\".",
        ),
        (
            "@allow_headers = [\"x_tenant\"]\nstrip_headers = [\"X-*\"]",
            "line 4: resource.orders.strip_headers: \"X-*\" strips what allow_headers lets through, \"x_tenant\"; name it in one of them.",
        ),
        (
            "@upstream_host = \"a b\"",
            "line 3: resource.orders.upstream_host: \"a b\" is not a host; write one like \"internal.example\" or \"internal.example:8080\".",
        ),
        (
            "@[resource.other]\nupstream = \"http://b\"\nprefix = \"/orders\"",
            "line 3: resource.other: resource.orders has the same host and prefix \"/orders\"; give one of them another prefix or host.",
        ),
        (
            "@[resource.inner]\nupstream = \"http://127.0.0.1:3000\"\nprefix = \"/orders/admin\"",
            "line 3: resource.inner: its prefix \"/orders/admin\" lies below that of resource.orders, which has the same upstream; if both are meant, write nested = true here.",
        ),
        ("a = ", "line 1: this is not TOML: "),
    ];
    for (text, expected) in cases {
        let found = mistakes(&text.replace('@', RESOURCE));
        assert_eq!(found.iter().filter(|m| !m.starts_with("line 5: tls.key")).count(), 1, "{text}: {found:?}");
        let exact = expected.ends_with(['.', '?']);
        assert!(if exact { found[0] == *expected } else { found[0].starts_with(expected) }, "{text}: {found:?}");
    }
}

#[test]
fn all_mistakes_are_reported_at_once_in_the_order_of_the_file() {
    let found = mistakes(
        "listen = [\"x\"]\nfoo_bar_baz = 1\n[admin]\nlisten = 1\n[resource.A]\n[resource.b]\nupstream = \"ftp://x\"\nprefix = 3\n",
    );
    let keys: Vec<_> = found.iter().map(|m| m.split(": ").take(2).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        keys,
        [
            "line 1 listen",
            "line 2 foo_bar_baz",
            "line 4 admin.listen",
            "line 5 resource.A",
            "line 7 resource.b.upstream",
            "line 8 resource.b.prefix",
            "resource.A.upstream the resource leads nowhere; write upstream = [\"http://127.0.0.1:3000\"].",
        ]
    );
}

/// The inner resource answers for its nesting whichever of the two stands first, and on every host that both serve.
#[test]
fn nesting_is_found_in_either_order_and_across_hosts() {
    let table = |name: &str, prefix: &str, host: &str, more: &str| {
        format!("[resource.{name}]\nupstream = \"http://a\"\nprefix = \"{prefix}\"\n{host}\n{more}\n")
    };
    let inner_first = table("inner", "/x/y", "", "") + &table("outer", "/x", "", "");
    assert!(mistakes(&inner_first)[0].contains("resource.inner: its prefix"));
    let root = table("outer", "/", "", "") + &table("inner", "/x", "host = \"h\"", "");
    assert!(mistakes(&root)[0].contains("resource.inner: its prefix"));
    let hosts = table("outer", "/", "host = \"g\"", "") + &table("inner", "/x", "host = \"h\"", "");
    assert_eq!(mistakes(&hosts), Vec::<String>::new());
    let meant = table("outer", "/", "", "") + &table("inner", "/x", "", "nested = true");
    assert_eq!(mistakes(&meant), Vec::<String>::new());
    let siblings = table("one", "/orders", "", "") + &table("two", "/orders2", "", "");
    assert_eq!(mistakes(&siblings), Vec::<String>::new());
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Config::load(Path::new("/nonexistent/postern.toml")).expect_err("there is none");
    assert!(error.to_string().contains("/nonexistent/postern.toml cannot be read"), "{error}");
}

proptest::proptest! {
    /// No text, however broken, does more than name its mistakes.
    #[test]
    fn no_text_panics(text in "([a-z_]{1,9}( = |=|\\.)?|\\[|\\]|\"|\n|[0-9]{1,20}|\\{|\\}|resource|upstream|http://|, |é|-){0,40}") {
        let _ = parse(&text);
    }
}

/// A message would go round until nothing is left to open connections with.
#[test]
fn an_upstream_is_never_the_gateway_itself() {
    let found = |listen: &str, upstream: &str| {
        mistakes(&format!("listen = {listen:?}\n[resource.orders]\nupstream = \"http://{upstream}\"\n"))
    };
    assert_eq!(
        found("127.0.0.1:7400", "127.0.0.1:7400"),
        [
            "line 3: resource.orders.upstream: this is the gateway itself, which listens on 127.0.0.1:7400; write the address of the service behind it."
        ]
    );
    for (listen, upstream) in [
        ("127.0.0.1:7400", "localhost:7400"),
        ("0.0.0.0:7400", "127.0.0.1:7400"),
        ("0.0.0.0:7400", "localhost:7400"),
        ("127.0.0.1:7400", "0.0.0.0:7400"),
        ("[::]:80", "[::1]"),
    ] {
        assert_eq!(found(listen, upstream).len(), 1, "{listen} {upstream}");
    }
    for (listen, upstream) in [
        ("127.0.0.1:7400", "127.0.0.1:3000"),
        ("127.0.0.1:7400", "127.0.0.2:7400"),
        ("0.0.0.0:7400", "192.0.2.1:7400"),
        ("[::1]:7400", "127.0.0.1:7400"),
        ("192.0.2.1:7400", "localhost:7400"),
        ("127.0.0.1:7400", "orders.example:7400"),
    ] {
        assert!(found(listen, upstream).is_empty(), "{listen} {upstream}");
    }
}

#[test]
fn a_bodys_rate_is_a_number_of_bytes_or_never() {
    let config = parse(
        "[limits]\nbody_rate_min = \"1KiB\"\n[resource.r]\nupstream = \"http://127.0.0.1:1\"\nbody_rate_min = \"never\"\n",
    );
    let config = config.expect("valid");
    assert_eq!((config.limits.body_rate_min, config.resources[0].body_rate_min), (Some(1024), Some(None)));
    assert_eq!(parse(RESOURCE).expect("valid").resources[0].body_rate_min, None);
    let said = mistakes(&format!("[limits]\nbody_rate_min = 0\n{RESOURCE}"));
    assert!(said.len() == 1 && said[0].contains("write \"never\""), "{said:?}");
}
