//! The bridge over real sockets, against a fake stack.

mod client;
mod limits;
mod requests;
mod conformance;


