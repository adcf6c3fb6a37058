//! Strict YAML with positions.
