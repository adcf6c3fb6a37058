//! The border between MQTT's topics and the mesh's: an empty level is `%`, a `%` is `%25`.
//!
//! MQTT has empty levels (`/a`, `a//b`), the mesh has none. Addresses that mappings see, and topics and filters of the
//! mesh, are in the mesh's spelling; what a client sees is in MQTT's.

use std::{borrow::Cow, sync::Arc};

use bytestring::ByteString;
use envelope::{Filter, TopicError};

/// What clients see of the mesh: all of it, or what is below a prefix, which they don't see.
#[derive(Debug)]
pub(super) struct Border {
    /// With a separator at its end.
    prefix: Option<Box<str>>,
}

// === impl Border ===

impl Border {
    pub(super) fn new(prefix: Option<&str>) -> Self {
        Self { prefix: prefix.map(|prefix| format!("{prefix}/").into()) }
    }

    /// A filter of a client as one of the mesh. Reserved topics are below no prefix.
    pub(super) fn filter(&self, native: &str) -> Result<Filter, TopicError> {
        match &self.prefix {
            Some(prefix) if !native.starts_with('$') => Filter::new(format!("{prefix}{}", to_mesh(native))),
            _ => Filter::new(to_mesh(native).into_owned()),
        }
    }

    /// A topic of the mesh as clients know it; `None` for one that they don't: not below the prefix, or below it with a name
    /// that is reserved for them.
    pub(super) fn topic<'t>(&self, mesh: &'t str) -> Option<Cow<'t, str>> {
        match &self.prefix {
            Some(prefix) if !mesh.starts_with('$') => {
                mesh.strip_prefix(&**prefix).filter(|topic| !topic.starts_with('$')).map(to_native)
            }
            _ => Some(to_native(mesh)),
        }
    }
}

/// A topic or filter of MQTT in the mesh's spelling.
pub(super) fn to_mesh(native: &str) -> Cow<'_, str> {
    let plain = !native.contains('%') && native.split('/').all(|level| !level.is_empty());
    if plain {
        return Cow::Borrowed(native);
    }
    let mut mesh = String::with_capacity(native.len() + 8);
    for (at, level) in native.split('/').enumerate() {
        if at > 0 {
            mesh.push('/');
        }
        match level {
            "" => mesh.push('%'),
            level => level.split('%').enumerate().for_each(|(at, part)| {
                if at > 0 {
                    mesh.push_str("%25");
                }
                mesh.push_str(part);
            }),
        }
    }
    Cow::Owned(mesh)
}

/// A topic of the mesh in MQTT's spelling. A `%` that no MQTT client has put there stays as it is.
pub(super) fn to_native(mesh: &str) -> Cow<'_, str> {
    if !mesh.contains('%') {
        return Cow::Borrowed(mesh);
    }
    let mut native = String::with_capacity(mesh.len());
    for (at, segment) in mesh.split('/').enumerate() {
        if at > 0 {
            native.push('/');
        }
        if segment != "%" {
            native.push_str(&segment.replace("%25", "%"));
        }
    }
    Cow::Owned(native)
}

/// The last topic of a sender in the mesh's spelling: most stay with one.
#[derive(Debug, Default)]
pub(super) struct LastTopic(Option<(ByteString, Arc<str>)>);

// === impl LastTopic ===

impl LastTopic {
    pub(super) fn spelled(&mut self, topic: &str) -> Arc<str> {
        match &self.0 {
            Some((last, address)) if last == topic => address.clone(),
            _ => {
                let address: Arc<str> = to_mesh(topic).into();
                // of its own, or the packet that it came in would stay
                self.0 = Some((ByteString::from(topic), address.clone()));
                address
            }
        }
    }
}

/// Whether it can be a topic to publish to.
pub(super) fn check_topic(address: &str) -> Result<(), String> {
    let native = to_native(address);
    if native.is_empty() || native.len() > usize::from(u16::MAX) {
        return Err(format!("a topic has 1 to 65535 bytes, this has {}", native.len()));
    }
    match native.chars().find(|c| matches!(c, '+' | '#' | '\0')) {
        Some(c) => Err(format!("a topic to publish to has no {c:?}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use envelope::Topic;

    use super::*;

    #[test]
    fn an_empty_level_is_a_percent_sign_and_a_percent_sign_is_escaped() {
        for (native, mesh) in [
            ("a/b", "a/b"),
            ("/a", "%/a"),
            ("a//b/", "a/%/b/%"),
            ("/", "%/%"),
            ("100%/x", "100%25/x"),
            ("%", "%25"),
            ("%25", "%2525"),
        ] {
            assert_eq!(to_mesh(native), mesh, "{native}");
            assert_eq!(to_native(mesh), native, "{mesh}");
        }
    }

    #[test]
    fn with_a_prefix_clients_see_what_is_below_it_and_nothing_of_it() {
        let border = Border::new(Some("floor/7"));
        for (native, mesh) in
            [("a/b", "floor/7/a/b"), ("/a", "floor/7/%/a"), ("#", "floor/7/#"), ("+/x", "floor/7/+/x")]
        {
            assert_eq!(border.filter(native).unwrap().as_str(), mesh);
        }
        assert_eq!(border.topic("floor/7/%/a").as_deref(), Some("/a"));
        for hidden in ["floor/7", "floor/8/a", "floor/70/a", "a/b", "floor/7/$SYS/a"] {
            assert_eq!(border.topic(hidden), None, "{hidden}");
        }
        assert_eq!(border.filter("$mesh/audit").unwrap().as_str(), "$mesh/audit");
        assert_eq!(border.topic("$mesh/audit").as_deref(), Some("$mesh/audit"));
        let plain = Border::new(None);
        assert_eq!((plain.filter("a//b").unwrap().as_str(), plain.topic("a/%/b").as_deref()), ("a/%/b", Some("a//b")));
    }

    #[test]
    fn the_border_is_a_bijection() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..10_000 {
            let native: String = (0..random.usize(1..12))
                .map(|_| *random.choice(['a', '%', '2', '5', '/', 'é'].iter()).unwrap())
                .collect();
            let mesh = to_mesh(&native);
            assert!(Topic::new(&*mesh).is_ok(), "{mesh}");
            assert_eq!(to_native(&mesh), native);
        }
    }
}
