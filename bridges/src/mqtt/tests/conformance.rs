//! The suite that every bridge passes, in both versions and at both QoS that are answered.

use std::{net::SocketAddr, time::Duration};

use futures_util::future::BoxFuture;

use super::client::{Client, Hello, config, publish};
use crate::conformance::{Heard, Peer, run};

struct Publisher {
    level: u8,
    flags: u8,
}

impl Peer for Publisher {
    fn publish(&self, bridge: SocketAddr, text: &'static str) -> BoxFuture<'static, Heard> {
        let (level, flags) = (self.level, self.flags);
        Box::pin(async move {
            let mut client = Client::connect(bridge, &Hello { level, ..Hello::five("") }).await;
            let properties: &[u8] = if level == 5 { &[0] } else { &[] };
            client.send(&publish(flags, "telemetry/7", 1, properties, text)).await;
            match client.next().await {
                Some(packet) if matches!(packet.first, 0x40 | 0x50) && packet.reason() < 0x80 => Heard::Taken,
                Some(packet) if matches!(packet.first, 0x40 | 0x50) => Heard::Refused,
                Some(_) | None => Heard::GivenBack,
            }
        })
    }

    /// MQTT 3.1.1 has no other word than the acknowledgement.
    fn hears_of_a_refusal(&self) -> Heard {
        if self.level == 5 { Heard::Refused } else { Heard::Taken }
    }
}

#[tokio::test]
async fn every_version_passes_the_suite_at_qos_1_and_2() {
    let mut config = config();
    config.retry_for = Duration::from_millis(100);
    for (level, flags) in [(4, 0x02), (4, 0x04), (5, 0x02), (5, 0x04)] {
        run(&config, &Publisher { level, flags }).await;
    }
}
