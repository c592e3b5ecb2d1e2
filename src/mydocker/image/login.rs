//! Credentials for registries, in the file that docker, podman and others share: `~/.docker/config.json`.

use super::reference::DEFAULT_DOMAIN;
use crate::mydocker::files::{self, Lock, Target};
use crate::sys::{Context, Error, Result};
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value, json};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The file with the credentials.
#[derive(Clone, Debug)]
pub struct Logins {
    file: PathBuf,
}

/// How to prove who we are.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credentials {
    Password {
        user: String,
        password: String,
    },
    /// A refresh token for the token server.
    Token(String),
}

/// The key of a registry's entry under which the address of its token server is kept; others do not know it.
const REALM: &str = "realm";

/// What helpers answer instead of a user when they give a token.
const TOKEN_USER: &str = "<token>";

impl Logins {
    /// `$DOCKER_CONFIG/config.json`, or the one in the home directory.
    pub fn of_user() -> Result<Self> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let dir = variable("DOCKER_CONFIG").or_else(|| variable("HOME").map(|home| home.join(".docker")));
        let dir = dir.ok_or_else(|| Error::new("there is no home directory").hint("set HOME or DOCKER_CONFIG"))?;
        Ok(Self::at(dir.join("config.json")))
    }

    /// Another file.
    pub fn at(file: PathBuf) -> Self {
        Self { file }
    }

    /// Where they are.
    pub fn file(&self) -> &Path {
        &self.file
    }

    fn read(&self) -> Result<Map<String, Value>> {
        Ok(files::read_json(&self.file)?.unwrap_or_default())
    }

    /// What is known for a registry: of its helper if one is configured, else of the file.
    pub(super) fn find(&self, domain: &str) -> Result<Option<Credentials>> {
        let config = self.read()?;
        let of_domain = config.get("credHelpers").and_then(|helpers| helpers.get(domain)).and_then(Value::as_str);
        let helper = of_domain.or_else(|| config.get("credsStore").and_then(Value::as_str)).filter(|helper| !helper.is_empty());
        if let Some(found) = helper.map(|helper| ask(helper, domain)).transpose()?.flatten() {
            return Ok(Some(found));
        }
        let Some(auths) = config.get("auths").and_then(Value::as_object) else { return Ok(None) };
        let Some((_, entry)) = auths.iter().find(|(key, _)| host_of(key) == canonical(domain)) else { return Ok(None) };
        let text = |key: &str| entry.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        if let Some(token) = text("identitytoken") {
            return Ok(Some(Credentials::Token(token.to_owned())));
        }
        let bad = || Error::new(format!("the credentials for {domain} in {} cannot be read", self.file.display()));
        let Some(auth) = text("auth") else {
            let pair = text("username").zip(text("password"));
            return Ok(pair.map(|(user, password)| Credentials::Password { user: user.to_owned(), password: password.to_owned() }));
        };
        let pair = String::from_utf8(BASE64.decode(auth).map_err(|_| bad())?).map_err(|_| bad())?;
        let (user, password) = pair.split_once(':').ok_or_else(bad)?;
        // Some pad the password with NUL.
        Ok(Some(Credentials::Password { user: user.to_owned(), password: password.trim_end_matches('\0').to_owned() }))
    }

    /// The token server that the registry named when we logged in to it.
    pub(super) fn realm(&self, domain: &str) -> Result<Option<String>> {
        let config = self.read()?;
        let auths = config.get("auths").and_then(Value::as_object).into_iter().flatten();
        let found = auths.filter(|(key, _)| host_of(key) == canonical(domain)).find_map(|(_, entry)| entry.get(REALM)?.as_str());
        Ok(found.map(str::to_owned))
    }

    /// Stores a password, readable by its owner only, with the token server that it may be sent to.
    pub(super) fn store(&self, domain: &str, user: &str, password: &str, realm: Option<&str>) -> Result<()> {
        self.change(|auths| {
            auths.retain(|key, _| host_of(key) != canonical(domain));
            let mut entry = json!({"auth": basic(user, password)});
            if let Some(realm) = realm {
                entry[REALM] = realm.into();
            }
            auths.insert(key_of(domain), entry);
            true
        })
        .map(drop)
    }

    /// Forgets a registry; tells whether there was anything to forget.
    pub fn remove(&self, domain: &str) -> Result<bool> {
        if !self.file.exists() {
            return Ok(false);
        }
        self.change(|auths| {
            let before = auths.len();
            auths.retain(|key, _| host_of(key) != canonical(domain));
            auths.len() != before
        })
    }

    /// Changes the member `auths`, and leaves everything else in the file as it is.
    fn change(&self, change: impl FnOnce(&mut Map<String, Value>) -> bool) -> Result<bool> {
        let dir = self.file.parent().unwrap_or(Path::new("/"));
        files::make_dir(dir)?;
        let _lock = Lock::dir(dir)?;
        let mut config = self.read()?;
        let auths = config.entry("auths").or_insert_with(|| json!({})).as_object_mut();
        let changed = change(auths.ok_or_else(|| Error::new(format!("read {}: auths is no object", self.file.display())))?);
        if changed {
            let text = serde_json::to_vec_pretty(&config).map_err(|e| Error::new(format!("write {}: {e}", self.file.display())))?;
            self.write(&text)?;
        }
        Ok(changed)
    }

    fn write(&self, text: &[u8]) -> Result<()> {
        // Where the file is a link, of somebody who keeps such files elsewhere, the link stays.
        let Target::File(file) = files::target(&self.file)? else {
            return Err(Error::new(format!("{} is no file", self.file.display())));
        };
        let temporary = file.with_extension(files::random(8));
        let open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary);
        let done = open.and_then(|mut out| {
            out.write_all(text)?;
            out.sync_data()?;
            fs::rename(&temporary, &file)
        });
        done.inspect_err(|_| drop(fs::remove_file(&temporary))).context(|| format!("write {}", file.display()))
    }
}

/// The default registry's entry has always had an address of its own.
fn key_of(domain: &str) -> String {
    if domain == DEFAULT_DOMAIN { format!("https://index.{DEFAULT_DOMAIN}/v1/") } else { domain.to_owned() }
}

/// The host in a key of the file: some have a scheme or a path around it.
fn host_of(key: &str) -> &str {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    canonical(key.split('/').next().unwrap_or(key))
}

fn canonical(domain: &str) -> &str {
    match domain.strip_prefix("index.").or_else(|| domain.strip_prefix("registry-1.")) {
        Some(DEFAULT_DOMAIN) => DEFAULT_DOMAIN,
        _ => domain,
    }
}

/// Asks a credential helper, `docker-credential-NAME get`: the registry on its input, JSON on its output.
fn ask(helper: &str, domain: &str) -> Result<Option<Credentials>> {
    if !helper.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        return Err(Error::new(format!("{helper:?} is not the name of a credential helper")));
    }
    let program = format!("docker-credential-{helper}");
    let what = || format!("ask {program} for the credentials of {domain}");
    let spawn = Command::new(&program).arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut child = spawn.context(what)?;
    if let Some(mut input) = child.stdin.take() {
        let _ = input.write_all(key_of(domain).as_bytes()); // it may know without asking
    }
    let said = child.wait_with_output().context(what)?;
    if !said.status.success() {
        return Ok(None); // it has none
    }
    let answer: Value = serde_json::from_slice(&said.stdout).map_err(|e| Error::new(format!("{}: {e}", what())))?;
    let text = |key: &str| answer.get(key).and_then(Value::as_str).map(str::to_owned);
    Ok(text("Username").zip(text("Secret")).map(|(user, password)| match user.as_str() {
        TOKEN_USER => Credentials::Token(password),
        _ => Credentials::Password { user, password },
    }))
}

/// RFC 4648, section 4; what is read may lack its padding, as some credential helpers' files do.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));

/// A user and a password as HTTP's and docker's files have them.
pub(super) fn basic(user: &str, password: &str) -> String {
    BASE64.encode(format!("{user}:{password}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_is_replaced() {
        let dir = std::env::temp_dir().join(format!("mydocker-login-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let (file, elsewhere) = (dir.join("config.json"), dir.join("elsewhere.json"));
        std::os::unix::fs::symlink(&elsewhere, &file).unwrap();
        let logins = Logins::at(file.clone());
        // A link to nothing would itself become the file; one to a file stays.
        let said = logins.store("host", "me", "pw", None).unwrap_err().to_string();
        let left = fs::read_dir(&dir).unwrap().count();
        fs::write(&elsewhere, "{}").unwrap();
        let stored = logins.store("host", "me", "pw", None);
        let (link, text) = (fs::symlink_metadata(&file).unwrap().is_symlink(), fs::read_to_string(&elsewhere).unwrap());
        fs::remove_dir_all(&dir).unwrap();
        assert!(said.ends_with("config.json is a link to nothing") && left == 1, "{said}");
        stored.unwrap();
        assert!(link && text.contains("\"host\""), "{text}");
    }
}
