//! The connections of listeners: accepted within limits, plain or TLS, cut when their peer reads nothing or is gone
//! without a word.

mod cuts;
mod slots;
mod socket;
mod stream;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::net::{TcpListener, TcpStream};

pub(crate) use cuts::{Cut, Cuts};
pub(crate) use slots::{Slots, share_of};
pub(crate) use socket::Socket;
pub(crate) use stream::Stream;

/// After a failed accept, most often for want of file descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// The next connection once there is a slot for it: at the limit, peers wait in the kernel's queue. One whose address has
/// its share is closed at once. `None`: the slots are closed.
pub(crate) async fn accept(listener: &TcpListener, slots: &Slots, cuts: &Arc<Cuts>) -> Option<(Socket, SocketAddr)> {
    let mut place = slots.wait().await?;
    loop {
        let accepted = listener.accept().await.and_then(|(stream, peer)| Ok((no_delay(stream, cuts)?, peer)));
        match accepted {
            Ok((stream, peer)) => match slots.take(place, peer) {
                Ok(slot) => return Some((Socket::new(stream, peer, cuts.clone(), slot), peer)),
                Err(back) => place = back,
            },
            Err(error) => {
                tracing::warn!(%error, listen = ?listener.local_addr().ok(), "connection not accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

fn no_delay(stream: TcpStream, cuts: &Cuts) -> std::io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    cuts.watch(&stream)?;
    Ok(stream)
}
