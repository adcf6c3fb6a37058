//! The bridge over real sockets, against a fake stack.
