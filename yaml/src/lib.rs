//! Strict YAML with positions: what mapping files, `policy.yaml` and `gateway.yaml` are read with.
//!
//! A [`File`] is a tree of [`Node`]s that know where they stand. Readers are written by hand over [`Fields`] and the
//! typed readers of [`Node`]; whatever is wrong goes into [`Problems`], so that one run shows every error of a file
//! with line, column and a caret.
//!
//! ```
//! # fn main() -> Result<(), yaml::Diagnostics> {
//! let file = yaml::File::parse("policy.yaml", "anonymous: true\n")?;
//! let anonymous = file.read(|root, problems| {
//!     let mut fields = yaml::Fields::of(root, problems)?;
//!     let anonymous = fields.required("anonymous").and_then(|node| node.bool(problems));
//!     fields.finish();
//!     anonymous
//! })?;
//! assert!(anonymous);
//! # Ok(())
//! # }
//! ```
//!
//! Less than YAML, on purpose: one document, no anchors, aliases, tags, merge keys or directives, no duplicate keys,
//! string keys only, numbers as JSON writes them. It does no I/O: who calls it reads the files.

mod diagnostic;
mod fields;
mod node;
mod parse;
mod problems;
mod read;
mod scalar;
mod secret;
mod source;
mod suggest;

pub use diagnostic::{Diagnostic, Diagnostics};
pub use fields::Fields;
pub use node::{Key, Kind, Node, Span, Style, Text};
pub use parse::{File, MAX_BYTES, MAX_DEPTH, MAX_NODES};
pub use problems::{MAX_PROBLEMS, Problems};
pub use secret::{Resolve, Secret};
pub use source::Source;
pub use suggest::nearest;

#[cfg(test)]
mod tests;
