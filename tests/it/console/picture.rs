//! The picture of the README.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::browser::{Look, Tab};
use crate::console::look_up;
use crate::service::TestService;

/// Long enough for the charts to have a shape.
const LOAD: Duration = Duration::from_secs(130);

/// Writes docs/images/console.png:
/// `cargo test --release --test it -- --ignored the_picture_of_the_readme`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes, and changes a file of the project"]
async fn the_picture_of_the_readme() {
    let service = Arc::new(TestService::start_with(&[("WORKERS", "2")]).await);
    let user = service.user_with(2_000_000).await;
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..64)
        .map(|number| tokio::spawn(client(Arc::clone(&service), user, number, Arc::clone(&stop))))
        .collect();
    let tab =
        Tab::open(&format!("{}/console", service.url), Look { height: 1080, ..Look::USUAL }).await;
    look_up(&tab, user).await;
    sleep(LOAD).await;
    for amount in ["2500", "1800"] {
        tab.type_into("#hold [name=amount]", amount).await;
        tab.click("#hold button").await;
        tab.until("an answer", "/^[0-9]/.test(document.querySelector('#status').innerText)").await;
    }
    tab.type_into("#change [name=amount]", "-200").await;
    tab.type_into("#change [name=reference]", "invoice 17").await;
    tab.click("#change button").await;
    tab.until("an answer", "/^[0-9]/.test(document.querySelector('#status').innerText)").await;
    tab.value("scrollTo(0, 0); document.activeElement.blur()").await;
    sleep(Duration::from_secs(3)).await;
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/images/console.png");
    tab.picture(&file).await;
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    tab.close(&[]).await;
    assert!(std::fs::metadata(&file).unwrap().len() < 300_000);
    Arc::into_inner(service).unwrap().stop().await;
}

/// Changes the balance up and down, with a pause each half minute for some, so that the charts have a shape.
async fn client(service: Arc<TestService>, user: i64, number: i64, stop: Arc<AtomicBool>) {
    let began = Instant::now();
    let mut count = number;
    while !stop.load(Ordering::Relaxed) {
        let half_minutes = i64::try_from(began.elapsed().as_secs() / 30).unwrap();
        if half_minutes % 2 == 1 && number % 4 != 0 {
            sleep(Duration::from_millis(200)).await;
            continue;
        }
        count += 1;
        let amount = if count % 7 == 0 { 60 } else { -((count * 13) % 21) };
        let amount = if count % 50 == 0 { -1_000_000_000 } else { amount };
        let (status, body) =
            service.change("batched", user, if amount == 0 { 5 } else { amount }).await;
        assert!([200, 400].contains(&status), "{body}");
    }
}
