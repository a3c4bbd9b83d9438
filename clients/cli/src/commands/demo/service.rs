//! The sample service of the demonstration: a handful of orders, and no idea of who may see them.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::stop::Stop;

/// What was ordered; the first has the number 1.
const ITEMS: [&str; 3] = ["a copper kettle", "two brass hinges", "a lantern"];

/// The service, running on this thread's runtime until it is dropped.
pub(super) struct SampleService {
    /// Where it listens.
    pub(super) address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl SampleService {
    /// Starts it on a free port of this machine.
    pub(super) async fn start() -> Result<Self, Stop> {
        let cannot = |error| Stop::failed(format!("the sample service cannot listen on 127.0.0.1: {error}"));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener));
        Ok(Self { address, _tasks: tasks })
    }
}

async fn serve(listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        // Finished ones are taken out, or the set would grow for ever.
        while connections.try_join_next().is_some() {}
        let service = hyper::service::service_fn(|request| async move { Ok::<_, Infallible>(answer(&request)) });
        connections.spawn(async move {
            let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // A client that goes away is its own business.
            let _ = served.await;
        });
    }
}

fn answer<B>(request: &Request<B>) -> Response<Full<Bytes>> {
    let path = request.uri().path().trim_start_matches('/');
    let number = path.parse::<usize>().ok().filter(|number| (1..=ITEMS.len()).contains(number));
    let (status, body) = match (request.method(), path, number) {
        (&Method::GET | &Method::HEAD, "", _) => {
            (StatusCode::OK, json!({ "orders": (1..=ITEMS.len()).collect::<Vec<_>>() }))
        }
        (&Method::GET | &Method::HEAD, _, Some(number)) => (StatusCode::OK, order(number)),
        (&Method::POST, "", _) => (StatusCode::CREATED, json!({ "order": ITEMS.len() + 1, "state": "accepted" })),
        (&Method::DELETE, _, Some(number)) => (StatusCode::OK, json!({ "order": number, "state": "cancelled" })),
        (_, _, None) if !path.is_empty() => (StatusCode::NOT_FOUND, json!({ "error": "there is no such order" })),
        _ => (StatusCode::METHOD_NOT_ALLOWED, json!({ "error": "the service does not do that" })),
    };
    let mut response = Response::new(Full::new(Bytes::from(format!("{body}\n"))));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST, DELETE"));
    }
    response
}

fn order(number: usize) -> Value {
    json!({ "order": number, "item": ITEMS[number - 1], "state": "shipped" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(method: Method, path: &str) -> u16 {
        answer(&Request::builder().method(method).uri(path).body(()).unwrap()).status().as_u16()
    }

    #[test]
    fn it_knows_three_orders() {
        assert_eq!(status(Method::GET, "/"), 200);
        assert_eq!(status(Method::GET, "/3"), 200);
        assert_eq!(status(Method::GET, "/4"), 404);
        assert_eq!(status(Method::GET, "/0"), 404);
        assert_eq!(status(Method::POST, "/"), 201);
        assert_eq!(status(Method::PUT, "/1"), 405);
    }
}
