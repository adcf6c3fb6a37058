//! `openmesh status`: how a gateway that runs is doing, on a page that a person reads in a glance.

use std::io::{self, Write};

use clap::Args;
use http::{Method, StatusCode};
use serde_json::Value;

use super::{
    Failure,
    ask::{Gateway, clean, clean_json},
    format::Said,
};

/// Which gateway.
#[derive(Debug, Args)]
pub(super) struct Status {
    #[command(flatten)]
    gateway: Gateway,
    /// Prints what the admin API said, as one JSON document
    #[arg(long)]
    json: bool,
}

/// What the admin API said.
#[derive(Debug)]
struct Told {
    ready: Value,
    routes: Value,
    /// `None` while the store is not open.
    ledger: Option<Value>,
    /// Why it is not.
    unopened: String,
}

/// What is not worth a column while it is 0.
const RARE: [&str; 4] = ["passed", "filtered", "duplicate", "interrupted"];

// === impl Status ===

impl Status {
    /// Fails if the gateway takes no messages, its ledger does not balance or a mapping that sends fails, when it has said why.
    pub(super) async fn run(&self, out: &mut (impl Write + Send)) -> Result<(), Failure> {
        let ready = self.gateway.ask(Method::GET, "/readyz", StatusCode::SERVICE_UNAVAILABLE).await?;
        let routes = self.gateway.ask(Method::GET, "/routes", StatusCode::OK).await?;
        let ledger = self.gateway.ask(Method::GET, "/ledger", StatusCode::SERVICE_UNAVAILABLE).await?;
        let unopened = text(&ledger["detail"]);
        let ledger = Some(ledger).filter(|ledger| ledger.get("balanced").is_some());
        let told = Told { ready, routes, ledger, unopened };
        if self.json {
            let all = serde_json::json!({ "ready": told.ready, "routes": told.routes, "ledger": told.ledger });
            writeln!(out, "{}", clean_json(&all.to_string()))?;
        } else {
            told.write(out)?;
        }
        out.flush()?;
        if told.is_well() { Ok(()) } else { Err(Said.into()) }
    }
}

// === impl Told ===

impl Told {
    fn is_well(&self) -> bool {
        let ready = self.ready["ready"].as_bool().unwrap_or(false);
        let sends = !self.senders().any(|sender| sender["now"]["state"] == "failing");
        ready && sends && self.ledger.as_ref().is_some_and(|ledger| ledger["balanced"].as_bool().unwrap_or(false))
    }

    /// The mappings that send.
    fn senders(&self) -> impl Iterator<Item = &Value> {
        self.routes["sends"].as_array().into_iter().flatten()
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        self.write_readiness(out)?;
        let Some(ledger) = &self.ledger else { return writeln!(out, "store          {}", self.unopened) };
        let balanced = ledger["balanced"].as_bool().unwrap_or(false);
        writeln!(out, "ledger         {}", if balanced { "balanced" } else { "DOES NOT BALANCE" })?;
        for violation in ledger["violations"].as_array().into_iter().flatten() {
            writeln!(out, "               {}", text(violation))?;
        }
        let store = &ledger["store"];
        let (stored, groups) = (number(&store["stored"]), number(&store["groups"]));
        writeln!(out, "store          {stored} envelopes in {groups} commits")?;
        let lost = number(&store["lost"]);
        if lost > 0 {
            writeln!(out, "               {lost} messages acked as received could not be stored")?;
        }
        let [letters, over] = ["dead_letters", "dead_letters_over"].map(|key| number(&store[key]));
        if letters > 0 || over > 0 {
            let over = if over > 0 { format!(", {over} more were not kept") } else { String::new() };
            writeln!(out, "               {letters} dead letters{over}")?;
        }
        for connection in self.routes["connections"].as_array().into_iter().flatten() {
            writeln!(out, "{}", line_of(connection))?;
        }
        self.senders().try_for_each(|sender| writeln!(out, "{}", line_of_sender(sender)))?;
        self.write_bridges(ledger, out)?;
        for parked in self.routes["parked"].as_array().into_iter().flatten() {
            writeln!(out, "parked         {}: its mapping is gone, its subscription is not", text(parked))?;
        }
        write_subscriptions(ledger, out)
    }

    fn write_readiness(&self, out: &mut impl Write) -> io::Result<()> {
        match self.ready["ready"].as_bool() {
            Some(true) => writeln!(out, "ready          takes messages")?,
            _ => writeln!(out, "NOT READY      {}", text(&self.ready["why"]))?,
        }
        for issuer in self.ready["tokens"].as_array().into_iter().flatten() {
            writeln!(out, "  TOKENS       {}", text(issuer))?;
        }
        let epoch = &self.routes["epoch"];
        writeln!(out, "configuration  epoch {}, since {}", number(&epoch["number"]), text(&epoch["since"]))?;
        for error in epoch["refused"]["first"].as_array().into_iter().flatten() {
            writeln!(out, "  REFUSED      {}", text(error))?;
        }
        let waiting: Vec<_> = epoch["needs_restart"].as_array().into_iter().flatten().map(text).collect();
        if !waiting.is_empty() {
            writeln!(out, "               waits for a restart: {}", waiting.join(", "))?;
        }
        Ok(())
    }

    fn write_bridges(&self, ledger: &Value, out: &mut impl Write) -> io::Result<()> {
        for (name, bridge) in ledger["bridges"].as_object().into_iter().flatten() {
            writeln!(out, "bridge {}", clean(name))?;
            let mut line = format!("  messages     {} received", number(&bridge["received"]));
            push(&mut line, &bridge["accepted"], "stored");
            for stage in RARE {
                push_if_any(&mut line, &bridge[stage], stage);
            }
            for stage in ["rejected", "returned"] {
                push_kinds(&mut line, &bridge[stage], stage);
            }
            push(&mut line, &bridge["in_flight"], "in flight");
            writeln!(out, "{line}")?;
            for route in self.routes["routes"].as_array().into_iter().flatten().filter(|r| r["bridge"] == name.as_str())
            {
                write_route(route, out)?;
            }
        }
        Ok(())
    }
}

/// `orders  POST /orders: 6 taken, 4 stored, 2 rejected (2 malformed)`, and below it when that was and by what.
fn write_route(route: &Value, out: &mut impl Write) -> io::Result<()> {
    let now = &route["now"];
    let mut line = format!("  {:<28} {}: ", text(&route["mapping"]), text(&route["address"]));
    match number(&now["taken"]) {
        0 => line.push_str("nothing yet"),
        taken => line.push_str(&format!("{taken} taken")),
    }
    push_if_any(&mut line, &now["stored"], "stored");
    for stage in ["passed", "filtered", "duplicate"] {
        push_if_any(&mut line, &now[stage], stage);
    }
    push_kinds(&mut line, &now["rejected"], "rejected");
    writeln!(out, "{line}")?;
    let last = &now["last_refusal"];
    if last.is_object() {
        let [at, kind, rule] = ["at", "kind", "decided_by"].map(|key| text(&last[key]));
        writeln!(out, "  {:<28} last rejected {at}: {kind}, decided by {rule}", "")?;
    }
    Ok(())
}

/// `connection cloud out: connected to mqtt://broker.example:1883`, and what is wrong.
fn line_of(connection: &Value) -> String {
    let [bridge, direction, state, peer] = ["bridge", "direction", "state", "peer"].map(|key| text(&connection[key]));
    let line = match &*state {
        "connected" => format!("connection {bridge} {direction}: connected to {peer}"),
        "connecting" => format!("connection {bridge} {direction}: connecting"),
        _ => format!("connection {bridge} {direction}: {} {peer}", state.to_uppercase()),
    };
    match connection["why"].as_str() {
        Some(why) => format!("{line}: {}", clean(why)),
        None => line,
    }
}

/// `sends orders to hook POST /orders: sending, 3 unsettled`, and why it fails.
fn line_of_sender(sender: &Value) -> String {
    let [mapping, bridge, address] = ["mapping", "bridge", "address"].map(|key| text(&sender[key]));
    let now = &sender["now"];
    let state = match now["state"].as_str() {
        Some("failing") => "FAILING".to_owned(),
        Some(state) => clean(state),
        None => "does not run".to_owned(),
    };
    let mut line = format!("sends {mapping} to {bridge} {address}: {state}");
    push_if_any(&mut line, &now["unsettled"], "unsettled");
    match now["why"].as_str() {
        Some(why) => format!("{line}: {}", clean(why)),
        None => line,
    }
}

fn write_subscriptions(ledger: &Value, out: &mut impl Write) -> io::Result<()> {
    for (name, counts) in ledger["subscriptions"].as_object().into_iter().flatten() {
        let mut line = format!("subscription {}\n  envelopes    {} matched", clean(name), number(&counts["matched"]));
        push(&mut line, &counts["delivered"], "delivered");
        push_if_any(&mut line, &counts["left_out"], "left out");
        push_if_any(&mut line, &counts["expired"], "expired");
        push_if_any(&mut line, &counts["lapsed"], "lapsed");
        push_if_any(&mut line, &counts["over"], "over what may wait");
        for stage in ["refused", "dead_lettered"] {
            push_kinds(&mut line, &counts[stage], &stage.replace('_', "-"));
        }
        push(&mut line, &counts["pending"], "pending");
        writeln!(out, "{line}")?;
    }
    Ok(())
}

fn push(line: &mut String, value: &Value, what: &str) {
    line.push_str(&format!(", {} {what}", number(value)));
}

fn push_if_any(line: &mut String, value: &Value, what: &str) {
    if number(value) != 0 {
        push(line, value, what);
    }
}

/// `, 3 rejected (2 malformed, 1 unmapped)`.
fn push_kinds(line: &mut String, kinds: &Value, what: &str) {
    let kinds: Vec<_> = kinds.as_object().into_iter().flatten().map(|(kind, count)| (kind, number(count))).collect();
    let sum: i64 = kinds.iter().map(|(_, count)| count).sum();
    if sum != 0 {
        let each: Vec<_> = kinds.iter().map(|(kind, count)| format!("{count} {}", clean(kind))).collect();
        line.push_str(&format!(", {sum} {what} ({})", each.join(", ")));
    }
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

fn text(value: &Value) -> String {
    value.as_str().map(clean).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told() -> Told {
        Told {
            ready: json!({ "ready": true }),
            routes: json!({
                "epoch": { "number": 3, "since": "2026-01-01T00:00:00Z", "needs_restart": ["bridges.web"], "refused": null },
                "routes": [
                    { "mapping": "idle", "bridge": "web", "address": "POST /idle", "now": { "taken": 0 } },
                    { "mapping": "orders", "bridge": "web", "address": "POST /orders", "now": {
                        "taken": 6, "stored": 4, "rejected": { "malformed": 2 },
                        "last_refusal": { "at": "2026-01-01T00:00:01Z", "kind": "malformed", "decided_by": "a\u{1b}b" },
                    } },
                ],
                "connections": [
                    { "bridge": "web", "direction": "in", "peer": "mqtt://b:1883", "state": "connected" },
                    { "bridge": "web", "direction": "out", "peer": "mqtt://b:1883", "state": "refused", "why": "not\u{1b} you" },
                ],
            }),
            ledger: Some(json!({
                "balanced": true, "violations": [],
                "store": { "stored": 4, "groups": 2, "lost": 0 },
                "bridges": { "web": {
                    "received": 7, "accepted": 4, "duplicate": 0, "filtered": 1, "interrupted": 0, "in_flight": 0,
                    "rejected": { "malformed": 2 }, "returned": {},
                } },
                "subscriptions": { "a\u{1b}[2J": { "matched": 4, "delivered": 1, "expired": 0, "pending": 3 } },
            })),
            unopened: String::new(),
        }
    }

    fn page(told: &Told) -> String {
        let mut out = Vec::new();
        told.write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_healthy_gateway_is_a_page_of_counts() {
        let page = page(&told());
        for line in [
            "ready          takes messages\n",
            "configuration  epoch 3, since 2026-01-01T00:00:00Z\n               waits for a restart: bridges.web\n",
            "store          4 envelopes in 2 commits\n",
            "  messages     7 received, 4 stored, 1 filtered, 2 rejected (2 malformed), 0 in flight\n",
            "connection web in: connected to mqtt://b:1883\nconnection web out: REFUSED mqtt://b:1883: not\u{fffd} you\nbridge web\n",
            "  idle                         POST /idle: nothing yet\n",
            "POST /orders: 6 taken, 4 stored, 2 rejected (2 malformed)\n",
            "                               last rejected 2026-01-01T00:00:01Z: malformed, decided by a\u{fffd}b\n",
            "  envelopes    4 matched, 1 delivered, 3 pending\n",
        ] {
            assert!(page.contains(line), "{line:?} is not in\n{page}");
        }
    }

    #[test]
    fn what_sends_and_fails_is_shown_and_not_well() {
        let mut told = told();
        told.routes["sends"] = json!([
            { "mapping": "a", "bridge": "hook", "address": "POST /a", "now": { "state": "sending", "unsettled": 0 } },
            { "mapping": "b", "bridge": "hook", "address": "POST /b", "now": null },
        ]);
        told.routes["parked"] = json!(["mapping:c"]);
        told.ready["tokens"] = json!(["issuer \"x\": no keys"]);
        told.ledger.as_mut().unwrap()["store"]["dead_letters"] = json!(2);
        told.ledger.as_mut().unwrap()["store"]["dead_letters_over"] = json!(1);
        assert!(told.is_well());
        told.routes["sends"][1]["now"] = json!({ "state": "failing", "why": "502 of \u{1b} hook", "unsettled": 7 });
        assert!(!told.is_well());
        let page = page(&told);
        for line in [
            "  TOKENS       issuer \"x\": no keys\n",
            "               2 dead letters, 1 more were not kept\n",
            "sends a to hook POST /a: sending\n",
            "sends b to hook POST /b: FAILING, 7 unsettled: 502 of \u{fffd} hook\n",
            "parked         mapping:c: its mapping is gone, its subscription is not\n",
        ] {
            assert!(page.contains(line), "{line:?} is not in\n{page}");
        }
    }

    #[test]
    fn what_a_terminal_would_obey_is_not_printed() {
        assert!(!page(&told()).contains('\u{1b}'));
    }

    #[test]
    fn a_gateway_that_takes_nothing_or_lost_count_is_not_well() {
        let mut told = told();
        assert!(told.is_well());
        told.ready = json!({ "ready": false, "why": "draining" });
        assert!(!told.is_well() && page(&told).starts_with("NOT READY      draining\n"));
        told.ready = json!({ "ready": true });
        told.ledger = Some(json!({ "balanced": false, "violations": ["store: 3 records, but the routes stored 4"] }));
        assert!(!told.is_well() && page(&told).contains("DOES NOT BALANCE\n               store: 3 records"));
        told.ledger = None;
        assert!(!told.is_well());
    }
}
