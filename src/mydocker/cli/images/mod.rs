//! Commands on images.

mod archives;
mod list;
mod registry;
mod remove;
mod show;

pub use archives::sink;
pub use registry::obtain;
pub use show::Show;

use crate::mydocker::files::Dirs;
use crate::mydocker::image::{Image, Images, Reference, architecture};
use crate::mydocker::userns::has_one_id;
use crate::sys::{Error, Result};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// The commands on images, as they are at the top.
#[derive(Debug, Subcommand)]
pub enum Command {
    #[command(flatten)]
    Both(Both),
    /// List images
    Images(list::List),
    /// Remove one or more images
    Rmi(remove::Remove),
    /// Authenticate to a registry
    Login(registry::Login),
    /// Log out from a registry
    Logout(registry::Logout),
    /// Manage images
    Image {
        /// What to do
        #[command(subcommand)]
        command: Group,
    },
}

/// Those that have the same name at the top and below `image`.
#[derive(Debug, Subcommand)]
pub enum Both {
    /// Show the history of an image
    History(list::History),
    /// Import the contents from a tarball to create a filesystem image
    Import(archives::Import),
    /// Load an image from a tar archive or STDIN
    Load(archives::Load),
    /// Download an image from a registry
    Pull(registry::Pull),
    /// Upload an image to a registry
    Push(registry::Push),
    /// Save one or more images to a tar archive (streamed to STDOUT by default)
    Save(archives::Save),
    /// Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE
    Tag(Tag),
}

/// Those below `image`.
#[derive(Debug, Subcommand)]
pub enum Group {
    #[command(flatten)]
    Both(Both),
    /// List images
    #[command(visible_alias = "list")]
    Ls(list::List),
    /// Remove one or more images
    #[command(visible_alias = "remove")]
    Rm(remove::Remove),
    /// Remove unused images
    Prune(remove::Prune),
    /// Display detailed information on one or more images
    Inspect(Inspect),
}

/// `tag`.
#[derive(Args, Debug)]
pub struct Tag {
    /// The image
    #[arg(value_name = "SOURCE_IMAGE")]
    pub source: String,
    /// Its new name
    #[arg(value_name = "TARGET_IMAGE")]
    pub target: String,
}

/// `image inspect`.
#[derive(Args, Debug)]
pub struct Inspect {
    /// Format output using a Go template, or json
    #[arg(short, long, value_name = "TEMPLATE")]
    pub format: Option<String>,
    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
}

/// Runs one command; the exit code.
pub fn run(command: &Command, dirs: &Dirs) -> Result<i32> {
    match command {
        Command::Both(command) | Command::Image { command: Group::Both(command) } => both(command, dirs),
        Command::Images(args) | Command::Image { command: Group::Ls(args) } => list::list(args, dirs),
        Command::Rmi(args) | Command::Image { command: Group::Rm(args) } => remove::remove(args, dirs),
        Command::Login(args) => registry::login(args),
        Command::Logout(args) => registry::logout(args),
        Command::Image { command: Group::Prune(args) } => remove::prune(args, dirs),
        Command::Image { command: Group::Inspect(args) } => inspect(args, dirs),
    }
}

fn both(command: &Both, dirs: &Dirs) -> Result<i32> {
    match command {
        Both::History(args) => list::history(args, dirs),
        Both::Import(args) => archives::import(args, dirs),
        Both::Load(args) => archives::load(args, dirs),
        Both::Pull(args) => registry::pull(args, dirs),
        Both::Push(args) => registry::push(args, dirs),
        Both::Save(args) => archives::save(args, dirs),
        Both::Tag(args) => Images::open(dirs)?.tag(&args.source, &Reference::parse(&args.target)?).map(|()| 0),
    }
}

fn inspect(args: &Inspect, dirs: &Dirs) -> Result<i32> {
    let images = Images::open(dirs)?;
    let mut found = Vec::new();
    let code = super::each(&args.images, |name| {
        found.push(value(&images, &images.resolve(name)?)?);
        Ok(())
    })?;
    super::print(&super::template::inspect(args.format.as_deref(), &found)?)?;
    Ok(code)
}

/// An image is for this machine alone; another platform is refused.
fn own_platform(platform: Option<&str>) -> Result<()> {
    let own = format!("linux/{}", architecture());
    match platform {
        Some(asked) if asked != own && asked != "linux" => {
            Err(Error::new(format!("--platform {asked} is not supported: images here are for {own}")))
        }
        _ => Ok(()),
    }
}

/// Its layers' directories, topmost first.
pub fn unpack(images: &Images, image: &Image) -> Result<Vec<PathBuf>> {
    let mut show = Show::bars();
    let mut lost = has_one_id();
    let layers = images.layers(image, &mut |progress| {
        if std::mem::take(&mut lost) {
            eprintln!("WARNING: without ranges in /etc/subuid and /etc/subgid all files of the image get the one owner 0");
        }
        show.watch(progress);
    })?;
    show.finish();
    Ok(layers)
}

/// As docker shows it.
pub fn value(images: &Images, image: &Image) -> Result<serde_json::Value> {
    use serde_json::json;
    let layers = images.layers(image, &mut |_| {}).unwrap_or_default();
    let path = |layer: &PathBuf| layer.to_string_lossy().into_owned();
    let mut driver = json!({"LowerDir": layers.iter().skip(1).map(path).collect::<Vec<_>>().join(":")});
    if let Some(top) = layers.first() {
        driver["UpperDir"] = json!(path(top));
    }
    let comment = image.config.history().iter().flatten().next_back().and_then(|step| step.comment().clone());
    Ok(json!({
        "Id": image.id.to_string(),
        "RepoTags": image.names.iter().map(Reference::familiar).collect::<Vec<_>>(),
        "RepoDigests": image.digests.iter().map(Reference::familiar).collect::<Vec<_>>(),
        "Comment": comment.unwrap_or_default(),
        "Created": image.created(),
        "Author": image.raw["author"].as_str().unwrap_or_default(),
        "Architecture": image.raw["architecture"],
        "Variant": image.raw["variant"].as_str().unwrap_or_default(),
        "Os": image.raw["os"],
        "Size": images.size(image),
        "Config": image.raw["config"],
        "GraphDriver": {"Name": "overlay", "Data": driver},
        "RootFS": {"Type": "layers", "Layers": image.diff_ids()},
        "Descriptor": {"mediaType": image.manifest.media_type(), "digest": image.digest.to_string()},
    }))
}
