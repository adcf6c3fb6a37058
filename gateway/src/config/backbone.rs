//! `backbone` of `gateway.yaml`: where envelopes live, for how long, and how many of what.

use std::{ops::RangeInclusive, path::Path, sync::Arc, time::Duration};

use backbone::{DeadLetterQuota, DedupWindow, EmbeddedConfig, KeyQuota, MinFree, Retention, SubscriptionQuota};
use yaml::{Fields, Node, Problems, Resolve};

/// Where envelopes live.
#[derive(Debug, Clone)]
pub enum BackboneConfig {
    /// In a folder of this gateway, made if it does not exist; a relative one begins at the working directory.
    Embedded(Box<EmbeddedConfig>),
}

const DEDUP_AGE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(365 * 86_400);
const DEDUP_ENTRIES: RangeInclusive<i64> = 1..=1_000_000_000;
const LONG: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(100 * 365 * 86_400);
const DELIVERIES: RangeInclusive<i64> = 1..=1_000_000;
const WAITING: RangeInclusive<i64> = 1..=1_000_000_000_000;
const MANY: RangeInclusive<i64> = 1..=i64::MAX;
const KEYS: RangeInclusive<i64> = 0..=100_000_000;
const LAST_VALUES: RangeInclusive<i64> = 0..=10_000_000;

// === impl BackboneConfig ===

impl BackboneConfig {
    /// Reads `{ embedded: { path: ... } }`.
    pub(super) fn read(node: &Node, resolve: &Resolve<'_>, problems: &Problems) -> Option<Self> {
        let mut fields = Fields::of(node, problems)?;
        let embedded = fields.required("embedded").and_then(|node| embedded(node, resolve, problems));
        fields.finish();
        Some(Self::Embedded(Box::new(embedded?)))
    }

    /// The store's folder.
    pub fn path(&self) -> &Path {
        let Self::Embedded(config) = self;
        &config.path
    }

    /// How long the store keeps the place of a subscription that nobody consumes.
    pub(super) fn park_for(&self) -> Duration {
        let Self::Embedded(config) = self;
        config.park_for
    }

    /// What the embedded backbone of a gateway of this domain is opened with.
    pub(super) fn open_with(&self, domain: &Arc<str>, subscriptions: SubscriptionQuota) -> EmbeddedConfig {
        let Self::Embedded(config) = self;
        EmbeddedConfig { domain: domain.clone(), subscriptions, ..(**config).clone() }
    }
}

/// Its domain, and what principals are held to, are not known here.
fn embedded(node: &Node, resolve: &Resolve<'_>, problems: &Problems) -> Option<EmbeddedConfig> {
    let mut fields = Fields::of(node, problems)?;
    let path = fields.required("path").and_then(|node| {
        node.non_empty(problems)?;
        node.substituted(resolve, problems)
    });
    let default = EmbeddedConfig::new(path.unwrap_or_default(), "");
    let min_free = optional(&mut fields, "min_free", default.min_free, |node| min_free(node, problems));
    let dedup_window = optional(&mut fields, "dedup_window", default.dedup_window, |node| dedup_window(node, problems));
    let last_values = optional(&mut fields, "last_values", default.last_values, |node| {
        node.integer(LAST_VALUES, problems).and_then(|most| usize::try_from(most).ok())
    });
    let keys = optional(&mut fields, "keys", default.keys, |node| keys(node, problems));
    let retention = optional(&mut fields, "retention", default.retention, |node| retention(node, problems));
    let dead = optional(&mut fields, "dead_letters", default.dead_letters, |node| dead_letters(node, problems));
    let max_deliveries = optional(&mut fields, "max_deliveries", default.max_deliveries, |node| {
        node.integer(DELIVERIES, problems).and_then(|most| u32::try_from(most).ok()).map(Some)
    });
    let max_waiting = optional(&mut fields, "max_waiting", default.max_waiting, |node| {
        node.integer(WAITING, problems).and_then(|most| u64::try_from(most).ok())
    });
    let park_for = optional(&mut fields, "park_for", default.park_for, |node| node.duration(LONG, problems));
    fields.finish();
    if default.path.as_os_str().is_empty() {
        return None;
    }
    let (min_free, dedup_window) = (min_free?, dedup_window?);
    let (last_values, keys, retention, dead_letters) = (last_values?, keys?, retention?, dead?);
    let (max_deliveries, max_waiting, park_for) = (max_deliveries?, max_waiting?, park_for?);
    let EmbeddedConfig { path, domain, subscriptions, .. } = default;
    Some(EmbeddedConfig {
        path,
        domain,
        min_free,
        dedup_window,
        last_values,
        keys,
        retention,
        dead_letters,
        max_deliveries,
        subscriptions,
        max_waiting,
        park_for,
    })
}

/// What a key says, or what holds without it.
fn optional<T>(
    fields: &mut Fields<'_, '_>,
    key: &'static str,
    default: T,
    read: impl FnOnce(&Node) -> Option<T>,
) -> Option<T> {
    match fields.optional(key) {
        Some(node) => read(node),
        None => Some(default),
    }
}

fn min_free(node: &Node, problems: &Problems) -> Option<MinFree> {
    let default = MinFree::default();
    let mut fields = Fields::of(node, problems)?;
    let percent = optional(&mut fields, "percent", default.percent, |node| {
        node.integer(0..=100, problems).and_then(|percent| u8::try_from(percent).ok())
    });
    let at_least = optional(&mut fields, "at_least", default.at_least, |node| node.bytes(0..=u64::MAX, problems));
    fields.finish();
    Some(MinFree { percent: percent?, at_least: at_least? })
}

fn dedup_window(node: &Node, problems: &Problems) -> Option<DedupWindow> {
    let default = DedupWindow::default();
    let mut fields = Fields::of(node, problems)?;
    let age = optional(&mut fields, "age", default.age, |node| node.duration(DEDUP_AGE, problems));
    let entries = optional(&mut fields, "entries", default.entries, |node| {
        node.integer(DEDUP_ENTRIES, problems).and_then(|entries| usize::try_from(entries).ok())
    });
    fields.finish();
    Some(DedupWindow { age: age?, entries: entries? })
}

fn keys(node: &Node, problems: &Problems) -> Option<KeyQuota> {
    let default = KeyQuota::default();
    let mut fields = Fields::of(node, problems)?;
    let keys = optional(&mut fields, "most", default.keys, |node| node.integer(KEYS, problems)?.try_into().ok());
    let bytes = optional(&mut fields, "bytes", default.bytes, |node| node.bytes(0..=1 << 40, problems));
    fields.finish();
    Some(KeyQuota { keys: keys?, bytes: bytes? })
}

/// What is left out of it is not bounded.
fn retention(node: &Node, problems: &Problems) -> Option<Retention> {
    let mut fields = Fields::of(node, problems)?;
    let age = optional(&mut fields, "age", None, |node| node.duration(LONG, problems).map(Some));
    let bytes = optional(&mut fields, "bytes", None, |node| node.bytes(1 << 20..=u64::MAX, problems).map(Some));
    let records = optional(&mut fields, "records", None, |node| {
        node.integer(MANY, problems).and_then(|most| u64::try_from(most).ok()).map(Some)
    });
    fields.finish();
    Some(Retention { age: age?, bytes: bytes?, records: records? })
}

fn dead_letters(node: &Node, problems: &Problems) -> Option<DeadLetterQuota> {
    let default = DeadLetterQuota::default();
    let mut fields = Fields::of(node, problems)?;
    let most = optional(&mut fields, "most", default.most, |node| node.integer(LAST_VALUES, problems)?.try_into().ok());
    let bytes = optional(&mut fields, "bytes", default.bytes, |node| node.bytes(0..=u64::MAX, problems));
    let sender_bytes =
        optional(&mut fields, "sender_bytes", default.sender_bytes, |node| node.bytes(0..=u64::MAX, problems));
    let sender_per_minute = optional(&mut fields, "sender_per_minute", default.sender_per_minute, |node| {
        node.integer(0..=i64::from(u32::MAX), problems)?.try_into().ok()
    });
    fields.finish();
    Some(DeadLetterQuota {
        most: most?,
        bytes: bytes?,
        sender_bytes: sender_bytes?,
        sender_per_minute: sender_per_minute?,
    })
}
