//! Mode `all`: every change is applied, or none is.

use axum::body::Body;
use axum::http::{Response, StatusCode};
use serde_json::value::RawValue;

use super::frame::Head;
use super::items;
use crate::http::app::App;
use crate::http::decided::decided;
use crate::http::error::{HttpError, OfUser};
use crate::http::wire::{AllDone, AppliedOfAll, KEY_OF_ALL};
use crate::ledger::{AllOrNone, Change, Operation, OperationDecision, Part};

pub(super) fn parse(head: Head, changes: Vec<&RawValue>) -> Result<AllOrNone, HttpError> {
    let key = head.key?;
    let changes = changes.into_iter().enumerate().map(|(position, text)| {
        parse_one(text)
            .map_err(|error| HttpError::bad_request(format!("{}: {error}", Part::Change(position))))
    });
    Ok(AllOrNone { changes: changes.collect::<Result<_, _>>()?, key })
}

fn parse_one(text: &RawValue) -> Result<Change, HttpError> {
    let change = items::change(text.get())?;
    match change.key {
        None => Ok(change),
        Some(_) => Err(HttpError::bad_request(KEY_OF_ALL)),
    }
}

pub(super) async fn apply(app: &App, all: AllOrNone) -> Result<Response<Body>, HttpError> {
    let all = Operation::AllOrNone(all);
    let owner = all.owner();
    let outcome = app.operations.apply(all).await.of_user(owner)?;
    decided(StatusCode::OK, outcome, |decision| match decision {
        OperationDecision::AllApplied(balances) => {
            let results = balances.iter().map(|balance| AppliedOfAll { balance: *balance });
            Some(AllDone { results: results.collect() })
        }
        _ => None,
    })
}
