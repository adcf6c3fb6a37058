//! What every bridge has to pass.
