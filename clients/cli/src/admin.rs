//! Administration of a running gateway: where it is, with which capability, and what its answers mean.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Args;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{Method, Request, Response};
use postern_client::{Client, Problem, SendError, Transport, Unreachable};
use postern_gateway::ledger::glance::in_use;
use postern_gateway::state::{ADMIN_TOKEN, StateDir, read_secret_file};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::base_url::BaseUrl;
use crate::cli::StateArg;
use crate::output::{self, plain};
use crate::stop::Stop;

/// Where administration is unless a gateway in this state folder says otherwise.
const ADMIN_URL_DEFAULT: &str = "http://127.0.0.1:7401";
/// Where a running gateway notes its administration address, in the state folder.
const ADDRESS_FILE: &str = "admin.address";
/// What the commands call themselves.
pub(crate) const AGENT: &str = concat!("postern/", env!("CARGO_PKG_VERSION"));

/// How a command reaches the gateway.
#[derive(Args, Clone, Default)]
pub(crate) struct AdminArgs {
    /// Administration of the running gateway [default: the one of this state folder, or http://127.0.0.1:7401]
    #[arg(long, value_name = "URL", help_heading = "Gateway", env = "POSTERN_ADMIN", global = true)]
    pub(crate) admin: Option<String>,

    /// The capability for administration [default: admin.token in the state folder]
    #[arg(long, value_name = "FILE", help_heading = "Gateway", global = true)]
    pub(crate) admin_token_file: Option<PathBuf>,

    /// For an https:// --admin: the certificate authorities that vouch for it, in PEM [default: those of the system]
    #[arg(long, value_name = "FILE", help_heading = "Gateway", env = "POSTERN_ADMIN_CA", global = true)]
    pub(crate) admin_ca: Option<PathBuf>,
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
        let authorities = Authorities { option: "--admin-ca", file: self.admin_ca.as_deref() };
        Ok(Reach::Gateway(AdminClient::new(&self.url(state), token, authorities)?))
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
    client: Client,
    /// The option that names whom to trust, for the sentence that advises it.
    authorities_option: &'static str,
}

/// Who vouches for an `https://` address: the file, and the option that names it.
#[derive(Clone, Copy)]
pub(crate) struct Authorities<'a> {
    pub(crate) option: &'static str,
    pub(crate) file: Option<&'a Path>,
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
    pub(crate) fn new(url: &str, token: Zeroizing<String>, authorities: Authorities<'_>) -> Result<Self, Stop> {
        let url = BaseUrl::parse(url).map_err(Stop::usage)?;
        if url.is_overheard() {
            output::note(&format!("note: {url} is another machine, and the capability travels there unencrypted"));
        }
        let client = Client::new(&token);
        let client = match authorities.file.filter(|_| url.is_https()) {
            Some(file) => client.transport(trusting(file, authorities.option)?),
            None => client,
        };
        Ok(Self { url, client, authorities_option: authorities.option })
    }

    /// Reads.
    pub(crate) async fn get(&self, target: &str) -> Result<Value, AdminError> {
        self.call(Method::GET, target, None).await
    }

    /// Asks for something to be done.
    pub(crate) async fn post(&self, target: &str, body: &Value) -> Result<Value, AdminError> {
        self.call(Method::POST, target, Some(body.to_string().into())).await
    }

    async fn call(&self, method: Method, target: &str, body: Option<Bytes>) -> Result<Value, AdminError> {
        let asked = format!("{method} {target}");
        let request = Request::builder().method(method).uri(format!("{}{target}", self.url)).header(USER_AGENT, AGENT);
        let request = match &body {
            Some(_) => request.header(CONTENT_TYPE, "application/json"),
            None => request,
        };
        let request = request
            .body(body.unwrap_or_default())
            .map_err(|error| AdminError::Failed(format!("{asked} cannot be sent to {}: {error}", self.url)))?;
        match self.client.send(request).await {
            Ok(answer) => self.read(&asked, &answer),
            Err(SendError::Problem { problem, .. }) => Err(self.refused(&asked, &problem)),
            Err(error) => Err(AdminError::Failed(self.unanswered(&error))),
        }
    }

    fn unanswered(&self, error: &SendError) -> String {
        let url = &self.url;
        match error {
            SendError::Unreachable(Unreachable::NotListening(_)) => format!(
                "the gateway at {url} does not answer: start it with `postern serve` or `postern proxy`, or say with --admin where it is"
            ),
            SendError::Unreachable(Unreachable::Untrusted { reason, .. }) => format!(
                "the certificate that {url} shows is not accepted ({reason}), so it was sent nothing; if it is the right \
                 gateway, name the authority that signed it with {}",
                self.authorities_option
            ),
            SendError::Unreachable(other) => format!("the gateway at {url} cannot be reached: {other}"),
            SendError::Unknown { reason, .. } => {
                format!("{url} gave no usable answer ({reason}); whether it did what was asked is unknown")
            }
            other => other.to_string(),
        }
    }

    fn read(&self, asked: &str, answer: &Response<Bytes>) -> Result<Value, AdminError> {
        let url = &self.url;
        if !answer.status().is_success() {
            let status = answer.status().as_u16();
            return Err(AdminError::Failed(format!(
                "{url} answered {asked} with status {status} and no reason; is it the administration of a Postern gateway?"
            )));
        }
        serde_json::from_slice(answer.body()).map_err(|_| {
            AdminError::Failed(format!(
                "{url} answered {asked} with something that is not JSON; is it a Postern gateway?"
            ))
        })
    }

    fn refused(&self, asked: &str, problem: &Problem) -> AdminError {
        let Problem { status, kind, title, detail, .. } = problem;
        let detail = plain(if detail.is_empty() { title } else { detail });
        let sentence = format!("the gateway at {} refused {asked}: {detail} ({status} {})", self.url, plain(kind));
        match status {
            400..500 => AdminError::Refused(sentence),
            _ => AdminError::Failed(sentence),
        }
    }
}

fn trusting(file: &Path, option: &str) -> Result<Transport, Stop> {
    let cannot = |error| Stop::failed(format!("{option} {}: {error}", file.display()));
    let authorities = std::fs::read(file).map_err(cannot)?;
    Transport::trusting(&authorities).map_err(cannot)
}
