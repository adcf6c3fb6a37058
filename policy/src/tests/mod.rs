//! Tests of whole stacks.
