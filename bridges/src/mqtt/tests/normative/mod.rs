//! The normative statements of MQTT 5.0 (and by them of 3.1.1) that are about a server and are not tested elsewhere, by
//! their numbers, over raw bytes.

mod connecting;
mod delivering;
mod publishing;
mod statements;
mod subscribing;
