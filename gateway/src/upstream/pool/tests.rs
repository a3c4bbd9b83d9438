//! The pool against real sockets: what is kept, who is asked, who waits.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::task::LocalSet;

use super::*;

async fn service() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("bound").to_string();
    (listener, address)
}

/// An address where nobody listens.
async fn down() -> String {
    service().await.1
}

fn pool(limits: Limits) -> Pool {
    Pool::new(Current::new(limits), 7)
}

impl Pool {
    async fn opened(&self, group: &Group) -> Result<Upstream, Unreachable> {
        self.open(group, &Attempts::default(), Need::Repeatable).await
    }
}

#[tokio::test]
async fn a_clean_connection_is_used_again() {
    let (listener, address) = service().await;
    let pool = pool(Limits::default());
    let group = pool.group_for_tests(&[&address]);
    assert!(pool.ready(&group, &Attempts::default(), Need::Repeatable).is_none(), "nothing is at hand");
    let first = pool.opened(&group).await.expect("connected");
    let _peer = listener.accept().await.expect("accepted");
    let port = first.stream().local_port();
    assert!(!first.is_reused);
    pool.put(first);
    for need in [Need::Repeatable, Need::Once, Need::Switch] {
        let again = pool.ready(&group, &Attempts::default(), need).expect("kept");
        assert!(again.is_reused);
        assert_eq!(again.stream().local_port(), port);
        assert_eq!((pool.idle(), group.members()[0].in_flight()), (0, 1));
        pool.put(again);
    }
    assert_eq!((pool.idle(), group.members()[0].in_flight()), (1, 0));
}

/// Bytes that nobody asked for are somebody else's answer.
#[tokio::test]
async fn a_connection_that_spoke_or_closed_meanwhile_is_not_used() {
    let (listener, address) = service().await;
    let pool = pool(Limits::default());
    let group = pool.group_for_tests(&[&address]);
    for speaks in [true, false] {
        let upstream = pool.opened(&group).await.expect("connected");
        let (mut peer, _) = listener.accept().await.expect("accepted");
        if speaks {
            peer.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.expect("written");
        } else {
            drop(peer);
        }
        upstream.stream().readable().await.expect("the news arrived");
        pool.put(upstream);
        assert!(pool.ready(&group, &Attempts::default(), Need::Repeatable).is_none());
    }
}

#[tokio::test]
async fn the_pool_is_bounded_in_number_and_time() {
    let (listener, address) = service().await;
    let bounded = pool(Limits { upstream_idle_connections_max: 1, ..Limits::default() });
    let aged = pool(Limits { upstream_idle_timeout: Duration::ZERO, ..Limits::default() });
    for pool in [&bounded, &aged] {
        let group = pool.group_for_tests(&[&address]);
        let mut peers = Vec::new();
        let mut open = Vec::new();
        for _ in 0..3 {
            open.push(pool.opened(&group).await.expect("connected"));
            peers.push(listener.accept().await.expect("accepted"));
        }
        open.into_iter().for_each(|upstream| pool.put(upstream));
        if std::ptr::eq(pool, &raw const bounded) {
            assert_eq!(pool.idle(), 1);
        } else {
            pool.sweep();
            assert_eq!(pool.idle(), 0);
        }
    }
}

#[tokio::test]
async fn addresses_share_the_load_and_one_that_is_down_is_passed_over_and_left_alone() {
    let ((_one, first), (_two, second), down) = (service().await, service().await, down().await);
    let pool = pool(Limits { upstream_failures_max: 2, ..Limits::default() });
    let group = pool.group_for_tests(&[&first, &down, &second]);
    let mut open = Vec::new();
    for _ in 0..20 {
        open.push(pool.opened(&group).await.expect("two are up"));
    }
    let members = group.members();
    let loads: Vec<u32> = members.iter().map(|member| member.in_flight()).collect();
    assert_eq!((loads[1], loads[0] + loads[2]), (0, 20));
    assert!(loads[0].abs_diff(loads[2]) <= 2, "{loads:?}");
    let usable: Vec<bool> = members.iter().map(|member| member.is_usable()).collect();
    assert_eq!(usable, [true, false, true], "ejected after two failures");
    drop(open);
    assert!(members.iter().all(|member| member.in_flight() == 0));
    let report = &group.roster().report().addresses[1];
    assert_eq!((report.condition, report.failures), (crate::upstream::Condition::Ejected, 2));
    assert!(report.reason.as_deref().is_some_and(|reason| reason.contains("cannot be made")), "{report:?}");
}

#[tokio::test]
async fn the_last_address_is_asked_all_the_same_and_an_answer_brings_it_back() {
    let address = down().await;
    let pool = pool(Limits { upstream_failures_max: 1, ..Limits::default() });
    let group = pool.group_for_tests(&[&address]);
    for _ in 0..3 {
        let error = pool.opened(&group).await.expect_err("nobody is there");
        assert!(error.to_string().starts_with(&format!("a connection to {address} cannot be made: ")), "{error}");
    }
    assert!(!group.members()[0].is_usable());
    let _listener = TcpListener::bind(&address).await.expect("bound again");
    let upstream = pool.opened(&group).await.expect("asked for want of a better one");
    upstream.answered();
    assert!(group.members()[0].is_usable());
}

#[tokio::test]
async fn an_ejected_address_is_tried_with_a_connection_before_any_message() {
    LocalSet::new()
        .run_until(async {
            let ((_listener, up), down) = (service().await, down().await);
            let limits = Limits {
                upstream_failures_max: 1,
                upstream_ejection_time: Duration::from_millis(1),
                upstream_ejection_time_max: Duration::from_millis(1),
                ..Limits::default()
            };
            let pool = pool(limits);
            let group = pool.group_for_tests(&[&up, &down]);
            let members = group.members();
            while members[1].is_usable() {
                drop(pool.opened(&group).await.expect("one is up"));
            }
            let back = TcpListener::bind(&down).await.expect("bound again");
            while !members[1].is_usable() {
                pool.sweep();
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            back.accept().await.expect("tried");
            assert_eq!(members[1].idle(), 1, "the connection is kept for a message");
        })
        .await;
}

#[tokio::test]
async fn what_fails_its_health_checks_is_not_asked_even_if_nothing_else_is_left() {
    let ((_one, first), (_two, second)) = (service().await, service().await);
    let pool = pool(Limits::default());
    let group = pool.group_for_tests(&[&first, &second]);
    let seats = Arc::clone(&group.roster().watch().borrow());
    seats[0].checked(false, Some("503".into()));
    for _ in 0..10 {
        assert_eq!(**pool.opened(&group).await.expect("one is well").label(), *second);
    }
    seats[1].checked(false, Some("503".into()));
    assert!(matches!(pool.opened(&group).await, Err(Unreachable::Unhealthy)));
    seats[0].checked(true, None);
    assert_eq!(**pool.opened(&group).await.expect("one is well").label(), *first);
}

#[tokio::test]
async fn messages_wait_in_line_for_a_place_and_no_longer_than_they_may() {
    let (_listener, address) = service().await;
    let limits = Limits {
        upstream_connections_max: 1,
        upstream_queue_max: 2,
        upstream_queue_timeout: Duration::from_millis(20),
        ..Limits::default()
    };
    let pool = pool(limits);
    let group = pool.group_for_tests(&[&address]);
    let first = pool.opened(&group).await.expect("room");
    assert!(matches!(pool.opened(&group).await, Err(Unreachable::QueueTimeout)));
    assert!(group.queue().is_empty(), "who gives up leaves the line");
    let (second, third, fourth, ()) = tokio::join!(
        async {
            let upstream = pool.opened(&group).await.expect("the first has ended");
            assert!(upstream.is_reused, "over the connection of the one before");
            upstream
        },
        async {
            let attempts = Attempts::default();
            let mut waiting = std::pin::pin!(pool.open(&group, &attempts, Need::Repeatable));
            let gone = tokio::time::timeout(Duration::from_millis(1), &mut waiting).await;
            assert!(gone.is_err() && attempts.is_queued());
        },
        pool.opened(&group),
        async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            pool.put(first);
        },
    );
    assert!(matches!(fourth, Err(Unreachable::QueueFull)));
    let () = third;
    assert_eq!(group.members()[0].in_flight(), 1);
    drop(second);
    assert_eq!(group.members()[0].in_flight(), 0);
}

/// Whoever waits when an address becomes usable, not when a place there becomes free, is served as well.
#[tokio::test]
async fn an_address_that_comes_back_serves_those_who_wait() {
    let ((_one, first), (_two, second)) = (service().await, service().await);
    let pool = pool(Limits { upstream_connections_max: 1, ..Limits::default() });
    let group = pool.group_for_tests(&[&first, &second]);
    let seats = Arc::clone(&group.roster().watch().borrow());
    seats[1].checked(false, None);
    let _held = pool.opened(&group).await.expect("room");
    let (served, ()) = tokio::join!(pool.opened(&group), async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(group.queue().len(), 1);
        seats[1].checked(true, None);
        pool.sweep();
        assert_eq!(group.roster().report().waiting, 1, "until it runs");
    });
    assert_eq!(**served.expect("room").label(), *second);
}

#[tokio::test]
async fn a_message_that_may_be_repeated_goes_elsewhere_over_a_fresh_connection() {
    let ((_one, first), (_two, second)) = (service().await, service().await);
    let limits = Limits::default();
    let pool = pool(limits.clone());
    let group = pool.group_for_tests(&[&first, &second]);
    let kept = pool.opened(&group).await.expect("up");
    let label = Rc::clone(kept.label());
    pool.put(kept);
    for _ in 0..100 {
        let other = pool.opened(&group).await.expect("up");
        let is_other = *other.label() != label;
        pool.put(other);
        if is_other {
            break;
        }
    }
    assert_eq!(pool.idle(), 2);
    let attempts = Attempts::default();
    let mut been = Vec::new();
    for attempt in 1..=limits.upstream_attempts_max {
        let Ok(upstream) = pool.open(&group, &attempts, Need::Repeatable).await else { break };
        assert_eq!(upstream.is_reused, attempt == 1, "only the first over a kept one");
        been.push(Rc::clone(upstream.label()));
        if !attempts.may_repeat(&upstream, &Failure::Closed, &group, &limits) {
            break;
        }
    }
    assert_eq!(been.len(), 3, "{been:?}");
    assert!(been[0] != been[1] && been[1] != been[2], "{been:?}");
    let lonely = pool.group_for_tests(&[&first]);
    let attempts = Attempts::default();
    let fresh = pool.open(&lonely, &attempts, Need::Repeatable).await.expect("up");
    let is_worth_it = attempts.may_repeat(&fresh, &Failure::Closed, &lonely, &limits);
    assert!(!is_worth_it, "a fresh connection to the only address says enough");
}

/// Whoever reads that nothing was sent sends again what must not be done twice.
#[tokio::test]
async fn what_may_have_been_done_is_not_forgotten_over_an_attempt_that_did_not_happen() {
    let ((_one, first), (_two, second)) = (service().await, service().await);
    let (pool, limits) = (pool(Limits::default()), Limits::default());
    let group = pool.group_for_tests(&[&first, &second]);
    for (died, then) in [(Failure::Unprocessed, Failure::Unhealthy), (Failure::Closed, Failure::Closed)] {
        let attempts = Attempts::default();
        let upstream = pool.open(&group, &attempts, Need::Repeatable).await.expect("up");
        assert_eq!(attempts.sum_up(Failure::Unhealthy), Failure::Unhealthy, "nothing was sent yet");
        assert!(attempts.may_repeat(&upstream, &died, &group, &limits));
        assert_eq!(attempts.sum_up(Failure::Unhealthy), then, "after {died:?}");
        assert_eq!(attempts.sum_up(Failure::Timeout), Failure::Timeout);
    }
}

#[tokio::test]
async fn a_name_without_an_address_is_waited_for_and_other_addresses_take_over() {
    let ((_one, first), (_two, second)) = (service().await, service().await);
    let pool = pool(Limits { upstream_connect_timeout: Duration::from_millis(50), ..Limits::default() });
    let group = pool.group_for_tests(&["orders.internal:80"]);
    group.roster().unresolved(0, "no such name".into());
    let error = pool.opened(&group).await.expect_err("no address");
    assert_eq!(error.to_string(), "the address of orders.internal:80 cannot be found out: no such name");
    let address = |text: &str| text.parse().expect("an address");
    let (opened, ()) = tokio::join!(pool.opened(&group), async {
        tokio::task::yield_now().await;
        group.roster().resolved(0, &[address(&first)]);
    });
    let held = opened.expect("resolved");
    pool.put(pool.opened(&group).await.expect("up"));
    assert_eq!(pool.idle(), 1);
    group.roster().resolved(0, &[address(&second)]);
    pool.sweep();
    assert_eq!(pool.idle(), 0, "nothing is kept to an address that the name has no more");
    assert_eq!(**pool.opened(&group).await.expect("up").label(), *second);
    pool.put(held);
    assert_eq!(pool.idle(), 0);
}

/// A reload while messages wait: they were let in, and get their turn.
#[tokio::test]
async fn whoever_waits_at_a_resource_that_goes_is_served() {
    let (_listener, address) = service().await;
    let pool = pool(Limits { upstream_connections_max: 1, ..Limits::default() });
    let group = pool.group_for_tests(&[&address]);
    let held = pool.opened(&group).await.expect("room");
    let (served, ()) = tokio::join!(pool.opened(&group), async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        pool.retain(&[]);
        pool.put(held);
    });
    assert!(!served.expect("served").is_reused, "nothing is kept any more");
}

#[tokio::test]
async fn a_resource_that_goes_takes_its_connections_along() {
    let (_listener, address) = service().await;
    let pool = pool(Limits::default());
    let resource = crate::config::Resource::for_tests(&[&address]);
    let roster = Arc::new(Roster::new(&resource, None));
    let group = pool.group(&roster, vec![Endpoint::new(&resource.upstream[0], None)]);
    let under_way = pool.opened(&group).await.expect("up");
    pool.put(pool.opened(&group).await.expect("up"));
    assert!(Rc::ptr_eq(&group, &pool.group(&roster, Vec::new())), "an unchanged resource keeps its group");
    pool.retain(&[Rc::clone(&group)]);
    assert_eq!(group.idle(), 1);
    pool.retain(&[]);
    assert_eq!(group.idle(), 0);
    pool.put(under_way);
    assert_eq!(group.idle(), 0);
}
