//! What one worker thread holds: everything that a message needs on its way, without a lock.
//!
//! A worker is one thread with its own runtime, its own listening sockets, its own plan cache and its own upstream
//! connections. Between workers only the standing of keys and revocations is shared, read by one atomic load.
//!
//! What the configuration says stands in a [`View`] that a reload swaps whole: each message takes it once, so that no
//! message sees half of one configuration and half of another.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use postern_capabilities::chain::Prefixes;
use postern_capabilities::keys::SigningKey;
use postern_capabilities::plans::{PlanCache, RefusalCache};
use postern_capabilities::revocation::Standing;

use crate::budget::Budget;
use crate::config::{TrustedFields, TrustedProxies};
use crate::current::Current;
use crate::http1;
use crate::lease::Leases;
use crate::limits::Limits;
use crate::request::error::Refused;
use crate::request::forward::TraceIds;
use crate::request::forward::token::Narrowing;
use crate::request::noticed::Noticed;
use crate::request::route::Routes;
use crate::telemetry::WorkerTelemetry;
use crate::tls::Tls;
use crate::upstream::pool::Pool;
use crate::wall_clock::WallClock;

/// What the configuration says, as one worker reads it.
pub struct View {
    /// Host and path to resource.
    pub routes: Routes,
    /// Every bound.
    pub limits: Rc<Limits>,
    /// Whose word on earlier hops is believed.
    pub trusted_proxies: TrustedProxies,
    /// By which fields.
    pub trusted_fields: TrustedFields,
    /// Whether their connections begin with a PROXY protocol header.
    pub proxy_protocol: bool,
    /// Certificate and key of the data listener; `None`: cleartext.
    pub tls: Option<Arc<Tls>>,
}

/// One worker's state.
pub struct Worker {
    view: Current<View>,
    limits: Current<Limits>,
    /// Which keys live and what is revoked.
    pub standing: Arc<Standing>,
    /// Verified plans by token text.
    pub plans: RefCell<PlanCache>,
    /// Tokens that were refused at the cost of a signature check.
    pub refusals: RefCell<RefusalCache>,
    /// Beginnings of chains that verified.
    pub prefixes: Prefixes,
    /// The memory that all connections of all workers may take together.
    pub budget: Arc<Budget>,
    /// What narrows tokens for the backends that want them so; made when the first one is.
    pub narrowing: RefCell<Option<Box<Narrowing>>>,
    /// What signs statements about messages' clients; `None`: narrowed tokens state nothing.
    pub statement_key: Option<Arc<SigningKey>>,
    /// This worker's counters, and its way to the access log.
    pub telemetry: WorkerTelemetry,
    /// What the log was told of fields and paths that are dropped or refused by default.
    pub noticed: Noticed,
    /// Ids for traces.
    pub trace_ids: TraceIds,
    /// Connections to upstreams that wait for a message.
    pub pool: Pool,
    /// What the messages under way hang on.
    pub leases: Rc<Leases>,
    /// The time by which messages are decided; one for all workers.
    pub clock: Arc<WallClock>,
    /// What HTTP/1 connections share: the coarse clock, the drain, room for exchanges.
    pub http1: Rc<http1::Shared>,
}

impl Worker {
    /// A worker with empty caches, on cleartext.
    pub fn new(
        routes: Routes,
        limits: Rc<Limits>,
        standing: Arc<Standing>,
        trusted_proxies: TrustedProxies,
        telemetry: WorkerTelemetry,
    ) -> Self {
        let budget = Budget::new(limits.buffered_bytes_max);
        Self::of(
            View {
                routes,
                limits,
                trusted_proxies,
                trusted_fields: TrustedFields::default(),
                proxy_protocol: false,
                tls: None,
            },
            standing,
            budget,
            telemetry,
        )
    }

    /// A worker with empty caches.
    pub fn of(view: View, standing: Arc<Standing>, budget: Arc<Budget>, telemetry: WorkerTelemetry) -> Self {
        let limits = Current::new(Rc::clone(&view.limits));
        Self {
            leases: Leases::new(Arc::clone(&standing)),
            standing,
            plans: plans_within(&view.limits).into(),
            refusals: RefCell::default(),
            prefixes: Prefixes::default(),
            narrowing: RefCell::default(),
            statement_key: None,
            telemetry,
            noticed: Noticed::default(),
            trace_ids: TraceIds::new(rand::random()),
            pool: Pool::new(limits.clone(), rand::random()),
            http1: http1::Shared::new(limits.clone(), Arc::clone(&budget)),
            budget,
            clock: Arc::default(),
            view: Current::new(view),
            limits,
        }
    }

    /// States who the clients of messages are, in the tokens that it narrows.
    pub fn stating(mut self, key: Arc<SigningKey>) -> Self {
        self.statement_key = Some(key);
        self
    }

    /// The same worker, by a clock that others share.
    #[must_use]
    pub fn by_clock(self, clock: Arc<WallClock>) -> Self {
        Self { clock, ..self }
    }

    /// What the configuration says at this moment.
    pub fn view(&self) -> Rc<View> {
        self.view.get()
    }

    /// The view that a reload swaps, for whoever has to follow it.
    pub fn current_view(&self) -> Current<View> {
        self.view.clone()
    }

    /// Every bound, as it is at this moment.
    pub fn limits(&self) -> Rc<Limits> {
        self.limits.get()
    }

    /// Puts another configuration in force: for the next message, on open connections too.
    pub fn follow(&self, view: View) {
        let before = self.limits();
        // Compared as values: where no limit changed, nobody has to take them anew.
        let view = if *before == *view.limits { View { limits: before, ..view } } else { view };
        if !self.limits.is(&view.limits) {
            // Bounds and budget are taken when it is made.
            self.narrowing.replace(None);
            let caches =
                |limits: &Limits| (limits.plan_cache_entries_max, limits.plan_cache_bytes_max, limits.price_budget);
            if caches(&self.limits()) != caches(&view.limits) {
                // A plan was admitted under a budget, and so was a refusal.
                self.plans.replace(plans_within(&view.limits));
                self.refusals.take();
            }
            self.limits.swap(Rc::clone(&view.limits));
        }
        let groups: Vec<_> = view.routes.resources().iter().map(|resource| Rc::clone(&resource.upstreams)).collect();
        self.pool.retain(&groups);
        self.view.swap(view);
    }

    /// Refuses a message for want of memory, and counts it.
    pub fn shed(&self) -> Refused {
        self.telemetry.shed();
        Refused::Unavailable(
            "So much is under way that there is no memory for more. Nothing was sent to the service; try again.",
        )
    }

    /// Now, in whole seconds: what `time(…)` states. It never goes back.
    pub fn now(&self) -> u64 {
        self.clock.now()
    }
}

fn plans_within(limits: &Limits) -> PlanCache {
    PlanCache::new(limits.plan_cache_entries_max, limits.plan_cache_bytes_max)
}
