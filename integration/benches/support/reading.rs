//! What is published.

/// A message of 320 bytes.
pub(crate) const READING: &str = r#"{"f":71.96,"unit":"F","sensor":{"serial":"TX-4411-09","firmware":"2.14.0","position":[12.5,3.25,0.8]},"status":"ok","battery":0.93,"sequence":184467,"at":"2026-11-23T09:30:00.125Z","tags":["press","hall-3","calibrated"],"operator":"shift-b","note":"door open during the measurement, repeated"}"#;
