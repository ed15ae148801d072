//! The charts of the service as a whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::browser::{Look, Stage, Tab};
use crate::service::TestService;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_charts_move_while_the_service_works() {
    let service = Arc::new(TestService::start().await);
    let tab = Tab::open(&format!("{}/console", service.url), Look::USUAL).await;
    tab.until(
        "six charts",
        "document.querySelectorAll('#charts figure > .chart > svg').length === 6",
    )
    .await;
    tab.until_text("#readiness", "ready").await;
    tab.until_text("#charts-state", "live").await;
    let stop = Arc::new(AtomicBool::new(false));
    let changing = tokio::spawn({
        let (service, stop) = (Arc::clone(&service), Arc::clone(&stop));
        async move {
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(service.change("batched", 1, 1).await.0, 200);
            }
        }
    });
    let value = |figure: u8, series: u8| {
        format!(
            "document.querySelector('#charts figure:nth-child({figure}) li:nth-child({series}) b').innerText"
        )
    };
    // Accepted changes, their response times, the sizes of their batches, and the time of those.
    tab.until("changes are accepted", &format!("Number({}) > 0", value(1, 1))).await;
    for figure in [2, 3, 4] {
        tab.until("it is measured", &format!("{} !== 'none'", value(figure, 1))).await;
    }
    stop.store(true, Ordering::Relaxed);
    changing.await.unwrap();
    tab.until("it is quiet again", &format!("{} === '0'", value(1, 1))).await;
    // What was is still seen, drawn above the axis.
    let line = "document.querySelector('#charts figure:first-child polyline[stroke*=series-0]')";
    let heights = format!(
        "new Set({line}.getAttribute('points').trim().split(' ').map((at) => at.split(',')[1])).size > 1"
    );
    tab.until("the line has a hill", &heights).await;
    tab.close(&[]).await;
    Arc::into_inner(service).unwrap().stop().await;
}

#[tokio::test]
async fn a_service_that_hangs_is_neither_ready_nor_live() {
    let service = TestService::start().await;
    let tab = Tab::open(&format!("{}/console", service.url), Look::USUAL).await;
    tab.until_text("#readiness", "ready").await;
    tab.until_text("#charts-state", "live").await;
    tab.stop_requests(&["*/readyz", "*/console/charts"], Stage::Sent).await;
    tab.until_text("#charts-state", "no answer, trying again").await;
    tab.until_text("#readiness", "no answer").await;
    tab.let_requests_go().await;
    tab.until_text("#readiness", "ready").await;
    tab.until_text("#charts-state", "live").await;
    tab.close(&[]).await;
    service.stop().await;
}
