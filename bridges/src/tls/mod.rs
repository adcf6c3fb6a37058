//! TLS of listeners: what the user writes of it, and the handshake.
//!
//! By rustls with ring: TLS 1.2 and 1.3, and no choice of ciphers to get wrong. The files are read when the
//! configuration is, so that `openmesh check` finds what is wrong with them, and again whenever they change: see
//! `reload`. Who the owner of a client certificate is, is for policy to say.

mod client;
mod material;
mod reload;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use yaml::{Fields, Node, Problems};

pub use client::ClientCertificate;
pub use material::TlsError;
pub use reload::Tls;

/// The certificate of a listener, and whose certificates it asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// The chain, the listener's own certificate first; PEM.
    pub certificate: PathBuf,
    /// The private key; PEM.
    pub key: PathBuf,
    /// Whose clients may prove who they are by certificate. `None`: none is asked for one.
    pub clients: Option<ClientsConfig>,
}

/// Which client certificates a listener takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientsConfig {
    /// The authorities that sign them; PEM.
    pub authorities: PathBuf,
    /// The revocation lists of those authorities; PEM. A certificate whose issuer has none here is refused then.
    pub revoked: Option<PathBuf>,
    /// Whether a client without one is let in, to prove who it is in another way.
    pub optional: bool,
}

// === impl TlsConfig ===

impl TlsConfig {
    /// Reads `{ certificate, key, clients: { authorities, revoked, optional } }`; paths are relative to `folder`. What is
    /// wrong with the section or its files goes to `problems`.
    pub fn read(node: &Node, folder: &Path, problems: &Problems) -> Option<Self> {
        let mut fields = Fields::of(node, problems)?;
        let certificate = fields.required("certificate").and_then(|node| path(node, folder, problems));
        let key = fields.required("key").and_then(|node| path(node, folder, problems));
        let clients = match fields.optional("clients") {
            Some(node) => ClientsConfig::read(node, folder, problems).map(Some),
            None => Some(None),
        };
        fields.finish();
        let config = Self { certificate: certificate?, key: key?, clients: clients? };
        match material::server(&config, &[]) {
            Ok(_) => Some(config),
            Err(error) => {
                problems.report(node.span, "bad-tls", error.to_string());
                None
            }
        }
    }

    /// All files.
    fn files(&self) -> impl Iterator<Item = &Path> {
        let clients = self
            .clients
            .iter()
            .flat_map(|clients| std::iter::once(clients.authorities.as_path()).chain(clients.revoked.as_deref()));
        [self.certificate.as_path(), self.key.as_path()].into_iter().chain(clients)
    }
}

// === impl ClientsConfig ===

impl ClientsConfig {
    fn read(node: &Node, folder: &Path, problems: &Problems) -> Option<Self> {
        let mut fields = Fields::of(node, problems)?;
        let authorities = fields.required("authorities").and_then(|node| path(node, folder, problems));
        let revoked = match fields.optional("revoked") {
            Some(node) => path(node, folder, problems).map(Some),
            None => Some(None),
        };
        let optional = match fields.optional("optional") {
            Some(node) => node.bool(problems),
            None => Some(false),
        };
        fields.finish();
        Some(Self { authorities: authorities?, revoked: revoked?, optional: optional? })
    }
}

fn path(node: &Node, folder: &Path, problems: &Problems) -> Option<PathBuf> {
    node.non_empty(problems).map(|path| folder.join(path))
}
