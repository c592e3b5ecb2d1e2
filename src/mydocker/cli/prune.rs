//! `system prune`, `container prune`, and what all prunes have in common.

use super::filter::Filters;
use super::{doctor, networks, print, stop, time, units, volumes};
use crate::mydocker::container::{Containers, Status};
use crate::mydocker::files::{Dirs, tree};
use crate::mydocker::image::{Images, Removed};
use crate::sys::{Error, Result};
use clap::Args;
use std::io::{ErrorKind, Write};

/// `system prune`.
#[derive(Args, Debug)]
pub struct System {
    /// Remove all unused images not just dangling ones
    #[arg(short, long)]
    pub all: bool,
    /// Provide filter values (e.g. "label=<key>=<value>")
    #[arg(long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    pub force: bool,
    /// Prune anonymous volumes
    #[arg(long)]
    pub volumes: bool,
}

/// `container prune` and `network prune`.
#[derive(Args, Debug)]
pub struct One {
    /// Provide filter values (e.g. "until=<timestamp>")
    #[arg(long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    pub force: bool,
}

/// The filters of containers and networks.
pub const KNOWN: [&str; 3] = ["until", "label", "label!"];

/// Asks on stderr, unless forced; anything but yes, also no answer, ends the command.
pub fn confirm(force: bool, warning: &str, command: &str) -> Result<()> {
    if force {
        return Ok(());
    }
    eprint!("WARNING! {warning}\nAre you sure you want to continue? [y/N] ");
    let _ = std::io::stderr().flush();
    if yes()? { Ok(()) } else { Err(Error::new(format!("{command} has been cancelled"))) }
}

/// Reads the answer to a question; anything but yes is no.
pub fn yes() -> Result<bool> {
    let mut answer = String::new();
    match std::io::stdin().read_line(&mut answer) {
        Ok(_) => Ok(matches!(answer.trim(), "y" | "Y" | "yes" | "Yes")),
        Err(error) if error.kind() == ErrorKind::InvalidData => Ok(false),
        Err(error) => Err(Error::new(format!("read the answer: {error}"))),
    }
}

/// A heading and lines, if there are any.
pub fn listed(heading: &str, lines: impl Iterator<Item = String>) -> Result<()> {
    let lines: String = lines.map(|line| line + "\n").collect();
    if lines.is_empty() { Ok(()) } else { print(&format!("{heading}\n{lines}\n")) }
}

/// Whether something made at `created` is old enough for `until`.
pub fn old_enough(filters: &Filters, created: &str) -> Result<bool> {
    let Some(until) = filters.get("until").first() else { return Ok(true) };
    let until = time::parse(until)?;
    Ok(time::parse_rfc3339(created).is_some_and(|created| created < until))
}

/// `mydocker container prune`.
pub fn containers(args: &One, dirs: &Dirs) -> Result<i32> {
    confirm(args.force, "This will remove all stopped containers.", "container prune")?;
    let freed = remove_containers(dirs, &Filters::parse(&args.filter, &KNOWN)?)?;
    total(freed)
}

fn total(freed: u64) -> Result<i32> {
    print(&format!("Total reclaimed space: {}\n", units::human_size(freed))).map(|()| 0)
}

/// Removes and lists the containers that do not run; the bytes that became free.
fn remove_containers(dirs: &Dirs, filters: &Filters) -> Result<u64> {
    let (mut gone, mut freed) = (Vec::new(), 0_u64);
    for container in Containers::new(dirs).list()? {
        let (Ok(record), Ok(state)) = (container.record(), container.state()) else { continue };
        let stopped = matches!(state.status, Status::Created | Status::Exited | Status::Dead | Status::Removing);
        // One that is just being started is up although its state does not say so yet.
        let idle = stopped && !container.monitored(&state);
        if !idle || !filters.labels(&record.settings.labels) || !old_enough(filters, &record.created)? {
            continue;
        }
        let size = tree::size(&container.upper()).files;
        match stop::remove(&container, false, false) {
            Ok(()) => {
                gone.push(record.id);
                freed = size.saturating_add(freed); // holes of files count too
            }
            Err(error) => eprintln!("mydocker: {error}"),
        }
    }
    listed("Deleted Containers:", gone.into_iter())?;
    Ok(freed)
}

/// `mydocker system prune`.
pub fn system(args: &System, dirs: &Dirs) -> Result<i32> {
    let filters = Filters::parse(&args.filter, &KNOWN)?;
    if args.volumes && !filters.get("until").is_empty() {
        return Err(Error::new("ERROR: The \"until\" filter is not supported with \"--volumes\""));
    }
    let mut warning = "This will remove:\n  - all stopped containers\n  - all networks not used by at least one container\n".to_owned();
    if args.volumes {
        warning += "  - all anonymous volumes not used by at least one container\n";
    }
    warning += if args.all { "  - all images without at least one container associated to them\n" } else { "  - all dangling images\n" };
    confirm(args.force, &warning, "system prune")?;
    doctor::mend_all(dirs)?;
    let mut freed: u64 = remove_containers(dirs, &filters)?;
    networks::remove_unused(dirs, &filters)?;
    if args.volumes {
        freed = freed.saturating_add(volumes::remove_unused(dirs, false, &filters)?);
    }
    total(freed.saturating_add(images(args.all, dirs, &filters)?))
}

fn images(all: bool, dirs: &Dirs, filters: &Filters) -> Result<u64> {
    for text in filters.get("until") {
        time::parse(text)?;
    }
    let kept = |image: &crate::mydocker::image::Image| {
        let labels = image.config.config().as_ref().and_then(|config| config.labels().clone()).unwrap_or_default();
        let wanted = filters.labels(&labels.into_iter().collect());
        let old = image.created().map_or(Ok(true), |created| old_enough(filters, created)).unwrap_or(false);
        (!wanted || !old).then(|| "filter".to_owned())
    };
    let used = |image: &crate::mydocker::image::Image| {
        let id = image.id.to_string();
        // Asked while nobody can begin to use an image. If the containers cannot be read, everything is in use.
        let user = volumes::records(dirs).map(|records| records.into_iter().find(|record| record.image_id == id).map(|record| record.id));
        kept(image).or(user.unwrap_or_else(|error| Some(error.to_string())))
    };
    let (removed, freed) = Images::open(dirs)?.prune(all, &used)?;
    let line = |removed: Removed| match removed {
        Removed::Untagged(name) => format!("untagged: {name}"),
        Removed::Deleted(id) => format!("deleted: {id}"),
    };
    listed("Deleted Images:", removed.into_iter().map(line))?;
    Ok(freed)
}
