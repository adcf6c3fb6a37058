//! The bridge over real sockets, against a fake stack.

mod batches;
mod client;
mod codings;
mod conformance;
mod connections;
mod events;
mod frames;
mod hostile;
mod http2;
mod keys;
mod lane;
mod last;
mod limits;
mod listed;
mod requests;
mod subscriptions;
mod words;
