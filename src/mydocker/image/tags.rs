//! The tags that a registry has for a repository (distribution specification, "Listing Tags").

use super::http::{Client, header};
use super::{Logins, Reference, blob};
use crate::sys::{Error, Result};
use serde_json::Value;
use ureq::http::{Method, StatusCode};

/// Most pages that are asked for; a registry could go on for ever.
const PAGES_LIMIT: usize = 1000;

/// All tags of the repository in `reference`, sorted.
pub fn tags(reference: &Reference, logins: &Logins) -> Result<Vec<String>> {
    let doing = || format!("list the tags of {}", reference.familiar_repository());
    let mut client = Client::new(reference, logins, "pull")?;
    let mut all: Vec<String> = Vec::new();
    let mut last = String::new();
    for _ in 0..PAGES_LIMIT {
        let mut answer = client.ask(&Method::GET, &client.url(&format!("tags/list?n=1000{last}")), &[])?;
        if answer.status() != StatusCode::OK {
            return Err(client.refused("list the tags", answer).within(doing()));
        }
        // A link to the next page means that there is one; it is asked for by the last tag, so that nobody leads us elsewhere.
        let more = header(&answer, "link").is_some();
        let text = blob::read_limited(answer.body_mut().as_reader(), "the list of tags")?;
        let list: Value = serde_json::from_slice(&text).map_err(|e| Error::new(format!("{}: it is not JSON: {e}", doing())))?;
        let page: Vec<String> = list["tags"].as_array().into_iter().flatten().filter_map(|tag| tag.as_str().map(str::to_owned)).collect();
        let next = page.last().cloned();
        all.extend(page);
        match next {
            Some(next) if more => last = format!("&last={}", super::http::encode(&next)),
            _ => {
                all.sort();
                return Ok(all);
            }
        }
    }
    Err(Error::new(format!("{}: it never ends", doing())))
}
