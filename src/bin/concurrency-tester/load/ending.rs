//! The end of a load: reads the histories.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::shared::Shared;
use crate::contract::api::Api;
use crate::contract::books::{Books, State};

/// Between one attempt to read everything and the next.
const PAUSE: Duration = Duration::from_millis(200);

/// Reads all users from their beginning, through any instance that shows them.
///
/// # Errors
/// Why no instance did until the time was up.
pub(super) async fn read_books(shared: &Shared, patience: Duration) -> Result<Books, String> {
    let nothing = State { balance: 0, held: 0, version: 0 };
    let users = shared.cast.users.iter().chain([&shared.cast.merchant]);
    let before: BTreeMap<_, _> = users.map(|user| (*user, nothing)).collect();
    let give_up = Instant::now() + patience;
    let mut why = "there was no time".to_owned();
    for instance in shared.instances.iter().cycle() {
        let left = give_up.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        let mut api = Api::new(instance, shared.answer_limit);
        match timeout_at(give_up, Books::read(&mut api, &before, left)).await {
            Ok(Ok(books)) => return Ok(books),
            Ok(Err(error)) => why = format!("{}: {error}", instance.target()),
            Err(_) => break,
        }
        sleep(PAUSE).await;
    }
    Err(why)
}
