//! The certificate that a client proved to own, for as long as the files of the listener stand by it.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use envelope::{RejectKind, Rejection};
use rustls::pki_types::{CertificateDer, UnixTime};

use super::Tls;

/// What a client showed at the handshake. Cheap to clone.
#[derive(Clone)]
pub struct ClientCertificate {
    der: Bytes,
    /// Those between it and an authority.
    between: Arc<[CertificateDer<'static>]>,
    tls: Tls,
}

const DECIDED_BY: &str = "tls";
/// A certificate, or one above it, may end without a file changing.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

// === impl ClientCertificate ===

impl ClientCertificate {
    /// Of a chain that the handshake has verified, its own certificate first.
    pub(super) fn of(tls: &Tls, chain: &[CertificateDer<'static>]) -> Option<Self> {
        let (own, between) = chain.split_first()?;
        Some(Self { der: Bytes::copy_from_slice(own), between: between.into(), tls: tls.clone() })
    }

    /// In DER.
    pub fn der(&self) -> &Bytes {
        &self.der
    }

    /// Refuses, if the files in force now would not let it in.
    pub fn stands(&self) -> Result<(), Rejection> {
        let files = self.tls.files();
        // a listener asks for certificates by its configuration, which needs a restart to change
        let Some(clients) = &files.clients else { return Ok(()) };
        let own = CertificateDer::from(&self.der[..]);
        let verified = clients.verify_client_cert(&own, &self.between, UnixTime::now());
        verified.map(|_| ()).map_err(|error| {
            let detail = "the client certificate was revoked, or has ended";
            Rejection::new(RejectKind::Unauthenticated, DECIDED_BY, detail).because(error)
        })
    }

    /// Ends with the reason once it is let in no more. The connection is then to be closed.
    pub async fn ended(&self) -> Rejection {
        let mut changes = self.tls.changes();
        loop {
            if let Err(why) = self.stands() {
                return why;
            }
            // a timeout is one of the two reasons to look again
            _ = tokio::time::timeout(LOOK_AGAIN, changes.changed()).await;
        }
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate").field("bytes", &self.der.len()).finish_non_exhaustive()
    }
}
