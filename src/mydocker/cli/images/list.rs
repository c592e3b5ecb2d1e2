//! `images`, `history`: what there is.

use crate::mydocker::cli::filter::Filters;
use crate::mydocker::cli::{print, template, time, units};
use crate::mydocker::files::Dirs;
use crate::mydocker::image::{Image, Images, Reference};
use crate::sys::{Error, Result};
use clap::Args;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// `images`.
#[derive(Args, Debug)]
pub struct List {
    /// Show all images (there are no intermediate ones here, so this changes nothing)
    #[arg(short, long)]
    all: bool,
    /// Show digests
    #[arg(long)]
    digests: bool,
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Format output using a Go template, or json
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
    /// Only these: a name, or a pattern with * and ?
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

/// `history`.
#[derive(Args, Debug)]
pub struct History {
    /// Format output using a Go template, or json
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Print sizes and dates in human readable format
    #[arg(short = 'H', long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set)]
    human: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
    /// Name or id
    image: String,
}

const NONE: &str = "<none>";

/// The labels of the image's configuration.
pub fn labels(image: &Image) -> BTreeMap<String, String> {
    let labels = image.raw["config"]["Labels"].as_object();
    labels.into_iter().flatten().map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
}

fn created(image: &Image) -> Option<time::Nanos> {
    image.created().and_then(time::parse_rfc3339)
}

/// `2026-11-21 10:32:31 +0000 UTC`, as Go prints a time.
fn go_time(time: time::Nanos) -> String {
    format!("{} +0000 UTC", time::rfc3339nano(time)[..19].replace('T', " "))
}

/// A name by which an image is listed: repository, tag, digest.
struct Name {
    reference: Option<Reference>,
    repository: String,
    tag: String,
    digest: String,
}

fn names(image: &Image) -> Vec<Name> {
    let digest_of = |repository: &str| {
        let found = image.digests.iter().find(|other| other.repository() == repository).and_then(Reference::digest);
        found.map_or_else(|| NONE.to_owned(), ToString::to_string)
    };
    let name = |reference: &Reference| Name {
        repository: reference.familiar_repository(),
        tag: reference.tag().unwrap_or(NONE).to_owned(),
        digest: digest_of(&reference.repository()),
        reference: Some(reference.clone()),
    };
    let mut all: Vec<Name> = image.names.iter().map(name).collect();
    // A digest of a repository that has no tag is a line of its own.
    let untagged = |other: &&Reference| !image.names.iter().any(|name| name.repository() == other.repository());
    all.extend(image.digests.iter().filter(untagged).map(name));
    if all.is_empty() {
        all.push(Name { reference: None, repository: NONE.into(), tag: NONE.into(), digest: NONE.into() });
    }
    all
}

/// Whether a pattern of `images PATTERN` or `reference=PATTERN` means a name: `*` and `?` do not cross a slash.
fn means(pattern: &str, name: &Name) -> bool {
    let Some(reference) = &name.reference else { return false };
    let texts = [reference.familiar(), reference.familiar_repository(), reference.to_string(), reference.repository()];
    texts.iter().any(|text| matches(pattern.as_bytes(), text.as_bytes()))
}

fn matches(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            let reach = text.iter().position(|b| *b == b'/').unwrap_or(text.len());
            (0..=reach).any(|skip| matches(rest, &text[skip..]))
        }
        (Some((b'?', rest)), Some((byte, text))) => *byte != b'/' && matches(rest, text),
        (Some((wanted, rest)), Some((byte, text))) => wanted == byte && matches(rest, text),
        _ => false,
    }
}

/// The points in time of `before=` and `since=`, which name images, and of `until=`.
struct Bounds {
    before: Vec<time::Nanos>,
    since: Vec<time::Nanos>,
}

impl Bounds {
    fn new(filters: &Filters, images: &Images) -> Result<Self> {
        let of = |key: &str| -> Result<Vec<time::Nanos>> {
            filters.get(key).iter().map(|name| images.resolve(name).map(|image| created(&image).unwrap_or(0))).collect()
        };
        let mut before = of("before")?;
        for text in filters.get("until") {
            before.push(time::parse(text)?);
        }
        Ok(Self { before, since: of("since")? })
    }

    fn hold(&self, image: &Image) -> bool {
        let at = created(image).unwrap_or(0);
        self.before.iter().all(|before| at < *before) && self.since.iter().all(|since| at > *since)
    }
}

/// `mydocker images`.
pub fn list(args: &List, dirs: &Dirs) -> Result<i32> {
    let filters = Filters::parse(&args.filter, &["before", "dangling", "label", "label!", "reference", "since", "until"])?;
    let images = Images::open(dirs)?;
    let (dangling, bounds) = (filters.flag("dangling")?, Bounds::new(&filters, &images)?);
    let mut all = images.list()?;
    all.sort_by_key(|image| std::cmp::Reverse(created(image)));
    for (name, why) in images.damaged()? {
        eprintln!("WARNING: the image {name} cannot be read: {why}");
    }
    let mut rows = Vec::new();
    let mut ids: Vec<String> = Vec::new();
    for image in all {
        if !bounds.hold(&image) || !filters.labels(&labels(&image)) || dangling.is_some_and(|wanted| wanted != image.names.is_empty()) {
            continue;
        }
        let asked = |name: &Name| {
            filters.any("reference", |pattern| means(pattern, name)) && args.name.as_deref().is_none_or(|pattern| means(pattern, name))
        };
        let kept: Vec<Name> = names(&image).into_iter().filter(asked).collect();
        if !kept.is_empty() {
            ids.push(if args.no_trunc { image.id.to_string() } else { image.id.short().to_owned() });
        }
        rows.extend(kept.iter().map(|name| row(&images, &image, name, args.no_trunc)));
    }
    if args.quiet && args.format.is_none() {
        ids.dedup();
        print(&ids.iter().map(|id| format!("{id}\n")).collect::<String>())?;
        return Ok(0);
    }
    let digest = if args.digests { "\t{{.Digest}}" } else { "" };
    let default = format!("table {{{{.Repository}}}}\t{{{{.Tag}}}}{digest}\t{{{{.ID}}}}\t{{{{.CreatedSince}}}}\t{{{{.Size}}}}");
    let headings = [("ID", "IMAGE ID"), ("CreatedSince", "CREATED"), ("CreatedAt", "CREATED AT")];
    print(&template::list(args.format.as_deref(), &default, &headings, &rows)?)?;
    Ok(0)
}

fn row(images: &Images, image: &Image, name: &Name, whole: bool) -> Value {
    let at = created(image);
    let size = units::human_size(images.size(image));
    json!({
        "ID": if whole { image.id.as_str() } else { image.id.short() },
        "Repository": name.repository,
        "Tag": name.tag,
        "Digest": name.digest,
        "CreatedAt": at.map_or_else(|| "N/A".to_owned(), go_time),
        "CreatedSince": at.map_or_else(|| "N/A".to_owned(), |at| format!("{} ago", units::human_duration(time::since(at)))),
        "Size": size,
        "VirtualSize": size,
        "SharedSize": "N/A",
        "UniqueSize": "N/A",
        "Containers": "N/A",
    })
}

/// `mydocker history`.
pub fn history(args: &History, dirs: &Dirs) -> Result<i32> {
    let images = Images::open(dirs)?;
    let image = images.resolve(&args.image)?;
    let id = if args.no_trunc { image.id.as_str() } else { image.id.short() };
    let mut rows = Vec::new();
    let steps = images.history(&image);
    for (at, (step, size)) in steps.iter().enumerate() {
        let time = step.created().as_deref().and_then(time::parse_rfc3339);
        let by = step.created_by().clone().unwrap_or_default().replace('\t', " ");
        let cut = !args.no_trunc && by.chars().count() > 45;
        rows.push(json!({
            // Only the last step is an image of its own.
            "ID": if at == 0 { id } else { "<missing>" },
            "CreatedAt": time.map(time::rfc3339nano).unwrap_or_default(),
            "CreatedSince": time.map_or_else(|| "N/A".to_owned(), |at| format!("{} ago", units::human_duration(time::since(at)))),
            "CreatedBy": if cut { by.chars().take(44).chain(['…']).collect() } else { by },
            "Size": if args.human { units::human_size(*size) } else { size.to_string() },
            "Comment": step.comment().clone().unwrap_or_default(),
        }));
    }
    if rows.is_empty() {
        return Err(Error::new(format!("the image {} has no history", args.image)));
    }
    if args.quiet && args.format.is_none() {
        print(&rows.iter().map(|row| format!("{}\n", row["ID"].as_str().unwrap_or_default())).collect::<String>())?;
        return Ok(0);
    }
    let created = if args.human { "CreatedSince" } else { "CreatedAt" };
    let default = format!("table {{{{.ID}}}}\t{{{{.{created}}}}}\t{{{{.CreatedBy}}}}\t{{{{.Size}}}}\t{{{{.Comment}}}}");
    let headings = [("ID", "IMAGE"), ("CreatedSince", "CREATED"), ("CreatedAt", "CREATED AT"), ("CreatedBy", "CREATED BY")];
    print(&template::list(args.format.as_deref(), &default, &headings, &rows)?)?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_do_not_cross_a_slash() {
        for (pattern, text, fits) in [
            ("busybox", "busybox", true),
            ("busy*", "busybox:latest", true),
            ("busy*", "busy/box", false),
            ("*/box", "busy/box", true),
            ("b?x:*", "box:1", true),
            ("b?x", "b/x", false),
            ("", "x", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), fits, "{pattern} {text}");
        }
    }
}
