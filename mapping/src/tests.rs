//! The crate as others use it: files in, messages through.
