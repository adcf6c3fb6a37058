//! A connection to a server by its URL or its name: TCP, and TLS by rustls where that is asked for.
//!
//! Names are resolved once a connection, and the addresses found are what is connected to: nothing can change between the
//! check of an address and its use.

use std::{
    fs::File,
    io::{self, Read},
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
};

use http::Uri;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
};
use tokio_rustls::TlsConnector;

use crate::private::Private;

/// The longest file of authorities, in bytes.
const MAX_AUTHORITIES: u64 = 4 << 20;

/// What TLS to a server is made with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trust<'t> {
    /// The authorities that the server's certificate may be from; PEM.
    pub(crate) authorities: &'t Path,
    /// The own certificate with those between it and its authority, and its key, for servers that ask for one; PEM.
    pub(crate) own: Option<(&'t Path, &'t Path)>,
}

/// Bytes both ways, plain or encrypted.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The name has no address, or nothing answers there.
    #[error("no connection: {0}")]
    Tcp(#[from] io::Error),
    /// The server can't be trusted, or the authorities can't be read.
    #[error("no TLS: {0}")]
    Tls(String),
    /// The name has only addresses that nobody here may connect to.
    #[error("{0}, and allow_private does not name it")]
    Forbidden(Box<Private>),
}

/// Connects to the host of an http or https URL, or a ws or wss one. A server that is spoken to by TLS is held to its name
/// and to `authorities`, a file of PEM.
pub async fn connect(url: &Uri, authorities: &Path) -> Result<Box<dyn Stream>, ConnectError> {
    connect_if(url, authorities, |_| Ok(())).await
}

/// [`connect`], to the first address of the host that `may` lets through.
pub async fn connect_if(
    url: &Uri,
    authorities: &Path,
    may: impl Fn(IpAddr) -> Result<(), Private>,
) -> Result<Box<dyn Stream>, ConnectError> {
    let https = matches!(url.scheme_str(), Some("https" | "wss"));
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = url.port_u16().unwrap_or(if https { 443 } else { 80 });
    connect_to(&host, port, https.then_some(Trust { authorities, own: None }), may).await
}

/// Connects to the first address of the host that `may` lets through; with `trust` by TLS.
pub(crate) async fn connect_to(
    host: &str,
    port: u16,
    trust: Option<Trust<'_>>,
    may: impl Fn(IpAddr) -> Result<(), Private>,
) -> Result<Box<dyn Stream>, ConnectError> {
    let stream = tcp(host, port, may).await?;
    let Some(trust) = trust else { return Ok(Box::new(stream)) };
    let name = ServerName::try_from(host.to_owned()).map_err(tls)?;
    let stream = connector(trust).await?.connect(name, stream).await.map_err(tls)?;
    Ok(Box::new(stream))
}

async fn tcp(host: &str, port: u16, may: impl Fn(IpAddr) -> Result<(), Private>) -> Result<TcpStream, ConnectError> {
    first_of(lookup_host((host, port)).await?, may).await
}

/// That one of the addresses may not be connected to says nothing of a server that is down at another one: the failure of an
/// address that was tried counts for more.
async fn first_of(
    addresses: impl Iterator<Item = SocketAddr>,
    may: impl Fn(IpAddr) -> Result<(), Private>,
) -> Result<TcpStream, ConnectError> {
    let (mut failed, mut forbidden) = (None, None);
    for address in addresses {
        match may(address.ip()) {
            Err(private) => forbidden = Some(ConnectError::Forbidden(Box::new(private))),
            Ok(()) => match TcpStream::connect(address).await {
                Ok(stream) => {
                    // a request is written at once, and waited for
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Err(error) => failed = Some(ConnectError::Tcp(error)),
            },
        }
    }
    let no_address = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    Err(failed.or(forbidden).unwrap_or_else(|| ConnectError::Tcp(no_address())))
}

/// Reads a file each time: they change, and connections are few.
async fn read(path: &Path) -> Result<Vec<u8>, ConnectError> {
    let owned = path.to_owned();
    let read = tokio::task::spawn_blocking(move || -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        File::open(owned)?.take(MAX_AUTHORITIES).read_to_end(&mut text)?;
        Ok(text)
    });
    let unreadable = |error: io::Error| ConnectError::Tls(format!("{}: {error}", path.display()));
    read.await.map_err(io::Error::other)?.map_err(unreadable)
}

async fn connector(Trust { authorities, own }: Trust<'_>) -> Result<TlsConnector, ConnectError> {
    let text = read(authorities).await?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&text).flatten());
    if roots.is_empty() {
        return Err(ConnectError::Tls(format!("{}: holds no certificate", authorities.display())));
    }
    let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(tls)?
        .with_root_certificates(roots);
    let client = match own {
        None => client.with_no_client_auth(),
        Some((certificate, key)) => {
            let named = |path: &Path, error: String| ConnectError::Tls(format!("{}: {error}", path.display()));
            let chain = read(certificate).await?;
            let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&chain).collect();
            let chain = chain.map_err(|error| named(certificate, error.to_string()))?;
            let secret = PrivateKeyDer::from_pem_slice(&read(key).await?);
            let secret = secret.map_err(|error| named(key, error.to_string()))?;
            client.with_client_auth_cert(chain, secret).map_err(|error| named(certificate, error.to_string()))?
        }
    };
    Ok(TlsConnector::from(Arc::new(client)))
}

fn tls(error: impl ToString) -> ConnectError {
    ConnectError::Tls(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::{fs, net::TcpListener};

    use rustls::{ServerConfig, server::WebPkiClientVerifier};
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::tls::testing::Authority;

    /// A server that asks for a certificate of the authority, which its own is from.
    fn acceptor(authority: &Authority) -> TlsAcceptor {
        let (provider, own) = (Arc::new(ring::default_provider()), authority.server(9));
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.certificate().as_bytes()).unwrap()).unwrap();
        let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone()).build().unwrap();
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients);
        let chain = vec![CertificateDer::from_pem_slice(own.certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
        TlsAcceptor::from(Arc::new(server.with_single_cert(chain, key).unwrap()))
    }

    #[tokio::test]
    async fn files_that_change_are_read_with_the_next_connection() {
        let (authority, folder) = (Authority::new("a"), tempfile::tempdir().unwrap());
        let [own, key, roots] = ["own.pem", "own.key", "authority.pem"].map(|name| folder.path().join(name));
        let (first, second) = (authority.client("one", 1, false), authority.client("two", 2, false));
        let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec();
        let acceptor = acceptor(&authority);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        // whom the server sees, or why there is no connection
        let meets = async || {
            let accepted = async {
                let (stream, _) = listener.accept().await.unwrap();
                let stream = acceptor.accept(stream).await.ok()?;
                stream.get_ref().1.peer_certificates().map(|chain| chain[0].to_vec())
            };
            let trust = Trust { authorities: &roots, own: Some((&own, &key)) };
            let (connected, seen) = tokio::join!(connect_to("127.0.0.1", port, Some(trust), |_| Ok(())), accepted);
            connected.map(|_| seen).map_err(|error| error.to_string())
        };
        first.write(folder.path(), "own");
        fs::write(&roots, Authority::new("b").certificate()).unwrap();
        assert!(meets().await.unwrap_err().starts_with("no TLS"), "the server is of another authority");
        fs::write(&roots, authority.certificate()).unwrap();
        assert_eq!(meets().await, Ok(Some(der(&first.certificate))));
        second.write(folder.path(), "own");
        assert_eq!(meets().await, Ok(Some(der(&second.certificate))));
        fs::remove_file(&key).unwrap();
        assert!(meets().await.unwrap_err().contains("own.key"));
    }

    #[tokio::test]
    async fn a_server_that_is_down_is_not_forbidden_because_it_has_an_address_that_is() {
        // a port that nobody listens on
        let down = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let private: SocketAddr = "127.0.0.2:1".parse().unwrap();
        let may = |ip: IpAddr| if ip == private.ip() { crate::private::check(ip, &[]) } else { Ok(()) };
        for addresses in [[down, private], [private, down]] {
            let error = first_of(addresses.into_iter(), may).await.unwrap_err();
            assert!(matches!(error, ConnectError::Tcp(_)), "{addresses:?}: {error}");
        }
        let error = first_of([private].into_iter(), may).await.unwrap_err();
        assert!(matches!(error, ConnectError::Forbidden(_)), "{error}");
    }
}
