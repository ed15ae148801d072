//! `POST /transfers`: money from one user to another.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};

use super::app::App;
use super::body::{members, payment, read_json, reference, user_id, whole_number};
use super::decided::decided;
use super::error::{HttpError, OfUser};
use super::key;
use super::openapi::{parameters, responses, schemas};
use super::wire::{SAME_USER, Side, TRANSFER_REQUIRED, TransferDone};
use crate::ledger::{Operation, OperationDecision, Position, Transfer, UserId};

/// Moves money from one user to another.
#[utoipa::path(
    post, path = "/transfers",
    operation_id = "transfer", tag = "Transfers",
    params(parameters::IdempotencyKey),
    request_body = schemas::NewTransfer, responses(responses::OfTransfer)
)]
pub async fn create(State(app): State<App>, request: Request) -> Result<Response<Body>, HttpError> {
    let key = key::read(request.headers())?;
    let body = read_json(request, app.body_limit).await?;
    let [from, to, amount, text] = members(&body, ["from", "to", "amount", "reference"])?;
    let (Some(from), Some(to), Some(amount)) = (from, to, amount) else {
        return Err(HttpError::bad_request(TRANSFER_REQUIRED));
    };
    let from = user_id("from", whole_number("from", from, 1)?)?;
    let to = user_id("to", whole_number("to", to, 1)?)?;
    let amount = payment("amount", amount)?;
    let reference = text.map(reference).transpose()?;
    if from == to {
        return Err(HttpError::bad_request(SAME_USER));
    }
    let transfer = Transfer { from, to, amount, key, reference };
    let outcome = app.operations.apply(Operation::Transfer(transfer)).await.of_user(from)?;
    decided(StatusCode::CREATED, outcome, |decision| match decision {
        OperationDecision::Transferred { from: payer, to: payee } => {
            Some(TransferDone { from: side(from, *payer), to: side(to, *payee) })
        }
        _ => None,
    })
}

fn side(user: UserId, Position { balance, version }: Position) -> Side {
    Side { id: user.get(), balance, version }
}
