//! What the gateway is called by its brokers: as the config says, or by a name of its own that it keeps.

use std::{sync::Arc, time::Duration};

use envelope::{KeyValue, KeyWrite, RejectKind, Rejection};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::MqttClientConfig;

/// Where its own name is kept.
const KEY: &str = "client/id";
/// Between two attempts while the store is away.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// The client identifier of the connection in this direction, `in` or `out`: two clients of one name would drive each other
/// out. Waits for a store that is away; `None`: until `stop`.
pub(super) async fn client_id(
    config: &MqttClientConfig,
    keys: &Arc<dyn KeyValue>,
    direction: &str,
    stop: &CancellationToken,
) -> Option<Arc<str>> {
    if let Some(own) = &config.client_id {
        return Some(format!("{own}-{direction}").into());
    }
    loop {
        match kept(keys).await {
            Ok(own) => return Some(format!("{own}-{direction}").into()),
            Err(error) => {
                tracing::warn!(%error, "the client identifier can't be read now");
                stop.run_until_cancelled(sleep(AGAIN_AFTER)).await?;
            }
        }
    }
}

async fn kept(keys: &Arc<dyn KeyValue>) -> Result<String, Rejection> {
    if let Some(entry) = keys.get(KEY).await? {
        return Ok(String::from_utf8_lossy(&entry.value).into_owned());
    }
    // with its suffix no longer than the 23 bytes that every broker of MQTT 3.1.1 takes
    let own = format!("om{}", &Uuid::now_v7().simple().to_string()[16..]);
    match keys.write(vec![KeyWrite::create(KEY, own.clone())]).await {
        Ok(_) => Ok(own),
        // the other direction was first
        Err(error) if error.kind == RejectKind::Conflict => Box::pin(kept(keys)).await,
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{conformance::FakeKeys, mqtt::Server};

    #[tokio::test]
    async fn a_name_is_made_once_and_kept_and_both_directions_have_it() {
        let keys: Arc<dyn KeyValue> = Arc::new(FakeKeys::default());
        let mut config = MqttClientConfig::new(Server::parse("mqtt://localhost").unwrap());
        let stop = CancellationToken::new();
        let [one, two] = [client_id(&config, &keys, "in", &stop).await, client_id(&config, &keys, "out", &stop).await];
        let (one, two) = (one.unwrap(), two.unwrap());
        assert_eq!((one.strip_suffix("-in"), one.len() <= 23), (two.strip_suffix("-out"), true));
        config.client_id = Some("plant-a".to_owned());
        assert_eq!(client_id(&config, &keys, "in", &stop).await.as_deref(), Some("plant-a-in"));
    }
}
