use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use futures_util::future::poll_immediate;
use tokio::time::advance;

use super::*;
use crate::config::HttpLimits;

/// Opens `count` connections, a millisecond after each other.
async fn opened(places: &mut Places, count: usize) -> Vec<Place> {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(places.take().await.unwrap());
        advance(Duration::from_millis(1)).await;
    }
    all
}

fn asked(places: &[Place]) -> Vec<usize> {
    let numbers = places.iter().enumerate().filter(|(_, place)| place.pause().is_asked());
    numbers.map(|(number, _)| number).collect()
}

#[tokio::test(start_paused = true)]
async fn one_connection_in_64_is_asked_to_leave_at_once_and_busy_ones_are_not() {
    let mut places = Places::new(200);
    let mut open = opened(&mut places, 200).await;
    open[1].pause().interrupt();
    open[2].pause().resume();
    let mut taking = Box::pin(places.take());
    assert!(poll_immediate(&mut taking).await.is_none());
    assert_eq!(asked(&open), [0, 3, 4]);
    // A place waits for these before it asks others.
    assert!(poll_immediate(&mut taking).await.is_none());
    assert_eq!(asked(&open), [0, 3, 4]);
    open.remove(3);
    let place = poll_immediate(&mut taking).await.flatten().expect("a place is free");
    drop(taking);
    // Two more have yet to leave.
    assert!(poll_immediate(pin!(places.take())).await.is_none());
    assert_eq!(asked(&open), [0, 3]);
    drop(place);
}

#[tokio::test(start_paused = true)]
async fn others_are_asked_when_those_that_were_do_not_leave() {
    let mut places = Places::new(3);
    let open = opened(&mut places, 3).await;
    let mut taking = Box::pin(places.take());
    for expected in [vec![0], vec![0, 1], vec![0, 1, 2]] {
        assert!(poll_immediate(&mut taking).await.is_none());
        assert_eq!(asked(&open), expected);
        advance(PATIENCE).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_was_used_in_the_meantime_declines_and_the_next_is_asked_at_once() {
    let mut places = Places::new(3);
    let open = opened(&mut places, 3).await;
    let mut taking = Box::pin(places.take());
    assert!(poll_immediate(&mut taking).await.is_none());
    open[0].pause().interrupt();
    open[0].pause().resume();
    poll_fn(|context| {
        assert!(!open[0].is_to_leave(context));
        Poll::Ready(())
    })
    .await;
    assert!(poll_immediate(&mut taking).await.is_none());
    assert_eq!(asked(&open), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_was_used_since_the_last_search_is_skipped() {
    let mut places = Places::new(4);
    let mut open = opened(&mut places, 4).await;
    let mut taking = Box::pin(places.take());
    assert!(poll_immediate(&mut taking).await.is_none());
    assert_eq!(asked(&open), [0]);
    open[1].pause().interrupt();
    open[2].pause().resume();
    drop(open.remove(0));
    open.push(poll_immediate(&mut taking).await.flatten().expect("a place is free"));
    drop(taking);
    // Number 0 is gone and 1 is busy: 3 is asked first, then 2, then the latest.
    let mut taking = Box::pin(places.take());
    for expected in [vec![2], vec![1, 2], vec![1, 2, 3]] {
        assert!(poll_immediate(&mut taking).await.is_none());
        assert_eq!(asked(&open), expected);
        advance(PATIENCE).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_place_that_is_free_again_is_not_waited_for() {
    let mut places = Places::new(1);
    let place = places.take().await.unwrap();
    let pause = Arc::clone(place.pause());
    assert!(poll_immediate(pin!(places.take())).await.is_none());
    assert!(pause.is_asked());
    // Its thread may hold the pause for a while longer.
    drop(place);
    let next = places.take().await.unwrap();
    assert!(poll_immediate(pin!(places.take())).await.is_none());
    assert!(next.pause().is_asked());
}

#[tokio::test(start_paused = true)]
async fn closed_connections_are_forgotten() {
    let mut places = Places::new(10);
    for _ in 0..10_000 {
        drop(places.take().await.unwrap());
    }
    assert!(places.open.len() <= ASKED_MAX, "{}", places.open.len());
}

#[tokio::test(start_paused = true)]
async fn where_all_are_busy_a_newcomer_is_refused_at_once_until_one_is_idle_or_gone() {
    let mut places = Places::new(2);
    let mut open = opened(&mut places, 2).await;
    open.iter().for_each(|place| place.pause().interrupt());
    for _ in 0..3 {
        assert!(poll_immediate(pin!(places.take())).await.expect("no wait").is_none());
    }
    open[0].pause().resume();
    advance(SEARCH_PAUSE).await;
    assert!(poll_immediate(pin!(places.take())).await.is_none(), "it waits for the idle one");
    drop(open.remove(0));
    assert!(poll_immediate(pin!(places.take())).await.flatten().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_new_connection_and_a_begun_head_have_another_limit_than_a_rest() {
    let second = Duration::from_secs(1);
    let limits = HttpLimits {
        stop_delay: Duration::ZERO,
        connections: 1,
        head: 15 * second,
        body: second,
        idle: 75 * second,
        drain: second,
    };
    let place = Places::new(1).take().await.unwrap();
    let (pause, opened) = (place.pause(), Instant::now());
    let mut patience = Patience::begin(pause, limits);
    advance(10 * second).await;
    pause.begin_head();
    assert_eq!(patience.ends(pause), Some(opened + limits.head), "silence counts");
    pause.interrupt();
    assert_eq!(patience.ends(pause), None);
    pause.resume();
    let rests = Instant::now();
    assert_eq!(patience.ends(pause), Some(rests + limits.idle));
    advance(70 * second).await;
    pause.begin_head();
    let begun = Instant::now();
    assert_eq!(patience.ends(pause), Some(begun + limits.head));
    advance(second).await;
    pause.begin_head();
    assert_eq!(patience.ends(pause), Some(begun + limits.head), "each byte more wins no time");
}
