//! Reads certificates, keys and revocation lists, and makes of them what a handshake needs.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem, pem::PemObject},
    server::{VerifierBuilderError, WebPkiClientVerifier, danger::ClientCertVerifier},
};

use super::{ClientsConfig, TlsConfig};

/// Why there can be no TLS by these files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file is not there, not readable or too long.
    #[error("{}: can't be read: {error}", .path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file is not what it should be.
    #[error("{}: holds no {what}: {error}", .path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// What should be in it.
        what: &'static str,
        /// What is wrong.
        error: pem::Error,
    },
    /// The certificate is none, or the key is not its key.
    #[error("{} with {}: {error}", .certificate.display(), .key.display())]
    Pair {
        /// The chain.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
        /// What is wrong.
        error: Box<rustls::Error>,
    },
    /// An authority's certificate is none.
    #[error("{}: {error}", .path.display())]
    Authority {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        error: Box<rustls::Error>,
    },
    /// The authorities and their revocation lists do not go together.
    #[error("{}: {error}", .path.display())]
    Clients {
        /// The authorities.
        path: PathBuf,
        /// What is wrong.
        error: VerifierBuilderError,
    },
    /// The library has no protocol version that this needs.
    #[error("TLS is not available: {0}")]
    Unavailable(rustls::Error),
}

/// The longest file, in bytes: revocation lists can be long.
const MAX_BYTES: u64 = 16 << 20;

/// What the files of a listener make.
#[derive(Debug)]
pub(super) struct Material {
    /// What handshakes are made with.
    pub(super) server: Arc<ServerConfig>,
    /// What client certificates are verified with, where they are asked for.
    pub(super) clients: Option<Arc<dyn ClientCertVerifier>>,
}

/// Reads the files, for a listener that speaks `protocols`: see [`Tls::load`](super::Tls::load).
pub(super) fn server(config: &TlsConfig, protocols: &[&str]) -> Result<Material, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let chain = certificates(&config.certificate)?;
    let key = key(&config.key)?;
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(TlsError::Unavailable)?;
    let clients = config.clients.as_ref().map(|clients| verifier(clients, provider)).transpose()?;
    let builder = match &clients {
        Some(clients) => builder.with_client_cert_verifier(clients.clone()),
        None => builder.with_no_client_auth(),
    };
    let pair = |error| TlsError::Pair {
        certificate: config.certificate.clone(),
        key: config.key.clone(),
        error: Box::new(error),
    };
    let mut server = builder.with_single_cert(chain, key).map_err(pair)?;
    server.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(Material { server: Arc::new(server), clients })
}

fn verifier(clients: &ClientsConfig, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(&clients.authorities)? {
        let bad = |error| TlsError::Authority { path: clients.authorities.clone(), error: Box::new(error) };
        roots.add(authority).map_err(bad)?;
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    if let Some(revoked) = &clients.revoked {
        builder = builder.with_crls(all::<CertificateRevocationListDer<'_>>(revoked, "revocation list")?);
    }
    if clients.optional {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map_err(|error| TlsError::Clients { path: clients.authorities.clone(), error })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    all(path, "certificate")
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = read(path)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| bad(path, "private key", error))
}

/// At least one.
fn all<T: PemObject>(path: &Path, what: &'static str) -> Result<Vec<T>, TlsError> {
    let text = read(path)?;
    let found: Vec<T> = T::pem_slice_iter(&text).collect::<Result<_, _>>().map_err(|error| bad(path, what, error))?;
    if found.is_empty() { Err(bad(path, what, pem::Error::NoItemsFound)) } else { Ok(found) }
}

fn bad(path: &Path, what: &'static str, error: pem::Error) -> TlsError {
    TlsError::Pem { path: path.to_owned(), what, error }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes));
    let error = match read {
        Ok(_) if bytes.len() as u64 <= MAX_BYTES => return Ok(bytes),
        Ok(_) => io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {MAX_BYTES} bytes")),
        Err(error) => error,
    };
    Err(TlsError::Unreadable { path: path.to_owned(), error })
}
