//! The bridge over real sockets, against a fake stack.

mod client;
mod conformance;
mod lane;
mod limits;
mod requests;
mod subscriptions;
mod words;
