//! The demonstration's steps: real exchanges through the gateway, each with the answer that it must have.

use bytes::Bytes;
use http::header::USER_AGENT;
use http::{Method, Request};
use postern_capabilities::attenuate::attenuate;
use postern_capabilities::caveat::Caveat;
use postern_capabilities::text::TokenText;
use postern_capabilities::token::Unverified;
use postern_client::{Client, SendError, Transport};
use serde_json::json;

use crate::admin::{AGENT, AdminClient};
use crate::output::{self, Paint, plain};
use crate::stop::Stop;

/// Everything that the steps work with.
pub(super) struct Show<'a> {
    /// `http://host:port`
    pub(super) gateway: String,
    pub(super) transport: Transport,
    pub(super) admin: AdminClient,
    /// Everything on the resource.
    pub(super) full: &'a TokenText,
    /// Reading alone, for an hour.
    pub(super) reader: &'a TokenText,
    pub(super) now: u64,
}

/// What a step sends, and what must come back.
struct Exchange<'a> {
    method: Method,
    path: &'a str,
    /// The capability, and how it is called in the text.
    with: Option<(&'a TokenText, &'a str)>,
    status: u16,
    /// The problem type, where it is a refusal.
    kind: Option<&'a str>,
}

impl Show<'_> {
    /// All of it, in order. An error says which exchange did not go as it must.
    pub(super) async fn run(&self) -> Result<(), Stop> {
        self.title(1, "Without a capability nothing passes.")?;
        self.exchange(Exchange {
            method: Method::GET,
            path: "/orders/1",
            with: None,
            status: 401,
            kind: Some("missing-capability"),
        })
        .await?;

        self.title(2, "With one it does. The service itself checks nothing, and never sees the token.")?;
        let full = Some((self.full, "the full capability"));
        self.exchange(Exchange { method: Method::GET, path: "/orders/1", with: full, status: 200, kind: None }).await?;
        self.exchange(Exchange { method: Method::POST, path: "/orders/", with: full, status: 201, kind: None }).await?;

        self.title(3, "A caveat stops what the right would allow, and says so in words.")?;
        let reader = Some((self.reader, "a reading capability"));
        self.exchange(Exchange { method: Method::GET, path: "/orders/2", with: reader, status: 200, kind: None })
            .await?;
        self.exchange(Exchange {
            method: Method::DELETE,
            path: "/orders/2",
            with: reader,
            status: 403,
            kind: Some("not-permitted"),
        })
        .await?;

        self.title(
            4,
            "Its holder narrows it to one order for ten minutes, offline, without asking anybody, and hands it on.",
        )?;
        let child = self.narrowed()?;
        self.command("postern attenuate --token-file reader.token --path /2 --expires 10m")?;
        let narrowed = Some((&child, "the narrowed one"));
        self.exchange(Exchange { method: Method::GET, path: "/orders/2", with: narrowed, status: 200, kind: None })
            .await?;
        self.exchange(Exchange {
            method: Method::GET,
            path: "/orders/3",
            with: narrowed,
            status: 403,
            kind: Some("not-permitted"),
        })
        .await?;

        self.title(5, "Revoking the narrowed one ends it at once. What it was made from lives on.")?;
        self.revoke(&child).await?;
        self.exchange(Exchange {
            method: Method::GET,
            path: "/orders/2",
            with: narrowed,
            status: 401,
            kind: Some("revoked"),
        })
        .await?;
        self.exchange(Exchange { method: Method::GET, path: "/orders/2", with: reader, status: 200, kind: None }).await
    }

    fn narrowed(&self) -> Result<TokenText, Stop> {
        let caveats =
            [Caveat::path(&["/2"]).map_err(Stop::failed)?, Caveat::expires("10m", self.now).map_err(Stop::failed)?];
        attenuate(self.reader.expose(), &caveats).map_err(Stop::failed)
    }

    async fn revoke(&self, token: &TokenText) -> Result<(), Stop> {
        self.command("postern revoke --token-file narrowed.token")?;
        let token = Unverified::parse(token.expose()).map_err(Stop::failed)?;
        let last = token.revocation_ids().last().ok_or_else(|| Stop::failed("a token has no revocation id"))?;
        self.admin.post("/revocations", &json!({ "ids": [last] })).await?;
        output::line(&format!("      {}", Paint::for_stdout().dim("durable, and in force")))
    }

    async fn exchange(&self, wanted: Exchange<'_>) -> Result<(), Stop> {
        let paint = Paint::for_stdout();
        let Exchange { method, path, with, status, kind } = wanted;
        let name = with.map_or_else(|| "no capability".to_owned(), |(_, name)| name.to_owned());
        output::line(&format!("    {} {path}   {}", paint.bold(method.as_str()), paint.dim(&format!("with {name}"))))?;
        let client = with.map_or_else(Client::without_capability, |(token, _)| Client::new(token.expose()));
        let request = Request::builder().method(method.clone()).uri(format!("{}{path}", self.gateway));
        let request = request.header(USER_AGENT, AGENT).body(Bytes::new()).map_err(Stop::failed)?;
        let (got, problem) = match client.transport(self.transport.clone()).send(request).await {
            Ok(answer) => {
                let (code, body) = (answer.status().as_u16(), String::from_utf8_lossy(answer.body()));
                output::line(&format!("      {} {}", paint.green(&code.to_string()), plain(body.trim())))?;
                (code, None)
            }
            Err(SendError::Problem { problem, .. }) => {
                let (code, why) = (problem.status.to_string(), plain(&problem.kind));
                output::line(&format!("      {} {why}: {}", paint.red(&code), plain(&problem.detail)))?;
                (problem.status, Some(problem.kind))
            }
            Err(error) => return Err(Stop::failed(error)),
        };
        if got == status && problem.as_deref() == kind {
            return Ok(());
        }
        let wanted = kind.map_or_else(|| status.to_string(), |kind| format!("{status} {kind}"));
        Err(Stop::failed(format!(
            "{method} {path} with {name} should have been answered with {wanted}; this is a fault in postern"
        )))
    }

    fn title(&self, number: u32, text: &str) -> Result<(), Stop> {
        output::line(&format!("\n{}", Paint::for_stdout().bold(&format!("{number}. {text}"))))
    }

    fn command(&self, text: &str) -> Result<(), Stop> {
        output::line(&format!("    {} {text}", Paint::for_stdout().dim("$")))
    }
}
