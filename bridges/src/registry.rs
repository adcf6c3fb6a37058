//! The kinds of bridges: one line a kind.

use std::path::Path;

use yaml::{Fields, Node, Problems, Resolve};

use crate::{
    BridgeConfig,
    http::HttpConfig,
    mqtt::{MqttClientConfig, MqttConfig},
    webhook::WebhookConfig,
    websocket_client::WebSocketClientConfig,
};

/// Reads the section of one kind; `None` if something is wrong, which is then in the problems.
type Read = fn(&Node, &Path, &Resolve<'_>, &Problems) -> Option<Box<dyn BridgeConfig>>;

/// The kinds and their readers, in alphabetical order.
const KINDS: &[(&str, Read)] = &[
    ("http", |node, folder, _, problems| Some(Box::new(HttpConfig::read(node, folder, problems)?))),
    ("mqtt", |node, folder, _, problems| Some(Box::new(MqttConfig::read(node, folder, problems)?))),
    ("mqtt_client", |node, folder, resolve, problems| {
        Some(Box::new(MqttClientConfig::read(node, folder, resolve, problems)?))
    }),
    ("webhook", |node, folder, resolve, problems| {
        Some(Box::new(WebhookConfig::read(node, folder, resolve, problems)?))
    }),
    ("websocket_client", |node, folder, resolve, problems| {
        Some(Box::new(WebSocketClientConfig::read(node, folder, resolve, problems)?))
    }),
];

/// Reads a bridge: a map with one key, the kind, such as `{ http: { listen: 127.0.0.1:8080 } }`. Paths in it are relative
/// to `folder`; `resolve` is where secrets come from.
pub fn read(node: &Node, folder: &Path, resolve: &Resolve<'_>, problems: &Problems) -> Option<Box<dyn BridgeConfig>> {
    let mut fields = Fields::of(node, problems)?;
    let found: Vec<_> = KINDS.iter().filter_map(|(kind, read)| Some((fields.optional(kind)?, read))).collect();
    let unknown = problems.len();
    fields.finish();
    match found[..] {
        [(section, read)] => read(section, folder, resolve, problems),
        [] if problems.len() > unknown => None,
        _ => {
            let kinds: Vec<_> = KINDS.iter().map(|(kind, _)| *kind).collect();
            let message = format!("a bridge is of one kind, this has {}; kinds: {}", found.len(), kinds.join(", "));
            problems.report(node.span, "bridge-kind", message);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use yaml::File;

    use super::*;

    fn problems(text: &str) -> String {
        let file = File::parse("gateway.yaml", text).unwrap();
        let problems = file.problems();
        let resolve = Resolve { env: &|_| None, file: &|_| Err(std::io::ErrorKind::NotFound.into()) };
        let read = read(file.root(), Path::new(""), &resolve, &problems);
        problems.finish(read).map_or_else(|all| all.to_string(), |config| format!("{config:?}"))
    }

    #[test]
    fn a_known_kind_is_read() {
        assert!(problems("{ http: { listen: 127.0.0.1:0 } }").starts_with("HttpConfig"));
    }

    #[test]
    fn an_unknown_kind_is_answered_with_the_kinds() {
        let problems = problems("{ htp: { listen: 127.0.0.1:0 } }");
        assert!(problems.contains("unknown key \"htp\"") && problems.contains("valid keys: \"http\""), "{problems}");
    }

    #[test]
    fn no_kind_is_answered_with_the_kinds() {
        assert!(problems("{}").contains("kinds: http, mqtt, mqtt_client, webhook, websocket_client"));
    }
}
