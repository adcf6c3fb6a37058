mod client;
mod conformance;
mod hostile;
mod publishing;
mod sessions;
mod subscribing;
mod tls;
mod wills;
