//! The data of an envelope: bytes, and the one parsed tree of them where somebody needed it.

use std::{fmt, sync::Arc};

use bytes::Bytes;

use crate::json::{Json, JsonError};

/// What an envelope carries. Cloning is cheap; the bytes are never copied. `Debug` shows how many, and none of them.
#[derive(Clone)]
pub enum Data {
    /// Bytes that nobody had to look into.
    Opaque(Bytes),
    /// JSON that was parsed once; whoever reads it reads this tree.
    Json(Arc<Json>),
}

// === impl Data ===

impl Data {
    /// The bytes as they are stored and sent.
    pub fn bytes(&self) -> Bytes {
        match self {
            Self::Opaque(bytes) => bytes.clone(),
            Self::Json(json) => json.bytes(),
        }
    }

    /// The bytes as they are stored and sent.
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::Opaque(bytes) => bytes,
            Self::Json(json) => json.as_str().as_bytes(),
        }
    }

    /// The tree; parses the bytes if nobody did before.
    pub fn json(&self) -> Result<Arc<Json>, JsonError> {
        match self {
            Self::Opaque(bytes) => Json::parse(bytes.clone()).map(Arc::new),
            Self::Json(json) => Ok(json.clone()),
        }
    }
}

impl PartialEq for Data {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Data({} bytes)", self.as_slice().len())
    }
}
