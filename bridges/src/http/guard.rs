//! Refuses requests that a foreign web page sent: loopback is reachable from any page in a browser on this host.
//!
//! Host stops a page whose name was rebound to our address; Origin and `Sec-Fetch-Site` stop one that calls us openly.
//! Every request passes it first: the bridge's, WebSocket upgrades, and the admin API's. It says nothing of who may
//! do what; that is policy's.

use std::net::SocketAddr;

use http::{HeaderMap, HeaderName, Request, StatusCode, Version, header, uri::Authority};

use super::{Problem, ServerConfig, head};

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The hosts and origins of one listener.
#[derive(Debug)]
pub(super) struct Guard {
    hosts: Vec<String>,
    origins: Vec<String>,
    /// Of the listener's own pages.
    scheme: &'static str,
}

// === impl Guard ===

impl Guard {
    /// `bound` is where the listener listens.
    pub(super) fn new(config: &ServerConfig, bound: SocketAddr) -> Self {
        let (scheme, usual_port) = if config.tls.is_some() { ("https://", 443) } else { ("http://", 80) };
        let hosts = config.allowed_hosts.clone().unwrap_or_else(|| own_hosts(bound, usual_port));
        Self { hosts, origins: config.allowed_origins.clone(), scheme }
    }

    /// Refuses with 400, 403 or 421.
    pub(super) fn check<B>(&self, request: &Request<B>) -> Result<(), Problem> {
        let headers = request.headers();
        let bad = |detail| Problem::new(StatusCode::BAD_REQUEST, "host", "host", detail);
        let authority = request.uri().authority().map(Authority::as_str);
        let is_http2 = request.version() == Version::HTTP_2;
        let host = match (single(headers, header::HOST, "host")?, authority) {
            (Some(host), Some(authority)) if is_http2 && !host.eq_ignore_ascii_case(authority) => {
                return Err(bad("the Host header and :authority are not the same"));
            }
            (Some(host), _) => host,
            // HTTP/2 has it in place of the header
            (None, Some(authority)) if is_http2 => authority,
            (None, _) => return Err(bad("the Host header is missing")),
        };
        self.check_host(host)?;
        if let Some(authority) = authority {
            self.check_host(authority)?;
        }
        match single(headers, header::ORIGIN, "origin")? {
            Some(origin) => self.check_origin(origin, host),
            // a browser leaves Origin out of some reads, but not this
            None => match head::value(headers, FETCH_SITE).map(|site| site.as_bytes()) {
                None | Some(b"same-origin" | b"none") => Ok(()),
                Some(_) => Err(forbidden("a page of another site sent this request")),
            },
        }
    }

    fn check_host(&self, host: &str) -> Result<(), Problem> {
        if self.hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(host)) {
            return Ok(());
        }
        let detail = format!("host {:?} is not in allowed_hosts", shortened(host));
        Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, "host", "host", detail))
    }

    fn check_origin(&self, origin: &str, host: &str) -> Result<(), Problem> {
        let own = origin.split_at_checked(self.scheme.len());
        let same = own
            .is_some_and(|(scheme, rest)| scheme.eq_ignore_ascii_case(self.scheme) && rest.eq_ignore_ascii_case(host));
        if same || self.origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin)) {
            return Ok(());
        }
        Err(forbidden(format!("origin {:?} is not in allowed_origins", shortened(origin))))
    }
}

/// What a listener is called where the config does not say.
fn own_hosts(bound: SocketAddr, usual_port: u16) -> Vec<String> {
    let port = bound.port();
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned(), "[::1]".to_owned()];
    let mut hosts: Vec<_> = names.iter().map(|name| format!("{name}:{port}")).collect();
    hosts.push(bound.to_string());
    if port == usual_port {
        hosts.extend(names);
    }
    hosts
}

/// The one value of a header; several, or one that is no text, are refused.
fn single<'h>(headers: &'h HeaderMap, name: HeaderName, rule: &'static str) -> Result<Option<&'h str>, Problem> {
    let bad = |what| Problem::new(StatusCode::BAD_REQUEST, rule, rule, format!("the {rule} header {what}"));
    let mut values = head::values(headers, name);
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(bad("is given twice"));
    }
    value.to_str().map(Some).map_err(|_| bad("is not visible ASCII"))
}

fn forbidden(detail: impl Into<std::borrow::Cow<'static, str>>) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "origin", "origin", detail)
}

fn shortened(text: &str) -> &str {
    text.get(..128).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(headers: &[(&str, &str)]) -> Result<(), u16> {
        let config = ServerConfig {
            allowed_origins: vec!["https://console.example".to_owned()],
            ..ServerConfig::new("127.0.0.1:0".parse().unwrap())
        };
        let guard = Guard::new(&config, "127.0.0.1:8080".parse().unwrap());
        let request = headers.iter().fold(Request::get("/"), |request, (name, value)| request.header(*name, *value));
        guard.check(&request.body(()).unwrap()).map_err(|problem| problem.status().as_u16())
    }

    #[test]
    fn the_listeners_own_names_pass() {
        for host in ["localhost:8080", "LOCALHOST:8080", "127.0.0.1:8080", "[::1]:8080"] {
            assert_eq!(check(&[("host", host)]), Ok(()), "{host}");
        }
    }

    #[test]
    fn a_foreign_host_is_misdirected() {
        for host in ["evil.example", "localhost", "localhost:8081", "localhost:8080.evil.example", "", "127.0.0.1"] {
            assert_eq!(check(&[("host", host)]), Err(421), "{host}");
        }
    }

    #[test]
    fn no_host_or_two_is_a_bad_request() {
        assert_eq!(check(&[]), Err(400));
        assert_eq!(check(&[("host", "localhost:8080"), ("host", "localhost:8080")]), Err(400));
    }

    #[test]
    fn an_absolute_target_is_checked_as_well() {
        let guard = Guard::new(&ServerConfig::new("127.0.0.1:0".parse().unwrap()), "127.0.0.1:8080".parse().unwrap());
        let request = Request::get("http://evil.example/").header("host", "localhost:8080").body(()).unwrap();
        assert_eq!(guard.check(&request).map_err(|problem| problem.status().as_u16()), Err(421));
    }

    #[test]
    fn http2_names_its_host_as_authority() {
        let guard = Guard::new(&ServerConfig::new("127.0.0.1:0".parse().unwrap()), "127.0.0.1:8080".parse().unwrap());
        let check = |uri: &str, host: Option<&str>| {
            let request = Request::get(uri).version(Version::HTTP_2);
            let request = host.into_iter().fold(request, |request, host| request.header("host", host));
            guard.check(&request.body(()).unwrap()).map_err(|problem| problem.status().as_u16())
        };
        assert_eq!(check("http://localhost:8080/a", None), Ok(()));
        assert_eq!(check("http://localhost:8080/a", Some("LOCALHOST:8080")), Ok(()));
        assert_eq!(check("http://localhost:8080/a", Some("127.0.0.1:8080")), Err(400));
        assert_eq!(check("http://evil.example/a", None), Err(421));
        assert_eq!(check("/a", None), Err(400));
    }

    #[test]
    fn only_the_same_origin_and_the_listed_ones_pass() {
        let origin = |origin: &str| check(&[("host", "localhost:8080"), ("origin", origin)]);
        assert_eq!(origin("http://localhost:8080"), Ok(()));
        assert_eq!(origin("https://console.example"), Ok(()));
        for foreign in ["null", "http://localhost", "http://127.0.0.1:8080", "https://localhost:8080", "é", ""] {
            assert!(matches!(origin(foreign), Err(400 | 403)), "{foreign}");
        }
    }

    #[test]
    fn a_read_from_a_foreign_page_without_origin_is_refused() {
        let site = |site: &str| check(&[("host", "localhost:8080"), ("sec-fetch-site", site)]);
        assert_eq!(site("same-origin"), Ok(()));
        assert_eq!(site("none"), Ok(()));
        assert_eq!(site("cross-site"), Err(403));
        assert_eq!(site("same-site"), Err(403));
    }
}
