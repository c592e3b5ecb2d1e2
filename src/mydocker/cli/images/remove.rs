//! `rmi`, `image prune`: what becomes of images that nobody wants.

use crate::mydocker::cli::filter::Filters;
use crate::mydocker::cli::{each, print, time, units};
use crate::mydocker::container::{Containers, Record};
use crate::mydocker::files::Dirs;
use crate::mydocker::image::{Image, Images, Removed};
use crate::sys::{Error, Result};
use clap::Args;
use std::cell::OnceCell;
use std::io::{BufRead, Write};

/// `rmi`.
#[derive(Args, Debug)]
pub struct Remove {
    /// Force removal of the image
    #[arg(short, long)]
    force: bool,
    /// Do not delete untagged parents (there are none here: an image has all its layers itself)
    #[arg(long)]
    no_prune: bool,
    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// `image prune`.
#[derive(Args, Debug)]
pub struct Prune {
    /// Remove all unused images, not just dangling ones
    #[arg(short, long)]
    all: bool,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
    /// Provide filter values (e.g. "until=24h")
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
}

/// Tells which container uses an image. The records are read once, when it is first asked: whoever removes images asks while
/// nobody can begin to use one.
pub fn users(containers: &Containers) -> impl Fn(&Image) -> Option<String> {
    let records: OnceCell<Vec<Record>> = OnceCell::new();
    move |image| {
        // One that cannot be read is being removed.
        let read = || containers.list().unwrap_or_default().iter().filter_map(|container| container.record().ok()).collect();
        let records = records.get_or_init(read);
        records.iter().find(|record| record.image_id == image.id.as_str()).map(|record| record.short().to_owned())
    }
}

fn told(removed: &[Removed], untagged: &str, deleted: &str) -> String {
    let line = |removed: &Removed| match removed {
        Removed::Untagged(name) => format!("{untagged}: {name}\n"),
        Removed::Deleted(id) => format!("{deleted}: {id}\n"),
    };
    removed.iter().map(line).collect()
}

/// `mydocker rmi`.
pub fn remove(args: &Remove, dirs: &Dirs) -> Result<i32> {
    let (images, containers) = (Images::open(dirs)?, Containers::new(dirs));
    each(&args.images, |name| {
        // docker's rmi -f is content if there is nothing to remove, and says so.
        if args.force && matches!(images.find(name), Ok(None)) {
            eprintln!("Error: no such image: {name}");
            return Ok(());
        }
        print(&told(&images.remove(name, args.force, &users(&containers))?, "Untagged", "Deleted"))
    })
}

/// Asks on the terminal; only `y` is yes.
fn confirmed(warning: &str) -> Result<bool> {
    eprint!("WARNING! {warning}\nAre you sure you want to continue? [y/N] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(|e| Error::new(format!("read the answer: {e}")))?;
    Ok(matches!(answer.trim(), "y" | "Y"))
}

/// `mydocker image prune`.
pub fn prune(args: &Prune, dirs: &Dirs) -> Result<i32> {
    let filters = Filters::parse(&args.filter, &["dangling", "label", "label!", "until"])?;
    let all = args.all || filters.flag("dangling")? == Some(false);
    let until = filters.get("until").iter().map(|text| time::parse(text)).collect::<Result<Vec<_>>>()?;
    let warning = if all {
        "This will remove all images without at least one container associated to them."
    } else {
        "This will remove all dangling images."
    };
    if !args.force && !confirmed(warning)? {
        return Ok(0);
    }
    let (images, containers) = (Images::open(dirs)?, Containers::new(dirs));
    let used = users(&containers);
    // What the filters leave out is treated as used.
    let kept = |image: &Image| {
        let created = image.created().and_then(time::parse_rfc3339).unwrap_or(0);
        let fits = filters.labels(&super::list::labels(image)) && until.iter().all(|until| created < *until);
        if fits { used(image) } else { Some(String::new()) }
    };
    let (removed, bytes) = images.prune(all, &kept)?;
    if !removed.is_empty() {
        print(&format!("Deleted Images:\n{}\n", told(&removed, "untagged", "deleted")))?;
    }
    print(&format!("Total reclaimed space: {}\n", units::human_size(bytes)))?;
    Ok(0)
}
