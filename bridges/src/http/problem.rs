//! Rejections as RFC 9457 problem details: the one table from [`RejectKind`] to HTTP.
