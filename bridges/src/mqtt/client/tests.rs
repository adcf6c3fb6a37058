//! The bridge against a broker of the test's own.
