//! One repository of a registry, over HTTP: the distribution specification and docker's token authentication.

use super::blob::read_limited;
use super::login::{Credentials, Logins, basic};
use super::reference::{DEFAULT_DOMAIN, Reference};
use crate::sys::{Error, Result};
use serde_json::Value;
use std::io::Read;
use std::time::Duration;
use ureq::http::{Method, Request, Response, StatusCode};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body, SendBody};

/// How long a registry may be silent.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long it may think about a request: it hashes what was sent to it.
const ANSWER: Duration = Duration::from_secs(300);

/// How long it may take to be reached at all.
const CONNECT: Duration = Duration::from_secs(20);

pub(super) struct Client {
    agent: Agent,
    /// Scheme and host: `https://host:port`.
    base: String,
    domain: String,
    path: String,
    credentials: Option<Credentials>,
    /// The token server that may learn the credentials: the one that was there at login.
    realm: Realm,
    /// The header that the registry accepted last.
    authorization: Option<String>,
    /// What is to be done, in the words of token servers: `pull`, `pull,push`.
    actions: &'static str,
}

/// To whom the password may be sent beside the registry itself.
enum Realm {
    /// To the token server that the registry names now: somebody logs in. It is noted here.
    Named(Option<String>),
    /// To the one that it named then. Without one, as after another program's login, to the registry's own host.
    Pinned(Option<String>),
}

/// The body of a request, with its length in bytes.
pub(super) type Sent = (u64, Box<dyn Read>);

/// What comes back.
pub(super) type Answer = Response<Body>;

impl Client {
    pub fn new(reference: &Reference, logins: &Logins, actions: &'static str) -> Result<Self> {
        let domain = reference.domain().to_owned();
        let credentials = logins.find(&domain)?;
        let realm = Realm::Pinned(if credentials.is_some() { logins.realm(&domain)? } else { None });
        let plain = is_loopback(&domain);
        let host = if domain == DEFAULT_DOMAIN { format!("registry-1.{domain}") } else { domain.clone() };
        let base = format!("{}://{host}", if plain { "http" } else { "https" });
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .https_only(!plain)
            .user_agent(concat!("mydocker/", env!("CARGO_PKG_VERSION")))
            // With ureq's defaults no header of ours goes along with a redirection to another host.
            .max_redirects(5)
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(ANSWER))
            .timeout_per_read(Some(PATIENCE))
            .timeout_per_write(Some(PATIENCE));
        config = if plain { config.proxy(None) } else { config.tls_config(TlsConfig::builder().root_certs(roots(&domain)?).build()) };
        let (agent, path) = (config.build().new_agent(), reference.path().to_owned());
        Ok(Self { agent, base, domain, path, credentials, realm, authorization: None, actions })
    }

    /// The address of something in the repository: `manifests/latest`.
    pub fn url(&self, what: &str) -> String {
        format!("{}/v2/{}/{what}", self.base, self.path)
    }

    /// The address that the registry gives for an upload, which may be relative.
    pub fn location(&self, answer: &Answer) -> Result<String> {
        let text = header(answer, "location").ok_or_else(|| self.bad("it gave no address for the upload"))?;
        Ok(if text.starts_with('/') { format!("{}{text}", self.base) } else { text.to_owned() })
    }

    /// Sends a request; a refusal for want of authentication is answered once. `body` is asked for again in that case.
    pub fn send(
        &mut self,
        method: &Method,
        url: &str,
        headers: &[(&str, &str)],
        body: &mut dyn FnMut() -> Result<Option<Sent>>,
    ) -> Result<Answer> {
        let answer = self.once(method, url, headers, body()?)?;
        if answer.status() != StatusCode::UNAUTHORIZED || !self.is_ours(url) {
            return Ok(answer);
        }
        self.authenticate(&answer)?;
        self.once(method, url, headers, body()?)
    }

    /// Without a body.
    pub fn ask(&mut self, method: &Method, url: &str, headers: &[(&str, &str)]) -> Result<Answer> {
        self.send(method, url, headers, &mut || Ok(None))
    }

    fn once(&self, method: &Method, url: &str, headers: &[(&str, &str)], body: Option<Sent>) -> Result<Answer> {
        let mut request = Request::builder().method(method.clone()).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        // Nobody but the registry learns what it knows us by.
        if let Some(authorization) = self.authorization.as_ref().filter(|_| self.is_ours(url)) {
            request = request.header("authorization", authorization);
        }
        let wrong = |e: ureq::http::Error| self.bad(&format!("{url} is no address: {e}"));
        let done = match body {
            Some((size, reader)) => {
                let request = request.header("content-length", size).body(SendBody::from_owned_reader(reader)).map_err(wrong)?;
                self.agent.run(request)
            }
            // A POST without a body says that it has none.
            None if method == Method::POST => self.agent.run(request.header("content-length", "0").body(SendBody::none()).map_err(wrong)?),
            None => self.agent.run(request.body(SendBody::none()).map_err(wrong)?),
        };
        done.map_err(|e| self.bad(&say(&e)))
    }

    fn is_ours(&self, url: &str) -> bool {
        is_below(url, &self.base)
    }

    /// Does what `WWW-Authenticate` asks for: our name and password, or a token for them from the server that it names.
    fn authenticate(&mut self, refused: &Answer) -> Result<()> {
        let challenges = refused.headers().get_all("www-authenticate").iter().filter_map(|value| value.to_str().ok());
        for challenge in challenges {
            let (scheme, rest) = challenge.split_once(' ').unwrap_or((challenge, ""));
            if scheme.eq_ignore_ascii_case("basic") {
                let Some(Credentials::Password { user, password }) = &self.credentials else { return Err(self.no_login()) };
                self.authorization = Some(format!("Basic {}", basic(user, password)));
                return Ok(());
            }
            if scheme.eq_ignore_ascii_case("bearer") {
                self.authorization = Some(format!("Bearer {}", self.token(&parameters(rest))?));
                return Ok(());
            }
        }
        Err(self.bad("it asks for an authentication that is not known here"))
    }

    /// Sees that the password goes to nobody whom the registry has named since it was typed.
    fn trust(&mut self, realm: &str) -> Result<()> {
        let pinned = match &mut self.realm {
            Realm::Named(named) => {
                *named = Some(realm.to_owned());
                return Ok(());
            }
            Realm::Pinned(pinned) => pinned.as_deref(),
        };
        // The hub's own tokens have always come from a host beside it.
        let own = if self.domain == DEFAULT_DOMAIN { format!("https://auth.{DEFAULT_DOMAIN}") } else { self.base.clone() };
        let known = pinned.map_or_else(|| is_below(realm, &own), |pinned| realm == pinned);
        if known {
            return Ok(());
        }
        let before = pinned.map_or_else(|| format!("a token server at {own}"), |pinned| format!("the token server {pinned} of the login"));
        let why = format!("it wants your password sent to {realm}, and not to {before}");
        Err(self.bad(&why).hint(format!("if that is right: mydocker login {}", self.domain)))
    }

    fn no_login(&self) -> Error {
        Error::new(format!("{} wants to know who you are", self.domain)).hint(format!("mydocker login {}", self.domain))
    }

    /// A token of the token server (distribution's "Token Authentication Specification").
    fn token(&mut self, parameters: &[(String, String)]) -> Result<String> {
        let get = |key: &str| parameters.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
        let realm = get("realm").ok_or_else(|| self.bad("it names no token server"))?;
        if !realm.starts_with("https://") && !self.base.starts_with("http://") {
            return Err(self.bad(&format!("its token server {realm} does not use TLS")));
        }
        if self.credentials.is_some() {
            self.trust(realm)?;
        }
        let scope = get("scope").map_or_else(|| format!("repository:{}:{}", self.path, self.actions), str::to_owned);
        let mut query = format!("scope={}", encode(&scope));
        if let Some(service) = get("service") {
            query = format!("service={}&{query}", encode(service));
        }
        let done = if let Some(Credentials::Token(token)) = &self.credentials {
            let form = format!("grant_type=refresh_token&client_id=mydocker&refresh_token={}&{query}", encode(token));
            self.agent.post(realm).content_type("application/x-www-form-urlencoded").send(form)
        } else {
            let joint = if realm.contains('?') { '&' } else { '?' };
            let mut request = self.agent.get(format!("{realm}{joint}{query}"));
            if let Some(Credentials::Password { user, password }) = &self.credentials {
                request = request.header("authorization", format!("Basic {}", basic(user, password)));
            }
            request.call()
        };
        let mut answer = done.map_err(|e| self.bad(&format!("its token server: {}", say(&e))))?;
        if matches!(answer.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(if self.credentials.is_some() {
                self.bad("it does not accept the stored name and password")
            } else {
                self.no_login()
            });
        }
        let text = read_limited(answer.body_mut().as_reader(), "the answer of the token server")?;
        let value: Value = serde_json::from_slice(&text).unwrap_or_default();
        let token = ["token", "access_token"].iter().find_map(|key| value.get(key)?.as_str());
        token.map(str::to_owned).ok_or_else(|| self.bad(&format!("its token server gave no token, and {}", answer.status())))
    }

    /// A sentence for an answer that is not what was hoped for.
    pub fn refused(&self, what: &str, mut answer: Answer) -> Error {
        let text = read_limited(answer.body_mut().as_reader(), "the answer").unwrap_or_default();
        let value: Value = serde_json::from_slice(&text).unwrap_or_default();
        let message = value["errors"][0]["message"].as_str().unwrap_or_default();
        // Only what a terminal can bear, and not all of it.
        let message: String = message.chars().filter(|c| !c.is_control()).take(200).collect();
        let status = answer.status();
        let said = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => format!("{} does not let us {what}", self.domain),
            StatusCode::NOT_FOUND => format!("{} has no {what}", self.domain),
            StatusCode::TOO_MANY_REQUESTS => format!("{} wants fewer requests", self.domain),
            _ => format!("{} answered {status} to {what}", self.domain),
        };
        let error = Error::new(if message.is_empty() { said } else { format!("{said}: {message}") });
        let login = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) && self.credentials.is_none();
        if login { error.hint(format!("mydocker login {}", self.domain)) } else { error }
    }

    pub fn bad(&self, why: &str) -> Error {
        Error::new(format!("registry {}: {why}", self.domain))
    }

    /// Whether the registry knows these credentials: the empty request of the specification. Gives the token server that it
    /// named for that, if it has one.
    pub fn check(&mut self, user: &str, password: &str) -> Result<Option<String>> {
        self.realm = Realm::Named(None);
        self.credentials = Some(Credentials::Password { user: user.to_owned(), password: password.to_owned() });
        let url = format!("{}/v2/", self.base);
        let answer = self.ask(&Method::GET, &url, &[])?;
        match answer.status() {
            StatusCode::OK => Ok(match &mut self.realm {
                Realm::Named(named) => named.take(),
                Realm::Pinned(_) => None,
            }),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(self.bad("the name or the password is wrong")),
            _ => Err(self.refused("log in", answer)),
        }
    }
}

/// Whether an address is that of a host, given with its scheme, or of something on it.
fn is_below(url: &str, base: &str) -> bool {
    url.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
}

/// A header as text.
pub(super) fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.headers().get(name)?.to_str().ok()
}

/// ureq's errors in words; those of the kernel as it says them.
fn say(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}

/// Registries on this machine speak plain HTTP, as docker has it.
fn is_loopback(domain: &str) -> bool {
    let host = domain.rsplit_once(':').map_or(domain, |(host, _)| host);
    let address = |text: &str| text.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    host == "localhost" || address(host) || domain.strip_prefix('[').and_then(|rest| rest.split(']').next()).is_some_and(address)
}

/// The certificates of the system, and those that docker keeps for one registry.
fn roots(domain: &str) -> Result<RootCerts> {
    let mut all: Vec<Certificate<'static>> =
        rustls_native_certs::load_native_certs().certs.iter().map(|cert| Certificate::from_der(cert).to_owned()).collect();
    if let Ok(pem) = std::fs::read(format!("/etc/docker/certs.d/{domain}/ca.crt")) {
        let bad = |e| Error::new(format!("/etc/docker/certs.d/{domain}/ca.crt: {e}"));
        all.push(Certificate::from_pem(&pem).map_err(bad)?);
    }
    if all.is_empty() {
        return Err(Error::new("this machine has no certificates of authorities").hint("install the package ca-certificates"));
    }
    Ok(RootCerts::new_with_certs(&all))
}

/// The parameters of a challenge: `realm="…",service="…"` (RFC 9110, section 11).
fn parameters(mut text: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    while let Some((name, rest)) = text.split_once('=') {
        let name = name.trim_matches([' ', ',']).to_ascii_lowercase();
        let (value, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => rest.split_once(',').unwrap_or((rest, "")),
        };
        all.push((name, value.to_owned()));
        text = after;
    }
    all
}

/// Percent-encoding (RFC 3986, section 2.1).
pub(super) fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, b| {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(b)),
            _ => out.push_str(&format!("%{b:02X}")),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_taken_apart() {
        let found = parameters(r#"realm="https://host/token",service="a b, c",scope="repository:x:pull,push",error=invalid"#);
        let pairs: Vec<_> = found.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(
            pairs,
            [("realm", "https://host/token"), ("service", "a b, c"), ("scope", "repository:x:pull,push"), ("error", "invalid")]
        );
        assert_eq!(parameters(r#"realm="unclosed"#), [("realm".to_owned(), "unclosed".to_owned())]);
        assert!(parameters("nothing").is_empty());
    }

    #[test]
    fn only_loopback_speaks_plain_http() {
        for domain in ["localhost", "localhost:5000", "127.0.0.1", "127.8.9.1:80", "[::1]:5000"] {
            assert!(is_loopback(domain), "{domain}");
        }
        for domain in ["localhost.example", "128.0.0.1", "127.0.0.1.example:5000", "[::2]:5000", "host"] {
            assert!(!is_loopback(domain), "{domain}");
        }
    }
}
