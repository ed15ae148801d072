//! Each mode on real sockets.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::{Effect, Order, Proxy, Scope, Upstream, Way};

/// Nothing here takes so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long orders with a duration last. Tests only wait for it, they never race with it.
const A_WHILE: Duration = Duration::from_millis(150);

const REQUEST: &[u8] = b"request!";
const ANSWER: &[u8] = b"an answer";

struct Pair {
    client: TcpStream,
    server: TcpStream,
}

struct Ends {
    proxy: Proxy,
    listener: TcpListener,
}

impl Ends {
    async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = Upstream::Tcp(listener.local_addr().unwrap());
        Self { proxy: Proxy::start(Some(upstream)).await.unwrap(), listener }
    }

    async fn pair(&self) -> Pair {
        let client = TcpStream::connect(self.proxy.address()).await.unwrap();
        let (server, _) = timeout(PATIENCE, self.listener.accept()).await.unwrap().unwrap();
        Pair { client, server }
    }

    fn order(&self, effect: Effect, scope: Scope, lasts: Duration) -> Instant {
        let until = Instant::now() + lasts;
        self.proxy.give(Order { effect, scope, until });
        until
    }
}

/// All bytes until the connection ends, however it does.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset is an end as well.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("it ends");
    bytes
}

async fn exactly(stream: &mut TcpStream, wanted: &[u8]) {
    let mut bytes = vec![0; wanted.len()];
    timeout(PATIENCE, stream.read_exact(&mut bytes)).await.expect("in time").unwrap();
    assert_eq!(bytes, wanted);
}

async fn works(Pair { client, server }: &mut Pair) {
    client.write_all(REQUEST).await.unwrap();
    exactly(server, REQUEST).await;
    server.write_all(ANSWER).await.unwrap();
    exactly(client, ANSWER).await;
}

#[tokio::test]
async fn without_an_order_everything_passes_and_so_does_the_end() {
    let way = Ends::open().await;
    let mut pair = way.pair().await;
    works(&mut pair).await;
    let Pair { mut client, mut server } = pair;
    client.write_all(REQUEST).await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut server).await, REQUEST);
    server.write_all(ANSWER).await.unwrap();
    drop(server);
    assert_eq!(rest(&mut client).await, ANSWER, "what was under way when the client had closed");
}

#[tokio::test]
async fn a_delay_makes_each_packet_later() {
    let way = Ends::open().await;
    let mut pair = way.pair().await;
    way.order(Effect::Delay(Duration::from_millis(50)), Scope::All, PATIENCE);
    let began = Instant::now();
    works(&mut pair).await;
    assert!(began.elapsed() >= Duration::from_millis(100), "one in each direction");
}

#[tokio::test]
async fn a_stall_holds_everything_and_then_lets_it_pass() {
    let way = Ends::open().await;
    let mut pair = way.pair().await;
    let until = way.order(Effect::Hold { way: None, then_cut: false }, Scope::All, A_WHILE);
    works(&mut pair).await;
    assert!(Instant::now() >= until, "nothing arrived before");
    works(&mut pair).await;
}

#[tokio::test]
async fn one_direction_can_be_held_while_the_other_passes_and_then_be_cut() {
    let way = Ends::open().await;
    let Pair { mut client, mut server } = way.pair().await;
    let hold = Effect::Hold { way: Some(Way::Up), then_cut: true };
    let until = way.order(hold, Scope::All, A_WHILE);
    client.write_all(REQUEST).await.unwrap();
    server.write_all(ANSWER).await.unwrap();
    exactly(&mut client, ANSWER).await;
    assert_eq!(rest(&mut server).await, b"", "the request is lost");
    assert!(Instant::now() >= until);
    assert_eq!(rest(&mut client).await, b"");
}

#[tokio::test]
async fn a_cut_before_the_request_forwards_nothing_of_it() {
    let way = Ends::open().await;
    let mut pair = way.pair().await;
    works(&mut pair).await;
    way.order(Effect::CutBefore, Scope::All, PATIENCE);
    pair.client.write_all(REQUEST).await.unwrap();
    assert_eq!(rest(&mut pair.server).await, b"");
    assert_eq!(rest(&mut pair.client).await, b"");
}

#[tokio::test]
async fn a_cut_after_the_request_forwards_it_and_loses_the_answer() {
    let way = Ends::open().await;
    let Pair { mut client, mut server } = way.pair().await;
    way.order(Effect::CutAfter, Scope::All, PATIENCE);
    // Not the answer to a request that was sent since.
    server.write_all(ANSWER).await.unwrap();
    exactly(&mut client, ANSWER).await;
    client.write_all(REQUEST).await.unwrap();
    exactly(&mut server, REQUEST).await;
    server.write_all(ANSWER).await.unwrap();
    assert_eq!(rest(&mut client).await, b"");
}

#[tokio::test]
async fn an_answer_that_comes_after_the_order_is_over_is_cut_as_well() {
    let way = Ends::open().await;
    let Pair { mut client, mut server } = way.pair().await;
    let until = way.order(Effect::CutAfter, Scope::All, A_WHILE);
    client.write_all(REQUEST).await.unwrap();
    exactly(&mut server, REQUEST).await;
    tokio::time::sleep_until(until.into()).await;
    server.write_all(ANSWER).await.unwrap();
    assert_eq!(rest(&mut client).await, b"");
}

#[tokio::test]
async fn half_a_packet_is_forwarded_in_either_direction() {
    let way = Ends::open().await;
    let Pair { mut client, mut server } = way.pair().await;
    way.order(Effect::CutHalf(Way::Up), Scope::All, PATIENCE);
    client.write_all(REQUEST).await.unwrap();
    assert_eq!(rest(&mut server).await, &REQUEST[..4]);

    let Pair { mut client, mut server } = way.pair().await;
    way.order(Effect::CutHalf(Way::Down), Scope::All, PATIENCE);
    client.write_all(REQUEST).await.unwrap();
    exactly(&mut server, REQUEST).await;
    server.write_all(ANSWER).await.unwrap();
    assert_eq!(rest(&mut client).await, &ANSWER[..4]);
}

#[tokio::test]
async fn of_many_connections_the_one_with_the_drawn_packet_is_struck() {
    let way = Ends::open().await;
    let (mut first, mut second) = (way.pair().await, way.pair().await);
    way.order(Effect::CutBefore, Scope::One { after: 1 }, PATIENCE);
    // An answer is no packet that this one can begin with.
    works(&mut first).await;
    assert_eq!(way.proxy.struck(), 0);
    second.client.write_all(REQUEST).await.unwrap();
    assert_eq!(rest(&mut second.server).await, b"");
    assert_eq!(way.proxy.struck(), 1);
    works(&mut first).await;
}

#[tokio::test]
async fn an_order_that_is_over_strikes_nobody() {
    let way = Ends::open().await;
    let mut pair = way.pair().await;
    way.order(Effect::CutBefore, Scope::All, Duration::ZERO);
    works(&mut pair).await;
    assert_eq!(way.proxy.struck(), 0);
}

#[tokio::test]
async fn a_new_connection_leads_to_the_new_place_and_nowhere_is_an_end() {
    let way = Ends::open().await;
    let mut old = way.pair().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    way.proxy.lead_to(Upstream::Tcp(listener.local_addr().unwrap()));
    let mut client = TcpStream::connect(way.proxy.address()).await.unwrap();
    let (mut server, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    client.write_all(REQUEST).await.unwrap();
    exactly(&mut server, REQUEST).await;
    works(&mut old).await;
    drop(listener);
    let mut nowhere = TcpStream::connect(way.proxy.address()).await.unwrap();
    assert_eq!(rest(&mut nowhere).await, b"");
}
