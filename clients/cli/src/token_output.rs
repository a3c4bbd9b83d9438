//! Where a new token goes: standard output, or a file for its owner alone. Never anywhere else.

use std::path::PathBuf;

use clap::Args;
use postern_capabilities::explain::{Severity, lint};
use postern_capabilities::text::TokenText;
use postern_capabilities::token::Unverified;
use postern_gateway::state::{Existing, write_secret_file};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::commands::now;
use crate::output::{self, plain};
use crate::stop::Stop;

/// What to do with a new token.
#[derive(Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct TokenOutput {
    /// Write the token to this new file (mode 0600) instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Print JSON: {"token": …, "revocation_ids": […]}; with --out {"file": …, "revocation_ids": […]}
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Printed<'t> {
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'t str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'t PathBuf>,
    /// One for each block, the authority's first.
    revocation_ids: Vec<String>,
}

impl TokenOutput {
    /// Hands the token over.
    pub(crate) fn hand_over(&self, token: &TokenText) -> Result<(), Stop> {
        let text = token.expose();
        if let Some(path) = &self.out {
            let mut line = Zeroizing::new(String::with_capacity(text.len() + 1));
            line.push_str(text);
            line.push('\n');
            write_secret_file(path, &line, Existing::Refuse).map_err(Stop::failed)?;
            output::note(&format!("The capability is in {}, readable by you alone.", path.display()));
        }
        // Who makes a token that is good for nothing learns it now, and not from whoever it was handed to.
        for finding in lint(text, now()).iter().filter(|finding| finding.severity == Severity::Useless) {
            output::note(&format!("note: {}", plain(&finding.message)));
        }
        match (self.json, &self.out) {
            (false, Some(_)) => Ok(()),
            (false, None) => output::line(text),
            (true, file) => output::json(&Printed {
                token: file.is_none().then_some(text),
                file: file.as_ref(),
                revocation_ids: revocation_ids(text)?,
            }),
        }
    }
}

fn revocation_ids(text: &str) -> Result<Vec<String>, Stop> {
    let token = Unverified::parse(text).map_err(Stop::failed)?;
    Ok(token.revocation_ids().iter().map(ToString::to_string).collect())
}
