//! The smaller sections of `gateway.yaml`: `limits` and `log`.

use std::{num::NonZeroU32, ops::RangeInclusive, time::Duration};

use backbone::SubscriptionQuota;
use yaml::{Fields, Node, Problems};

use super::NamedBridge;
use crate::telemetry::{LogConfig, LogFormat, directives};

/// Bounds over all bridges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bodies being read or in flight, over all bridges, in bytes; at least one message of every bridge fits in.
    pub max_in_flight_bytes: usize,
    /// Batches between a bridge and the store, for each bridge.
    pub max_in_flight: NonZeroU32,
    /// Subscriptions of one principal, open or durable.
    pub max_subscriptions_per_principal: usize,
    /// Durable subscriptions of one principal, consumed or not.
    pub max_durables_per_principal: usize,
    /// How long the drain may take.
    pub drain_timeout: Duration,
}

const IN_FLIGHT_BYTES: RangeInclusive<u64> = 65_536..=u32::MAX as u64;
const IN_FLIGHT: RangeInclusive<i64> = 1..=65_536;
const MAX_IN_FLIGHT: NonZeroU32 = NonZeroU32::new(2_048).unwrap();
const SUBSCRIPTIONS: RangeInclusive<i64> = 1..=65_536;
const DRAIN: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3_600);

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        let SubscriptionQuota { each, durable } = SubscriptionQuota::default();
        Self {
            max_in_flight_bytes: 64 << 20,
            max_in_flight: MAX_IN_FLIGHT,
            max_subscriptions_per_principal: each,
            max_durables_per_principal: durable,
            drain_timeout: Duration::from_secs(30),
        }
    }
}

impl Limits {
    /// What the store holds each principal to.
    pub(super) fn subscriptions(&self) -> SubscriptionQuota {
        SubscriptionQuota { each: self.max_subscriptions_per_principal, durable: self.max_durables_per_principal }
    }

    /// Reads `limits`, which may be left out. Refuses bounds under which a bridge could never take its largest message.
    pub(super) fn read(fields: &mut Fields<'_, '_>, bridges: &[NamedBridge], problems: &Problems) -> Option<Self> {
        let largest = bridges.iter().map(|(_, bridge)| bridge.max_message_bytes()).max().unwrap_or(0);
        let default = Self::default();
        let default = Self { max_in_flight_bytes: default.max_in_flight_bytes.max(largest), ..default };
        let Some(node) = fields.optional("limits") else { return Some(default) };
        let mut fields = Fields::of(node, problems)?;
        let max_in_flight_bytes = match fields.optional("max_in_flight_bytes") {
            Some(node) => in_flight_bytes(node, largest, problems),
            None => Some(default.max_in_flight_bytes),
        };
        let max_in_flight = match fields.optional("max_in_flight") {
            Some(node) => in_flight(node, problems),
            None => Some(default.max_in_flight),
        };
        let mut subscriptions = |key, default| match fields.optional(key) {
            Some(node) => node.integer(SUBSCRIPTIONS, problems).and_then(|most| usize::try_from(most).ok()),
            None => Some(default),
        };
        let each = subscriptions("max_subscriptions_per_principal", default.max_subscriptions_per_principal);
        let durable = subscriptions("max_durables_per_principal", default.max_durables_per_principal);
        let drain_timeout = match fields.optional("drain_timeout") {
            Some(node) => node.duration(DRAIN, problems),
            None => Some(default.drain_timeout),
        };
        fields.finish();
        Some(Self {
            max_in_flight_bytes: max_in_flight_bytes?,
            max_in_flight: max_in_flight?,
            max_subscriptions_per_principal: each?,
            max_durables_per_principal: durable?,
            drain_timeout: drain_timeout?,
        })
    }
}

fn in_flight_bytes(node: &Node, largest: usize, problems: &Problems) -> Option<usize> {
    let bytes = usize::try_from(node.bytes(IN_FLIGHT_BYTES, problems)?).ok()?;
    if bytes >= largest {
        return Some(bytes);
    }
    let message = format!("{bytes} bytes would never let the largest message of a bridge in, {largest} bytes");
    problems.report(node.span, "out-of-range", message);
    None
}

fn in_flight(node: &Node, problems: &Problems) -> Option<NonZeroU32> {
    let count = u32::try_from(node.integer(IN_FLIGHT, problems)?).ok()?;
    NonZeroU32::new(count)
}

/// Reads `log: { filter, format }`, which may be left out.
pub(super) fn log(fields: &mut Fields<'_, '_>, problems: &Problems) -> Option<LogConfig> {
    let default = LogConfig::default();
    let Some(node) = fields.optional("log") else { return Some(default) };
    let mut fields = Fields::of(node, problems)?;
    let filter = match fields.optional("filter") {
        Some(node) => node.string(problems).and_then(|filter| match directives(filter) {
            Ok(_) => Some(filter.to_owned()),
            Err(error) => {
                problems.report(node.span, "bad-filter", error.to_string());
                None
            }
        }),
        None => Some(default.filter),
    };
    let format = match fields.optional("format") {
        Some(node) => node.one_of(&[("text", LogFormat::Text), ("json", LogFormat::Json)], problems),
        None => Some(default.format),
    };
    fields.finish();
    Some(LogConfig { filter: filter?, format: format? })
}
