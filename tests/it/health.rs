//! `plimsoll health`, by which a container or a script learns whether the service is ready.

use std::time::Duration;

use tokio::net::TcpListener;

use crate::cluster::{fresh_folder, shared};
use crate::executable::{error_line, run, serve};
use crate::faults::until;
use crate::proxy::Proxy;
use crate::starting::free_port;

use sqlx::ConnectOptions;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_as_healthy_as_the_service_is_ready() {
    let folder = fresh_folder("health");
    let port = free_port().to_string();
    let database = shared().await.fresh_database().await;
    let proxy = Proxy::in_front_of(&database).await;
    let url = proxy.database.to_url_lossy().to_string();
    for host in ["127.0.0.1", "0.0.0.0", "::"] {
        let variables = [
            ("HOST", host),
            ("PORT", &*port),
            ("AUTH_TOKENS", "alpha"),
            ("DATABASE_URL", &*url),
            ("ANSWER_TIMEOUT_SECS", "2"),
        ];
        let nobody = run(&folder, &["health"], &variables).await;
        assert_eq!(nobody.status.code(), Some(1), "{nobody:?}");
        assert!(error_line(&nobody).starts_with("plimsoll: cannot connect to "), "{nobody:?}");

        let mut service = serve(&folder, &variables).await;
        let ready = run(&folder, &["health"], &variables).await;
        assert_eq!(ready.status.code(), Some(0), "{ready:?}");
        assert!(ready.stderr.is_empty() && ready.stdout.is_empty(), "{ready:?}");

        proxy.lose_answers(true);
        // The service reuses its last result for a moment.
        until("it is not ready", async || {
            let unready = run(&folder, &["health"], &variables).await;
            let answer = " is not ready: it answers 503 Service Unavailable";
            unready.status.code() == Some(1) && error_line(&unready).ends_with(answer)
        })
        .await;
        proxy.lose_answers(false);
        service.kill().await.unwrap();
    }
}

#[tokio::test]
async fn a_service_that_does_not_answer_is_not_healthy() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let began = tokio::time::Instant::now();
    let output = run(&fresh_folder("mute"), &["health"], &[("PORT", &port)]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(error_line(&output).ends_with("did not answer within 4s"), "{output:?}");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}
