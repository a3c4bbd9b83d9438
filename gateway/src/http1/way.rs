//! What the connection loop asks of the message's way: who decides, who writes heads, who counts.
//!
//! The loop moves bytes and knows nothing of capabilities; the way decides and knows nothing of sockets. One trait between
//! them keeps both testable alone: the loop's tests stand a way of ten lines behind it.

use std::rc::Rc;
use std::time::Duration;

use super::framing::FramingError;
use crate::head::{Field, Framing, Glimpse, Head, HeadError, ResponseHead};
use crate::lease::{Fallen, Lease};
use crate::request::body_rate::BodyRate;
pub use crate::request::respond::{After, Delimiter};
use crate::request::switch::Switch;
use crate::request::tools::ToolFilter;
use crate::telemetry::WorkerTelemetry;
use crate::upstream::call::Failure;
use crate::upstream::group::Group;
use crate::upstream::pool::Pool;

/// Why an exchange gets the gateway's own answer although the message was not refused for what it asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The client's head is not strict HTTP.
    Head(HeadError),
    /// The client's body is not framed as its head promised, or is too large.
    Body(FramingError),
    /// The body is longer than what is held back for a decision on it.
    TooLargeToHold {
        /// The limit in bytes.
        max: u64,
    },
    /// A body on which the decision waits has trailers, which nobody would read.
    HeldTrailers,
    /// The client was too slow.
    TooSlow,
    /// The memory that all connections may take together is used up.
    Overload,
    /// The upstream failed.
    Upstream(Failure),
    /// The capability fell while the message was under way.
    Fallen(Fallen),
}

/// A message that may go up.
pub struct Order<R> {
    /// Where it goes.
    pub route: R,
    /// How its body is framed.
    pub framing: Framing,
    /// The most bytes its body may have.
    pub body_max: Option<u64>,
    /// How slowly it may come.
    pub body_rate: BodyRate,
    /// Whether its credentials authenticate the connection that it goes up on.
    pub authenticates_connection: bool,
    /// What is taken out of its answer.
    pub filter: Option<Rc<ToolFilter>>,
    /// Whether it may be sent again when a connection died before any answer (RFC 9110 section 9.2.2).
    pub is_repeatable: bool,
    /// The protocol that is switched to if the upstream agrees.
    pub switch: Option<Box<Switch>>,
    /// What it hangs on; `None`: on nothing.
    pub lease: Option<Lease>,
}

/// What becomes of a message.
pub enum Passage<R> {
    /// It goes up.
    Forward(Order<R>),
    /// It is decided by what its body says: to be received again with all of it.
    Undecided {
        /// The most bytes that the body may have.
        max: u64,
        /// How slowly it may come.
        rate: BodyRate,
        /// What it hangs on meanwhile; `None`: on nothing.
        lease: Option<Lease>,
    },
    /// It was answered here, a refusal mostly: the response is in the output, and says this about the connection.
    Answered(After),
}

/// The message's way, as the loop needs it.
pub trait Way {
    /// One exchange as metrics and the access log see it.
    type Ticket;
    /// Where a message goes.
    type Route;
    /// A serialised request head that was permitted. The loop can send it, and nothing else.
    type Permitted: Default;

    /// The bytes of a permitted head.
    fn permitted(head: &Self::Permitted) -> &[u8];
    /// Gives memory back that only a large head needed.
    fn shrink(head: &mut Self::Permitted);
    /// The upstreams of a route.
    fn upstreams(route: &Self::Route) -> &Rc<Group>;
    /// From the last request byte sent to the response's head, where a route says otherwise than the limits.
    fn response_timeout(route: &Self::Route) -> Option<Duration>;
    /// Whether a request's trailer field is passed on.
    fn trails_up(field: &Field<'_>, route: &Self::Route) -> bool;
    /// Whether a response's trailer field is passed on.
    fn trails_down(field: &Field<'_>) -> bool;

    /// The worker's upstream connections.
    fn pool(&self) -> &Pool;
    /// The worker's counters.
    fn telemetry(&self) -> &WorkerTelemetry;

    /// Opens the ticket of a message whose head is complete.
    fn open(&self, head: &Head<'_>) -> Self::Ticket;
    /// Opens the ticket of a message whose head could not be read, but for what was seen of it.
    fn open_unread(&self, seen: &Glimpse<'_>) -> Self::Ticket;
    /// Decides. Fills `permitted` or writes the answer to `out`; `after` is what the loop would have the answer say. With
    /// `body` comes a message that was undecided without it.
    fn receive(
        &self,
        head: &Head<'_>,
        body: Option<&[u8]>,
        ticket: &mut Self::Ticket,
        permitted: &mut Self::Permitted,
        after: After,
        out: &mut Vec<u8>,
    ) -> Passage<Self::Route>;
    /// The request's head is on its way to this upstream.
    fn forwarded(&self, ticket: &mut Self::Ticket, upstream: &Rc<str>);
    /// Writes a 1xx response's head.
    fn inform(&self, head: &ResponseHead<'_>, out: &mut Vec<u8>);
    /// Writes the final response's head.
    fn respond(
        &self,
        ticket: &mut Self::Ticket,
        head: &ResponseHead<'_>,
        framing: (Delimiter, After),
        http_1_0: bool,
        out: &mut Vec<u8>,
    );
    /// Writes the head of the answer by which the upstream switches protocols.
    fn switch(&self, ticket: &mut Self::Ticket, head: &ResponseHead<'_>, switch: &Switch, out: &mut Vec<u8>);
    /// Writes the answer to a fault.
    fn fail(&self, ticket: &mut Self::Ticket, fault: &Fault, after: After, to_head: bool, out: &mut Vec<u8>);
    /// The event by which a stream of events ends whose capability fell.
    fn last_event(&self, _: &Self::Ticket, fallen: &Fallen) -> String {
        fallen.last_event()
    }
    /// The exchange broke off after its final response had begun.
    fn broken(&self, ticket: &mut Self::Ticket, fallen: Option<&Fallen>);
    /// The exchange is over; so many body bytes went up and down.
    fn close(&self, ticket: Self::Ticket, bytes_in: u64, bytes_out: u64);
}
