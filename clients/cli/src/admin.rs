//! Administration of a running gateway: where it is, with which capability, and what its answers mean.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Args;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{Method, Request, Response};
use postern_client::{Client, Problem, SendError, Transport, Unreachable};
use postern_gateway::gateway::Running;
use postern_gateway::ledger::glance::in_use;
use postern_gateway::state::{ADMIN_TOKEN, AdminAddress, StateDir, read_secret_file};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::base_url::BaseUrl;
use crate::cli::StateArg;
use crate::output::{self, plain};
use crate::stop::Stop;

/// Where administration is taken to be where no state folder is there to say.
const ADMIN_URL_DEFAULT: &str = "http://127.0.0.1:7401";
/// What the commands call themselves.
pub(crate) const AGENT: &str = concat!("postern/", env!("CARGO_PKG_VERSION"));

/// How a command reaches the gateway.
#[derive(Args, Clone, Default)]
pub(crate) struct AdminArgs {
    /// Administration of the running gateway [default: the one of this state folder; without one http://127.0.0.1:7401]
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
    /// Whether one runs is asked of the ledger's lock, and where it is of what it has noted, never of the usual port:
    /// whoever listens there may be anybody, who is not to be shown this gateway's capability.
    pub(crate) fn reach(&self, state: &StateArg) -> Result<Reach, Stop> {
        let (url, socket) = match (&self.admin, state.open()) {
            (Some(url), _) => (url.clone(), None),
            (None, Ok(folder)) if folder.has_root_key() => {
                if !in_use(&folder.ledger_path()) {
                    return Ok(Reach::Folder(folder));
                }
                let noted = folder.noted_address().map_err(Stop::failed)?;
                let noted = noted.ok_or_else(|| Stop::failed(not_noted(&folder)))?;
                let socket = noted.socket.unwrap_or_else(|| folder.socket_path());
                // A gateway of an earlier version has none, nor has one on a file system without sockets.
                (noted.url, UnixStream::connect(&socket).is_ok().then_some(socket))
            }
            (None, _) => (ADMIN_URL_DEFAULT.to_owned(), None),
        };
        let token = match &self.admin_token_file {
            Some(path) => read_secret_file(path).map_err(Stop::failed)?,
            None => state.open().and_then(|state| state.token(ADMIN_TOKEN)).map_err(|error| {
                Stop::failed(format!(
                    "{error}. A capability for administration can also be named with --admin-token-file"
                ))
            })?,
        };
        let options = Options { url: "--admin", authorities: "--admin-ca" };
        let client = AdminClient::new(url.trim(), token, self.admin_ca.as_deref(), options)?;
        Ok(Reach::Gateway(match socket {
            Some(socket) => client.by_socket(socket),
            None => client,
        }))
    }
}

fn not_noted(folder: &StateDir) -> String {
    format!(
        "a gateway, or another command, holds the state folder {} and has not noted where its administration is, as while it \
         starts or ends; try again, or name the address with --admin",
        folder.path().display()
    )
}

/// Through what administration is done.
pub(crate) enum Reach {
    /// A running gateway.
    Gateway(AdminClient),
    /// The state folder, no gateway running on it.
    Folder(StateDir),
}

/// Notes where administration is, for the commands that look for it.
pub(crate) fn note_address(state: &StateDir, running: &Running) {
    let url = format!("http://{}", reachable(running.admin_address()));
    let elsewhere =
        running.admin_socket().filter(|socket| socket.parent() != std::path::absolute(state.path()).ok().as_deref());
    let socket = elsewhere.map(Path::to_owned);
    let address = AdminAddress { url, socket, state_group: state.group() };
    if let Err(error) = state.note_address(&address) {
        output::note(&format!("note: {error}; other commands will need --admin {}", address.url));
    }
}

/// Where this machine reaches a listener: one on all addresses is on this machine's own, too.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => (Ipv4Addr::LOCALHOST, address.port()).into(),
        IpAddr::V6(ip) if ip.is_unspecified() => (Ipv6Addr::LOCALHOST, address.port()).into(),
        _ => address,
    }
}

/// Forgets what a gateway that has ended noted: the next one holds the folder for a while before it notes its own.
///
/// Only then, and not when a gateway ends: while it drains its administration answers, and can still revoke.
pub(crate) fn forget_address(state: &StateDir) {
    if !in_use(&state.ledger_path()) {
        // What cannot be removed is written over.
        let _ = state.forget_address();
    }
}

/// A gateway's administration.
pub(crate) struct AdminClient {
    url: BaseUrl,
    client: Client,
    options: Options,
}

/// The options by which a command's gateway is named, for the sentences that advise them.
#[derive(Clone, Copy)]
pub(crate) struct Options {
    /// Where it is.
    pub(crate) url: &'static str,
    /// Who vouches for an `https://` address.
    pub(crate) authorities: &'static str,
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
    /// A gateway at this URL, and the capability to present there; with the file of those who vouch for an `https://` one.
    pub(crate) fn new(
        url: &str,
        token: Zeroizing<String>,
        authorities: Option<&Path>,
        options: Options,
    ) -> Result<Self, Stop> {
        let url = BaseUrl::parse(url).map_err(Stop::usage)?;
        if url.is_overheard() {
            output::note(&format!("note: {url} is another machine, and the capability travels there unencrypted"));
        }
        let client = Client::new(&token);
        let client = match authorities.filter(|_| url.is_https()) {
            Some(file) => client.transport(trusting(file, options.authorities)?),
            None => client,
        };
        Ok(Self { url, client, options })
    }

    /// The same gateway by its socket on this machine. Who answers there is looked at before the capability is shown.
    fn by_socket(self, socket: PathBuf) -> Self {
        let transport = Transport::local(socket, rustix::process::geteuid().as_raw());
        Self { client: self.client.transport(transport), ..self }
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
                "the gateway at {url} does not answer: start it with `postern serve` or `postern proxy`, or say with {} where it is",
                self.options.url
            ),
            SendError::Unreachable(Unreachable::Untrusted { reason, .. }) => format!(
                "the certificate that {url} shows is not accepted ({reason}), so it was sent nothing; if it is the right \
                 gateway, name the authority that signed it with {}",
                self.options.authorities
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
