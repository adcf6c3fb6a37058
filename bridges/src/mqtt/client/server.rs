//! A remote broker by its URL, and which of several is asked next, and when.

use std::{fmt, net::IpAddr, time::Duration};

use crate::{
    backoff::backoff,
    private::{self, Block, Private},
};

/// `mqtt://HOST:PORT`, or `mqtts://HOST:PORT` for TLS. The ports are 1883 and 8883 if left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    host: String,
    port: u16,
    tls: bool,
}

/// Several brokers in turn: the next one at once after a failure, a pause once each was asked.
#[derive(Debug)]
pub(super) struct Turns {
    at: usize,
    count: usize,
    /// Failures since the last connection that lasted.
    failed: u32,
    longest: Duration,
}

/// The first pause, doubled up to the longest; each is shortened by up to a half at random.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

// === impl Server ===

impl Server {
    /// Reads a URL. The answer says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (tls, rest) = match text.split_once("://") {
            Some(("mqtt", rest)) => (false, rest),
            Some(("mqtts", rest)) => (true, rest),
            _ => return Err("a broker is mqtt://HOST:PORT, or mqtts://HOST:PORT for TLS".to_owned()),
        };
        if rest.contains('@') {
            return Err("a name and password have no place in a URL: username, password".to_owned());
        }
        let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or("behind \"]\" comes a port")?)),
            None => match rest.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            },
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        if host.is_empty() || host.len() > 253 || !host.chars().all(plain) {
            return Err(format!("{host:?} is no name of a host"));
        }
        let port = match port.map(str::parse::<u16>) {
            None => {
                if tls {
                    8883
                } else {
                    1883
                }
            }
            Some(Ok(port)) if port > 0 => port,
            Some(_) => return Err("the port is none: 1 to 65535, and nothing behind it".to_owned()),
        };
        Ok(Self { host: host.to_owned(), port, tls })
    }

    /// Stands for one where the config names none that is one.
    pub(super) fn nowhere() -> Self {
        Self { host: "localhost".to_owned(), port: 1883, tls: false }
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn tls(&self) -> bool {
        self.tls
    }

    /// Whether it is on this host by what the config says.
    pub(super) fn is_loopback(&self) -> bool {
        private::is_here(&self.host)
    }

    /// Whether it may be at this address: at the very one that the config names, or at whatever a name resolves to that is
    /// not of a network behind this host.
    pub(super) fn may_be_at(&self, address: IpAddr, allowed: &[Block]) -> Result<(), Private> {
        private::check_named(&self.host, address, allowed)
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "mqtts" } else { "mqtt" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

// === impl Turns ===

impl Turns {
    /// Among `count` brokers, at least one.
    pub(super) fn new(count: usize, longest: Duration) -> Self {
        Self { at: 0, count: count.max(1), failed: 0, longest }
    }

    /// The broker whose turn it is.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// It is not to be had: how long to wait before the next one is asked. `refused`: it said no, and will say so again.
    pub(super) fn next(&mut self, refused: bool) -> Duration {
        self.at = (self.at + 1) % self.count;
        self.failed = self.failed.saturating_add(1);
        let rounds = self.failed / u32::try_from(self.count).unwrap_or(u32::MAX);
        if !refused && self.at != 0 && rounds == 0 {
            return Duration::ZERO;
        }
        let first = if refused && self.at == 0 { self.longest } else { FIRST_PAUSE };
        backoff(first, self.longest, rounds)
    }

    /// A connection that was lost: the same broker is asked again, at once if it `lasted`.
    pub(super) fn lost(&mut self, lasted: bool) -> Duration {
        self.failed = if lasted { 0 } else { self.failed.saturating_add(1) };
        backoff(FIRST_PAUSE, self.longest, self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, String> {
        Server::parse(text).map(|server| server.to_string())
    }

    #[test]
    fn a_broker_is_a_scheme_a_host_and_a_port() {
        assert_eq!(read("mqtt://broker.example").unwrap(), "mqtt://broker.example:1883");
        assert_eq!(read("mqtts://broker.example").unwrap(), "mqtts://broker.example:8883");
        assert_eq!(read("mqtt://[::1]:7").unwrap(), "mqtt://[::1]:7");
        assert!(
            Server::parse("mqtt://[::1]").unwrap().is_loopback()
                && Server::parse("mqtt://localhost").unwrap().is_loopback()
        );
        for (text, says) in [
            ("broker:1883", "a broker is"),
            ("http://a", "a broker is"),
            ("mqtt://u:p@a", "no place in a URL"),
            ("mqtt://", "no name of a host"),
            ("mqtt://a b", "no name of a host"),
            ("mqtt://a:0", "the port is none"),
            ("mqtt://a:1/topic", "the port is none"),
            ("mqtt://[::1]7", "comes a port"),
        ] {
            assert!(read(text).unwrap_err().contains(says), "{text}");
        }
    }

    #[test]
    fn a_name_does_not_lead_into_a_network_that_nobody_named() {
        let (private, public) = ("10.0.0.1".parse().unwrap(), "1.1.1.1".parse().unwrap());
        let by_name = Server::parse("mqtts://broker.example").unwrap();
        assert!(by_name.may_be_at(public, &[]).is_ok() && by_name.may_be_at(private, &[]).is_err());
        assert!(by_name.may_be_at(private, &["10.0.0.0/8".parse().unwrap()]).is_ok());
        assert!(Server::parse("mqtt://10.0.0.1").unwrap().may_be_at(private, &[]).is_ok());
        let here = Server::parse("mqtt://localhost").unwrap();
        assert!(here.may_be_at("127.0.0.1".parse().unwrap(), &[]).is_ok() && here.may_be_at(private, &[]).is_err());
    }

    #[test]
    fn brokers_are_asked_in_turn_with_a_pause_that_grows_to_its_bound() {
        let longest = Duration::from_secs(2);
        let mut turns = Turns::new(2, longest);
        assert_eq!((turns.next(false), turns.at()), (Duration::ZERO, 1));
        let (mut most, mut last) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..40 {
            last = turns.next(false);
            most = most.max(last);
        }
        assert!(most <= longest && last >= longest / 2, "{most:?} {last:?}");
        let mut one = Turns::new(1, longest);
        assert!(one.next(true) >= longest / 2, "who said no is not asked soon");
        let mut lost = Turns::new(1, longest);
        assert!(lost.lost(true) <= FIRST_PAUSE && lost.lost(false) > FIRST_PAUSE / 2);
    }
}
