//! The caveat flags that `mint` and `attenuate` share. What each means stands in `postern_capabilities::caveat`.

use clap::Args;
use postern_capabilities::caveat::Caveat;

use crate::stop::Stop;

/// Caveats: each flag takes something away, and none gives anything.
#[derive(Args, Default)]
#[command(next_help_heading = "Caveats (each takes something away)")]
pub(crate) struct CaveatArgs {
    /// Until then: a duration such as 90s, 10m, 8h, 30d, or a time such as 2030-01-31T12:00:00Z
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true)]
    expires: Vec<String>,
    /// Not before then
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true)]
    not_before: Vec<String>,
    /// Only these methods: GET,HEAD
    #[arg(long, value_name = "METHODS")]
    method: Vec<String>,
    /// Only this path below the resource; with /** behind it also everything below; several: any of them
    #[arg(long, value_name = "PATH")]
    path: Vec<String>,
    /// Only with this query parameter: page=2
    #[arg(long, value_name = "NAME=VALUE")]
    query: Vec<String>,
    /// Only on this host name
    #[arg(long, value_name = "HOST")]
    host: Vec<String>,
    /// Only from this address or network: 10.0.0.0/8; several: any of them
    #[arg(long, value_name = "NETWORK")]
    client: Vec<String>,
    /// Only with this client certificate
    #[arg(long, value_name = "SHA256")]
    client_cert: Vec<String>,
    /// No WebSocket or other switch of protocols
    #[arg(long)]
    no_upgrade: bool,
    /// A body of at most this size: 4096, 64KiB, 1MiB
    #[arg(long, value_name = "SIZE")]
    max_body: Vec<String>,
    /// Only these JSON-RPC methods
    #[arg(long, value_name = "METHODS")]
    rpc: Vec<String>,
    /// Only calls to this MCP tool, and what starts an MCP session; all by POST: not the stream that a GET opens, nor a DELETE
    #[arg(long, value_name = "TOOL")]
    tool: Vec<String>,
    /// Only with this argument of the JSON-RPC or tool call: table=orders
    #[arg(long, value_name = "NAME=VALUE")]
    arg: Vec<String>,
    /// Only this gRPC service or method: shop.Orders/Get
    #[arg(long, value_name = "SERVICE[/METHOD]")]
    grpc: Vec<String>,
    /// A check in biscuit's own language: 'check if operation("GET")'
    #[arg(long, value_name = "CHECK")]
    check: Vec<String>,
}

impl CaveatArgs {
    /// The flags with their values, by the names that `Caveat::of_flag` knows.
    fn flags(&self) -> [(&'static str, Vec<&str>); 15] {
        fn borrow(values: &[String]) -> Vec<&str> {
            values.iter().map(String::as_str).collect()
        }
        [
            ("expires", borrow(&self.expires)),
            ("not-before", borrow(&self.not_before)),
            ("method", borrow(&self.method)),
            ("path", borrow(&self.path)),
            ("query", borrow(&self.query)),
            ("host", borrow(&self.host)),
            ("client", borrow(&self.client)),
            ("client-cert", borrow(&self.client_cert)),
            ("no-upgrade", if self.no_upgrade { vec![""] } else { vec![] }),
            ("max-body", borrow(&self.max_body)),
            ("rpc", borrow(&self.rpc)),
            ("tool", borrow(&self.tool)),
            ("arg", borrow(&self.arg)),
            ("grpc", borrow(&self.grpc)),
            ("check", borrow(&self.check)),
        ]
    }

    /// Those of them that were given.
    fn given(&self) -> impl Iterator<Item = (&'static str, Vec<&str>)> {
        self.flags().into_iter().filter(|(_, values)| !values.is_empty())
    }

    /// Whether no caveat was given.
    pub(crate) fn is_empty(&self) -> bool {
        self.given().next().is_none()
    }

    /// The caveats, in the order in which the help lists them.
    pub(crate) fn caveats(&self, now: u64) -> Result<Vec<Caveat>, Stop> {
        let mut caveats = Vec::new();
        for (flag, values) in self.given() {
            caveats.extend(Caveat::of_flag(flag, &values, now).map_err(Stop::usage)?);
        }
        Ok(caveats)
    }

    /// The flags as administration takes them: a list of texts for each, and `true` for the one without a value.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        let value = |flag, values: Vec<&str>| if flag == "no-upgrade" { true.into() } else { values.into() };
        self.given()
            .map(|(flag, values)| (flag.to_owned(), value(flag, values)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_of_the_caveat_language_is_here() {
        let flags = CaveatArgs::default();
        assert_eq!(flags.flags().map(|(flag, _)| flag), Caveat::FLAGS);
        assert!(flags.is_empty());
    }

    #[test]
    fn flags_become_caveats_and_mistakes_name_their_flag() {
        let flags = CaveatArgs { method: vec!["GET,HEAD".into()], no_upgrade: true, ..CaveatArgs::default() };
        assert_eq!(flags.caveats(0).unwrap().len(), 2);
        assert_eq!(flags.to_json().to_string(), r#"{"method":["GET,HEAD"],"no-upgrade":true}"#);
        let wrong = CaveatArgs { expires: vec!["tomorrow".into()], ..CaveatArgs::default() };
        assert!(wrong.caveats(0).unwrap_err().sentence.contains("--expires"));
    }
}
