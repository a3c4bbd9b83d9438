//! The message's way behind the loop: a worker, and who is at the other end.

use std::rc::Rc;
use std::time::Duration;

use super::connection::serve as serve_connection;
use super::framing::FramingError;
use super::transport::Transport;
use super::way::{After, Delimiter, Fault, Order, Passage, Way};
use crate::budget::BASE_BYTES;
use crate::head::{Field, Glimpse, Head, ResponseHead};
use crate::lease::Fallen;
use crate::listener::Leaving;
use crate::request::error::Refused;
use crate::request::forward::UpstreamHead;
use crate::request::forward::hygiene::{trails_down, trails_up};
use crate::request::resource::Resource;
use crate::request::rpc::Rpc;
use crate::request::switch::Switch;
use crate::request::ticket::{BROKEN_OFF, Ticket};
use crate::request::{Peer, Received, receive, respond};
use crate::telemetry::{Protocol, WorkerTelemetry};
use crate::upstream::group::Group;
use crate::upstream::pool::Pool;
use crate::worker::Worker;

/// Serves a client connection that speaks HTTP/1 until it ends.
pub async fn serve<C>(worker: &Rc<Worker>, io: C, peer: Peer, leaving: Leaving)
where
    C: Transport,
{
    let shared = Rc::clone(&worker.http1);
    serve_connection(io, Gateway { worker: Rc::clone(worker), peer }, shared, leaving).await;
}

struct Gateway {
    worker: Rc<Worker>,
    peer: Peer,
}

impl Way for Gateway {
    type Ticket = Ticket;
    type Route = Rc<Resource>;
    type Permitted = UpstreamHead;

    fn permitted(head: &UpstreamHead) -> &[u8] {
        head.bytes()
    }

    fn shrink(head: &mut UpstreamHead) {
        if head.memory() > BASE_BYTES {
            *head = UpstreamHead::default();
        }
    }

    fn upstreams(route: &Rc<Resource>) -> &Rc<Group> {
        &route.upstreams
    }

    fn response_timeout(route: &Rc<Resource>) -> Option<Duration> {
        route.response_timeout
    }

    fn trails_up(field: &Field<'_>, route: &Rc<Resource>) -> bool {
        trails_up(field, route)
    }

    fn trails_down(field: &Field<'_>) -> bool {
        trails_down(field)
    }

    fn pool(&self) -> &Pool {
        &self.worker.pool
    }

    fn telemetry(&self) -> &WorkerTelemetry {
        &self.worker.telemetry
    }

    fn open(&self, head: &Head<'_>) -> Ticket {
        let mut ticket = Ticket::open(&self.worker, self.peer.address, head);
        ticket.rpc = Rpc::of(head);
        ticket
    }

    fn open_unread(&self, seen: &Glimpse<'_>) -> Ticket {
        Ticket::unreadable(&self.worker, self.peer.address, Protocol::Http11, seen)
    }

    fn receive(
        &self,
        head: &Head<'_>,
        body: Option<&[u8]>,
        ticket: &mut Ticket,
        permitted: &mut UpstreamHead,
        after: After,
        out: &mut Vec<u8>,
    ) -> Passage<Rc<Resource>> {
        let to_head = head.method() == "HEAD";
        match receive(&self.worker, &self.peer, head, body, ticket, permitted) {
            Ok(Received::Forward(admitted)) => Passage::Forward(Order {
                route: admitted.resource,
                framing: admitted.framing,
                body_max: admitted.body_max,
                body_rate: admitted.body_rate,
                authenticates_connection: admitted.authenticates_connection,
                filter: admitted.filter,
                is_repeatable: admitted.repeatable,
                switch: admitted.switch,
                lease: Some(admitted.lease),
            }),
            Ok(Received::Undecided { max, rate, lease }) => Passage::Undecided { max, rate, lease: Some(lease) },
            Ok(Received::Answer(answer)) => {
                ticket.responded(&self.worker, answer.status);
                respond::compose_answer(out, &answer, after, to_head, ticket.cross.as_deref());
                Passage::Answered(after)
            }
            Err(refused) => {
                let after = if refused.closes_connection() { After::Close } else { after };
                self.refuse(ticket, &refused, after, to_head, out);
                Passage::Answered(after)
            }
        }
    }

    fn forwarded(&self, ticket: &mut Ticket, upstream: &Rc<str>) {
        ticket.forwarded(upstream);
    }

    fn inform(&self, head: &ResponseHead<'_>, out: &mut Vec<u8>) {
        respond::compose_head(out, head, (Delimiter::Absent, After::KeepAlive), false, (None, None));
    }

    fn respond(
        &self,
        ticket: &mut Ticket,
        head: &ResponseHead<'_>,
        framing: (Delimiter, After),
        http_1_0: bool,
        out: &mut Vec<u8>,
    ) {
        ticket.answered();
        respond::compose_head(out, head, framing, http_1_0, (ticket.cross.as_deref(), Some(ticket.keeping)));
        ticket.responded(&self.worker, head.status());
    }

    fn switch(&self, ticket: &mut Ticket, head: &ResponseHead<'_>, switch: &Switch, out: &mut Vec<u8>) {
        ticket.answered();
        respond::compose_switch(out, head, switch, ticket.cross.as_deref());
        ticket.responded(&self.worker, 101);
    }

    fn fail(&self, ticket: &mut Ticket, fault: &Fault, after: After, to_head: bool, out: &mut Vec<u8>) {
        let refused = match fault {
            Fault::Head(error) => Refused::Head(*error),
            Fault::Body(FramingError::BodyTooLarge { max }) => Refused::BodyTooLarge { max: *max },
            Fault::Body(error) => Refused::Framing(error.to_string().into()),
            Fault::TooLargeToHold { max } => Refused::BodyTooLargeToRead { max: *max },
            Fault::HeldTrailers => {
                Refused::UnreadableBody("it has trailers, which nothing reads; send it without".into())
            }
            Fault::TooSlow => Refused::RequestTimeout,
            Fault::Overload => self.worker.shed(),
            Fault::Upstream(failure) => Refused::from(failure),
            Fault::Fallen(fallen) => Refused::Refusal(fallen.refusal()),
        };
        self.refuse(ticket, &refused, after, to_head, out);
    }

    fn last_event(&self, ticket: &Ticket, fallen: &Fallen) -> String {
        ticket.wording.last_event(fallen)
    }

    fn broken(&self, ticket: &mut Ticket, fallen: Option<&Fallen>) {
        ticket.refused(fallen.map_or(BROKEN_OFF, Fallen::kind));
    }

    fn close(&self, mut ticket: Ticket, bytes_in: u64, bytes_out: u64) {
        ticket.bytes_in = bytes_in;
        ticket.bytes_out = bytes_out;
        ticket.close(&self.worker);
    }
}

impl Gateway {
    fn refuse(&self, ticket: &mut Ticket, refused: &Refused, after: After, to_head: bool, out: &mut Vec<u8>) {
        let problem = ticket.wording.of_problem(refused.problem());
        ticket.refused(problem.kind);
        ticket.responded(&self.worker, problem.status);
        respond::compose_refusal(out, (&problem, ticket.rpc.as_ref()), after, to_head, ticket.cross.as_deref());
    }
}
