//! The list of holds and the charts are read again and again: what fails is made up for.

use crate::browser::Stage;
use crate::console::{hold, looked_up, until_holds};
use crate::service::TestService;

#[tokio::test]
async fn a_refresh_that_fails_is_repeated_and_its_message_goes_with_it() {
    let service = TestService::start().await;
    let user = service.user_with(100).await;
    let tab = looked_up(&service, user).await;
    tab.stop_requests(&["*/holds?*"], Stage::Sent).await;
    hold(&service, user, 30).await;
    tab.answer(tab.stopped("/holds").await, 503).await;
    tab.until_text("#notice", "The service answered 503").await;
    tab.let_requests_go().await;
    until_holds(&tab, 1).await;
    tab.until("the message is gone", "document.querySelector('#notice').hidden").await;

    // What comes while a refresh is on its way is seen by the next one.
    tab.stop_requests(&["*/holds?*"], Stage::Answered).await;
    hold(&service, user, 20).await;
    let answered = tab.stopped("/holds").await;
    hold(&service, user, 10).await;
    tab.until_text("#held", "60").await;
    tab.let_go(answered).await;
    until_holds(&tab, 2).await;
    tab.let_requests_go().await;
    until_holds(&tab, 3).await;
    tab.close(&[503]).await;
    service.stop().await;
}
