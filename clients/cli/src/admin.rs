//! Administration of a running gateway: where it is, with which capability, and what its answers mean.

use std::path::PathBuf;

use clap::Args;
use hyper::Method;
use postern_gateway::ledger::glance::in_use;
use postern_gateway::state::{ADMIN_TOKEN, StateDir, read_secret_file};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::cli::StateArg;
use crate::http::{self, Answer, BaseUrl, Call, HttpError};
use crate::output::{self, plain};
use crate::stop::Stop;

/// Where administration is unless a gateway in this state folder says otherwise.
const ADMIN_URL_DEFAULT: &str = "http://127.0.0.1:7401";
/// Where a running gateway notes its administration address, in the state folder.
const ADDRESS_FILE: &str = "admin.address";

/// How a command reaches the gateway.
#[derive(Args, Clone, Default)]
pub(crate) struct AdminArgs {
    /// Administration of the running gateway [default: the one of this state folder, or http://127.0.0.1:7401]
    #[arg(long, value_name = "URL", help_heading = "Gateway", env = "POSTERN_ADMIN", global = true)]
    pub(crate) admin: Option<String>,

    /// The capability for administration [default: admin.token in the state folder]
    #[arg(long, value_name = "FILE", help_heading = "Gateway", global = true)]
    pub(crate) admin_token_file: Option<PathBuf>,
}

impl AdminArgs {
    /// The gateway that these arguments mean; or the state folder itself, where no gateway runs on it.
    ///
    /// Whether one runs is asked of the ledger's lock and not of a port: whoever listens on the usual port may be
    /// another gateway, which is not to be shown this one's capability.
    pub(crate) fn reach(&self, state: &StateArg) -> Result<Reach, Stop> {
        if self.admin.is_none()
            && let Ok(folder) = state.open()
            && folder.has_root_key()
            && !in_use(&folder.ledger_path())
        {
            return Ok(Reach::Folder(folder));
        }
        let token = match &self.admin_token_file {
            Some(path) => read_secret_file(path).map_err(Stop::failed)?,
            None => state.open().and_then(|state| state.token(ADMIN_TOKEN)).map_err(|error| {
                Stop::failed(format!(
                    "{error}. A capability for administration can also be named with --admin-token-file"
                ))
            })?,
        };
        Ok(Reach::Gateway(AdminClient::new(&self.url(state), token)?))
    }

    /// Its URL.
    fn url(&self, state: &StateArg) -> String {
        let noted = || std::fs::read_to_string(state.path().join(ADDRESS_FILE)).ok();
        let url = self.admin.clone().or_else(noted).unwrap_or_else(|| ADMIN_URL_DEFAULT.to_owned());
        url.trim().to_owned()
    }
}

/// Through what administration is done.
pub(crate) enum Reach {
    /// A running gateway.
    Gateway(AdminClient),
    /// The state folder, no gateway running on it.
    Folder(StateDir),
}

/// Notes where administration is, for the commands that look for it.
pub(crate) fn note_address(state: &StateDir, address: std::net::SocketAddr) {
    let path = state.path().join(ADDRESS_FILE);
    let text = format!("http://{address}\n");
    if let Err(error) =
        postern_gateway::state::write_secret_file(&path, &text, postern_gateway::state::Existing::Replace)
    {
        output::note(&format!("note: {error}; other commands will need --admin http://{address}"));
    }
}

/// The gateway is gone.
pub(crate) fn forget_address(state: &StateDir) {
    // A note that stays behind does no harm: nothing answers there.
    let _ = std::fs::remove_file(state.path().join(ADDRESS_FILE));
}

/// A gateway's administration.
pub(crate) struct AdminClient {
    url: BaseUrl,
    token: Zeroizing<String>,
}

/// Why administration did not do what was asked.
#[derive(Debug)]
pub(crate) enum AdminError {
    /// The answer is no.
    Refused(String),
    /// It did not work out.
    Failed(String),
}

impl From<AdminError> for Stop {
    fn from(error: AdminError) -> Self {
        match error {
            AdminError::Failed(sentence) => Stop::failed(sentence),
            AdminError::Refused(sentence) => Stop::refused(sentence),
        }
    }
}

impl AdminClient {
    /// A gateway at this URL, and the capability to present there.
    pub(crate) fn new(url: &str, token: Zeroizing<String>) -> Result<Self, Stop> {
        let url = BaseUrl::parse(url).map_err(Stop::usage)?;
        if !url.is_loopback() {
            output::note(&format!("note: {url} is another machine, and the capability travels there unencrypted"));
        }
        // The carrier is `Bearer` and the bare text.
        let bare = token.trim().trim_start_matches("biscuit:");
        Ok(Self { url, token: Zeroizing::new(bare.to_owned()) })
    }

    /// Reads.
    pub(crate) async fn get(&self, target: &str) -> Result<Value, AdminError> {
        self.call(Method::GET, target, None).await
    }

    /// Asks for something to be done.
    pub(crate) async fn post(&self, target: &str, body: &Value) -> Result<Value, AdminError> {
        self.call(Method::POST, target, Some(body.to_string().into_bytes())).await
    }

    async fn call(&self, method: Method, target: &str, body: Option<Vec<u8>>) -> Result<Value, AdminError> {
        let asked = format!("{method} {target}");
        let call = Call { method, target, token: Some(&self.token), body };
        let answer = http::call(&self.url, call).await.map_err(|error| self.unanswered(&error))?;
        self.read(&asked, &answer)
    }

    fn unanswered(&self, error: &HttpError) -> AdminError {
        match error {
            HttpError::NotListening(url) => AdminError::Failed(format!(
                "the gateway at {url} does not answer: start it with `postern serve` or `postern proxy`, or say with --admin where it is"
            )),
            other => AdminError::Failed(other.to_string()),
        }
    }

    fn read(&self, asked: &str, answer: &Answer) -> Result<Value, AdminError> {
        let url = &self.url;
        let status = answer.status;
        let body: Option<Value> = serde_json::from_slice(&answer.body).ok();
        if (200..300).contains(&status) {
            return body.ok_or_else(|| {
                AdminError::Failed(format!(
                    "{url} answered {asked} with something that is not JSON; is it a Postern gateway?"
                ))
            });
        }
        let text = |name: &str| body.as_ref().and_then(|body| body.get(name)).and_then(Value::as_str).map(plain);
        let Some(kind) = text("type") else {
            return Err(AdminError::Failed(format!(
                "{url} answered {asked} with status {status} and no reason; is it the administration of a Postern gateway?"
            )));
        };
        let detail = text("detail").or_else(|| text("title")).unwrap_or_default();
        let sentence = format!("the gateway at {url} refused {asked}: {detail} ({status} {kind})");
        match status {
            400..500 => Err(AdminError::Refused(sentence)),
            _ => Err(AdminError::Failed(sentence)),
        }
    }
}
