//! Whole stacks over a store and a mapper that do what a test tells them.

mod answers;
mod audit;
mod egress;
mod order;
mod permits;
mod stack;
pub(crate) mod world;
