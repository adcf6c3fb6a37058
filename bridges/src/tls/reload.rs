//! The TLS of a running listener: takes up other files when they change, without a restart.
//!
//! New connections get the new certificate; sessions of the old one can't be resumed, so that a certificate revoked
//! meanwhile is asked for again. Files that do not hold are not taken up: the old ones stay, and the log says so.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    os::unix::fs::MetadataExt,
    sync::Arc,
    time::Duration,
};

use arc_swap::{ArcSwap, Guard};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use super::{
    ClientCertificate, TlsConfig, TlsError,
    material::{self, Material},
};

/// The TLS of one listener. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Tls(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    config: TlsConfig,
    protocols: &'static [&'static str],
    /// What the files looked like before they were read at first.
    loaded: Seen,
    files: ArcSwap<Material>,
    /// Told whenever other files are in force.
    changes: watch::Sender<()>,
}

/// What the files looked like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen(u64);

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

// === impl Tls ===

impl Tls {
    /// Reads the files. Blocks for as long as that takes. The handshake agrees on one of `protocols` (ALPN, RFC 7301), the
    /// first that the client offers; with none of them, what a client offers is not looked at.
    pub fn load(config: TlsConfig, protocols: &'static [&'static str]) -> Result<Self, TlsError> {
        let loaded = Seen::of(&config);
        let files = ArcSwap::from_pointee(material::server(&config, protocols)?);
        Ok(Self(Arc::new(Shared { config, protocols, loaded, files, changes: watch::Sender::new(()) })))
    }

    /// The server's part of a handshake. One that takes longer than `within` fails.
    pub async fn accept<S>(&self, stream: S, within: Duration) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let acceptor = TlsAcceptor::from(self.0.files.load().server.clone());
        timeout(within, acceptor.accept(stream)).await.map_err(|_| {
            io::Error::new(io::ErrorKind::TimedOut, format!("the TLS handshake took longer than {within:?}"))
        })?
    }

    /// The certificate that the client of this connection has shown.
    pub fn client<S>(&self, stream: &TlsStream<S>) -> Option<ClientCertificate> {
        ClientCertificate::of(self, stream.get_ref().1.peer_certificates()?)
    }

    /// What is in force now.
    pub(super) fn files(&self) -> Guard<Arc<Material>> {
        self.0.files.load()
    }

    /// Changes whenever other files are in force.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.0.changes.subscribe()
    }

    /// Looks at the files until `stop`, and takes them up when they have changed and hold.
    pub async fn watch(self, listener: String, stop: CancellationToken) {
        let mut seen = self.0.loaded;
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let found = self.look().await;
            if found == seen {
                continue;
            }
            // Pairs are most often written one after the other: two looks that see the same see both.
            ticks.tick().await;
            if self.look().await == found {
                seen = found;
                self.reload(&listener).await;
            }
        }
    }

    /// Takes up what the files hold now, or says why not.
    async fn reload(&self, listener: &str) {
        let this = self.clone();
        let loaded = tokio::task::spawn_blocking(move || material::server(&this.0.config, this.0.protocols)).await;
        let refused = match loaded {
            Ok(Ok(files)) => {
                self.0.files.store(Arc::new(files));
                self.0.changes.send_replace(());
                tracing::info!(listener, "other TLS certificates are in force");
                None
            }
            Ok(Err(error)) => Some(error.to_string()),
            Err(panicked) => Some(panicked.to_string()),
        };
        metrics::gauge!("openmesh_tls_refused", "listener" => listener.to_owned())
            .set(f64::from(u8::from(refused.is_some())));
        if let Some(error) = refused {
            tracing::error!(listener, %error, "the TLS files do not hold, those in force stay");
        }
    }

    async fn look(&self) -> Seen {
        let this = self.clone();
        // a thread that panicked saw nothing new
        tokio::task::spawn_blocking(move || Seen::of(&this.0.config)).await.unwrap_or(self.0.loaded)
    }
}

// === impl Seen ===

impl Seen {
    fn of(config: &TlsConfig) -> Self {
        let mut hasher = DefaultHasher::new();
        for path in config.files() {
            let stamp = fs::metadata(path).map(|found| {
                (found.dev(), found.ino(), found.len(), found.mtime(), found.mtime_nsec(), found.ctime_nsec())
            });
            stamp.map_err(|error| error.kind()).hash(&mut hasher);
        }
        Self(hasher.finish())
    }
}
