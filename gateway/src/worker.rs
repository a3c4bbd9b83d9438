//! What one worker thread holds: everything that a message needs on its way, without a lock.
//!
//! A worker is one thread with its own runtime, its own listening sockets, its own plan cache and its own upstream
//! connections. Between workers only the standing of keys and revocations is shared, read by one atomic load.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use postern_capabilities::plans::{PlanCache, RefusalCache};
use postern_capabilities::revocation::Standing;

use crate::config::TrustedProxies;
use crate::http1;
use crate::limits::Limits;
use crate::request::forward::TraceIds;
use crate::request::route::Routes;
use crate::telemetry::WorkerTelemetry;
use crate::upstream::pool::Pool;

/// One worker's state.
pub struct Worker {
    /// Host and path to resource. Swapped whole when the configuration changes.
    pub routes: RefCell<Rc<Routes>>,
    /// Every bound.
    pub limits: Rc<Limits>,
    /// Which keys live and what is revoked.
    pub standing: Arc<Standing>,
    /// Verified plans by token text.
    pub plans: RefCell<PlanCache>,
    /// Tokens that verified and are refused for what they say.
    pub refusals: RefCell<RefusalCache>,
    /// Whose word on earlier hops is believed.
    pub trusted_proxies: TrustedProxies,
    /// This worker's counters, and its way to the access log.
    pub telemetry: WorkerTelemetry,
    /// Ids for traces.
    pub trace_ids: TraceIds,
    /// Connections to upstreams that wait for a message.
    pub pool: Pool,
    /// What HTTP/1 connections share: the coarse clock, the drain, room for exchanges.
    pub http1: Rc<http1::Shared>,
}

impl Worker {
    /// A worker with empty caches.
    pub fn new(
        routes: Routes,
        limits: Rc<Limits>,
        standing: Arc<Standing>,
        trusted_proxies: TrustedProxies,
        telemetry: WorkerTelemetry,
    ) -> Self {
        let plans = PlanCache::new(limits.plan_cache_entries_max, limits.plan_cache_bytes_max);
        Self {
            routes: Rc::new(routes).into(),
            standing,
            plans: plans.into(),
            refusals: RefusalCache::of_refusals().into(),
            trusted_proxies,
            telemetry,
            trace_ids: TraceIds::new(rand::random()),
            pool: Pool::new(Rc::clone(&limits)),
            http1: http1::Shared::new(Rc::clone(&limits)),
            limits,
        }
    }

    /// The table of routes as it is at this moment.
    pub fn routes(&self) -> Rc<Routes> {
        Rc::clone(&self.routes.borrow())
    }

    /// Now, in whole seconds: what `time(…)` states. A clock before 1970 reads as 0, which every expiry refuses to
    /// mistake for later and every `not-before` refuses.
    pub fn now(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
    }
}
