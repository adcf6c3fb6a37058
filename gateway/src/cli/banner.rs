//! What `openmesh run` says when it has started: what listens where, what is loaded, and two lines to try.

use std::{
    env,
    io::{self, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::example::{Example, quoted};
use crate::{app::Addresses, config::Loaded};

/// What there is to say but for the addresses, which are known only after the start.
#[derive(Debug)]
pub(super) struct Banner {
    domain: String,
    config: PathBuf,
    store: PathBuf,
    /// Why nothing can be sent, if nothing can.
    closed: Option<&'static str>,
    routes: Vec<[String; 3]>,
    /// How the URL of each bridge's listener begins.
    schemes: Vec<(Arc<str>, &'static str)>,
    example: Option<Example>,
}

/// Where `openmesh tail` looks if it is not told.
const USUAL_PORT: u16 = 8080;

// === impl Banner ===

impl Banner {
    pub(super) fn of(loaded: &Loaded, config: &Path) -> Self {
        let path = loaded.config.backbone.path();
        let routes = loaded.mappings.routes().map(|route| {
            let becomes = route.topic.unwrap_or("(dropped)");
            [route.route.name().to_owned(), format!("{} {}", route.bridge, route.address), becomes.to_owned()]
        });
        Self {
            domain: loaded.config.domain.to_string(),
            config: config.to_owned(),
            store: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
            closed: closed(loaded),
            routes: routes.collect(),
            schemes: loaded.config.bridges.iter().map(|(name, bridge)| (name.clone(), bridge.scheme())).collect(),
            example: loaded.mappings.routes().find_map(|route| Example::of(&route)),
        }
    }

    pub(super) fn write(&self, addresses: &Addresses, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "openmesh {}, domain {}", env!("CARGO_PKG_VERSION"), self.domain)?;
        let width = addresses.bridges.iter().map(|(name, _)| name.len()).max().unwrap_or(0).max("backbone".len());
        let mut line = |name: &str, what: &str| writeln!(out, "  {name:width$}  {what}");
        line("config", &format!("{}  reloaded when its files change, and on SIGHUP", self.config.display()))?;
        line("backbone", &format!("embedded, in {}", self.store.display()))?;
        line("admin", &format!("http://{}  /healthz /readyz /metrics /ledger /routes", addresses.admin))?;
        for (name, address) in &addresses.bridges {
            let scheme = self.scheme(name);
            let more = if scheme.starts_with("http") { "  WebSocket at /mesh/v1/ws" } else { "" };
            line(name, &format!("{scheme}://{address}{more}"))?;
        }
        if let Some(why) = self.closed {
            line("policy", why)?;
        }
        self.write_mappings(out)?;
        self.write_example(addresses, out)?;
        out.flush()
    }

    /// Of a gateway whose store can't be opened: why.
    pub(super) fn write_broken(&self, addresses: &Addresses, why: &str, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "openmesh {}, domain {}", env!("CARGO_PKG_VERSION"), self.domain)?;
        writeln!(out, "NOT READY: the store can't be opened, and nothing listens but the admin API")?;
        writeln!(out, "  {why}")?;
        writeln!(out, "  admin     http://{}  /healthz /readyz /metrics /routes", addresses.admin)?;
        out.flush()
    }

    fn scheme(&self, bridge: &str) -> &'static str {
        self.schemes.iter().find(|(name, _)| **name == *bridge).map_or("tcp", |(_, scheme)| *scheme)
    }

    fn write_mappings(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "mappings: {}", self.routes.len())?;
        let width = |column: usize| self.routes.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let (name_width, from_width) = (width(0), width(1));
        for [name, from, to] in &self.routes {
            writeln!(out, "  {name:name_width$}  {from:from_width$}  ->  {to}")?;
        }
        Ok(())
    }

    fn write_example(&self, addresses: &Addresses, out: &mut impl Write) -> io::Result<()> {
        let Some(example) = &self.example else { return Ok(()) };
        let listens = addresses.bridges.iter().find(|(name, _)| **name == *example.bridge);
        match listens {
            Some((_, address)) => writeln!(out, "try\n  {}\n  {}", example.curl(*address), tail(*address)),
            None => Ok(()),
        }
    }
}

fn closed(loaded: &Loaded) -> Option<&'static str> {
    let config = &loaded.policy;
    let known =
        loaded.guards.users.users().next().is_some() || !config.tokens.is_empty() || !config.certificates.is_empty();
    match (config.anonymous || known, loaded.guards.policies.is_empty()) {
        (false, _) => Some("nobody gets in: no user is known, and the policy does not say anonymous: true"),
        (true, true) => Some("nothing is permitted: there are no Cedar policies"),
        (true, false) => None,
    }
}

/// The command that shows what passes, as this program was called.
fn tail(address: SocketAddr) -> String {
    let program = program();
    let url = match (address.port(), address.ip().to_string().as_str()) {
        (USUAL_PORT, "127.0.0.1") => String::new(),
        _ => format!(" --url ws://{address}/mesh/v1/ws"),
    };
    format!("{program} tail 'telemetry/#' --from earliest{url}")
}

/// This program as a shell finds it: by its name alone where it is on the path.
fn program() -> String {
    let Ok(this) = env::current_exe() else { return "openmesh".to_owned() };
    let on_path =
        env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|dir| dir.join("openmesh") == this));
    if on_path {
        return "openmesh".to_owned();
    }
    let here = env::current_dir().ok();
    let shown = here.and_then(|here| Some(this.strip_prefix(here).ok()?.to_owned())).unwrap_or(this);
    quoted(&shown.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listener_is_shown_with_what_is_spoken_there() {
        let bridges: [(Arc<str>, _); 3] =
            [("web", "https"), ("inside", "http"), ("floor", "mqtt")].map(|(name, scheme)| (name.into(), scheme));
        let banner = Banner {
            domain: "plant-a".into(),
            config: "gateway.yaml".into(),
            store: "/data".into(),
            closed: None,
            routes: Vec::new(),
            schemes: bridges.to_vec(),
            example: None,
        };
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let addresses = Addresses {
            admin: at(9090),
            bridges: bridges.into_iter().zip(1..).map(|((name, _), port)| (name, at(port))).collect(),
        };
        let mut out = Vec::new();
        banner.write(&addresses, &mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        for line in [
            "  web       https://127.0.0.1:1  WebSocket at /mesh/v1/ws\n",
            "  inside    http://127.0.0.1:2  WebSocket at /mesh/v1/ws\n",
            "  floor     mqtt://127.0.0.1:3\n",
        ] {
            assert!(out.contains(line), "{out}");
        }
    }
}
