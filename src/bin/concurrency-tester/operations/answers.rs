//! The record of a burst: what each request was told about each operation.

use super::traffic::{Ask, Traffic};
use crate::contract::answer::{read, read_each};
use crate::reply::Reply;
use crate::witness::record::{Attempt, Record, Window};

/// The record of a burst, from its replies and their windows in order of requests. Requests are numbered
/// from 1, as in the log.
pub(crate) fn record(traffic: &Traffic, replies: &[Reply], windows: &[Window]) -> Record {
    let mut attempts = Vec::with_capacity(replies.len());
    for (number, (ask, reply)) in traffic.asks.iter().zip(replies).enumerate() {
        let (request, window) = (number + 1, windows[number]);
        match ask {
            Ask::One(operation) => {
                let said = read(&traffic.operations[*operation], reply);
                let text = reply.to_string().into();
                let operation = *operation;
                attempts.push(Attempt {
                    operation,
                    target: 0,
                    request,
                    position: 0,
                    window,
                    said,
                    text,
                });
            }
            Ask::Each(operations) => {
                let items = operations.iter().zip(read_each(operations.len(), reply));
                attempts.extend(items.enumerate().map(|(position, (operation, (said, text)))| {
                    let (operation, text) = (*operation, text.into());
                    Attempt { operation, target: 0, request, position, window, said, text }
                }));
            }
        }
    }
    Record { operations: traffic.operations.clone(), attempts, reads: Vec::new() }
}
