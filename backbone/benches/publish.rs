//! Placeholder until the writer exists.

fn main() {}
