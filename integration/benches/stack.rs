//! The ingress stack without disk.
fn main() {}
