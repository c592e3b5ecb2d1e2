//! Commands on images.

use crate::mydocker::files::Dirs;
use crate::mydocker::image::{Image, Images, Import, Reference};
use crate::sys::{Context, Error, Result};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// The commands on images.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Import the contents from a tarball to create a filesystem image
    Import(ImportArgs),
}

/// `import`.
#[derive(Args, Debug)]
pub struct ImportArgs {
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub change: Vec<String>,
    /// Set commit message for imported image
    #[arg(short, long, value_name = "TEXT")]
    pub message: Option<String>,
    /// The archive, or - for standard input
    pub file: PathBuf,
    /// The new image's name
    pub name: Option<String>,
}

/// Runs one command; the exit code.
pub fn run(command: &Command, dirs: &Dirs) -> Result<i32> {
    match command {
        Command::Import(args) => import(args, dirs),
    }
}

fn import(args: &ImportArgs, dirs: &Dirs) -> Result<i32> {
    let name = args.name.as_deref().map(Reference::parse).transpose()?;
    let images = Images::open(dirs)?;
    let asked = Import { reference: name.as_ref(), changes: &args.change, message: args.message.as_deref() };
    let image = if args.file.as_os_str() == "-" {
        images.import(std::io::stdin(), &asked, &mut |_| {})?
    } else {
        let file = std::fs::File::open(&args.file).context(|| format!("open {}", args.file.display()))?;
        images.import(file, &asked, &mut |_| {})?
    };
    super::print(&format!("{}\n", image.id))?;
    Ok(0)
}

/// The image for `run` and `create`, by `--pull`'s policy.
pub fn obtain(images: &Images, name: &str, _policy: &str, _quiet: bool) -> Result<Image> {
    match images.find(name)? {
        Some(image) => Ok(image),
        None => Err(Error::new(format!("no such image: {name}"))),
    }
}

/// Its layers' directories, topmost first.
pub fn unpack(images: &Images, image: &Image) -> Result<Vec<PathBuf>> {
    images.layers(image, &mut |_| {})
}

/// As docker shows it.
pub fn value(images: &Images, image: &Image) -> Result<serde_json::Value> {
    use serde_json::json;
    let config = &image.raw["config"];
    Ok(json!({
        "Id": image.id.to_string(),
        "RepoTags": image.names.iter().map(Reference::familiar).collect::<Vec<_>>(),
        "RepoDigests": image.digests.iter().map(Reference::familiar).collect::<Vec<_>>(),
        "Created": image.created(),
        "Architecture": image.raw["architecture"],
        "Os": image.raw["os"],
        "Author": image.raw["author"],
        "Size": images.size(image),
        "Config": config,
        "RootFS": {"Type": "layers", "Layers": image.diff_ids()},
    }))
}
