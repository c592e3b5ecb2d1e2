//! `import`, `load`, `save`: images from and to files.

use super::Show;
use crate::mydocker::cli::print;
use crate::mydocker::files::{self, Dirs, Target};
use crate::mydocker::image::{self, Images, Reference};
use crate::sys::{Context, Error, Result};
use clap::Args;
use std::fs::{self, File};
use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

/// `import`.
#[derive(Args, Debug)]
pub struct Import {
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Set commit message for imported image
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// Set platform
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// The archive, or - for standard input
    file: PathBuf,
    /// The new image's name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

/// `load`.
#[derive(Args, Debug)]
pub struct Load {
    /// Read from tar archive file, instead of STDIN
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Suppress the load output
    #[arg(short, long)]
    quiet: bool,
    /// Load only the given platform
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
}

/// `save`.
#[derive(Args, Debug)]
pub struct Save {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Save only the given platform
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// A file, or standard input for `-`; a terminal gives no archive.
fn source(path: &Path, doing: &str) -> Result<Box<dyn Read + Send>> {
    if path.as_os_str() != "-" {
        return Ok(Box::new(File::open(path).context(|| format!("open {}", path.display()))?));
    }
    if std::io::stdin().is_terminal() {
        return Err(Error::new(format!("requested {doing} from stdin, but stdin is empty")).hint("it is a terminal: redirect a file to it"));
    }
    Ok(Box::new(std::io::stdin()))
}

/// Gives `write` the file, or standard output unless that is a terminal. A file appears whole or not at all, for its owner alone.
pub fn sink(path: Option<&Path>, doing: &str, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let Some(path) = path else {
        if std::io::stdout().is_terminal() {
            return Err(Error::new(format!("cowardly refusing to {doing} to a terminal")).hint("use the -o flag or redirect"));
        }
        return write(&mut std::io::stdout().lock());
    };
    let what = || format!("write {}", path.display());
    let path = match files::target(path)? {
        Target::File(path) => path,
        Target::Node => return write(&mut fs::OpenOptions::new().write(true).open(path).context(what)?),
    };
    let name = path.file_name().ok_or_else(|| Error::new(format!("{} is not the name of a file", path.display())))?;
    let temporary = path.with_file_name(format!(".{}.{}", name.to_string_lossy(), files::random(8)));
    let mut options = fs::OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::mode(options.write(true).create_new(true), 0o600);
    let mut file = options.open(&temporary).context(what)?;
    let done = write(&mut file).and_then(|()| file.sync_data().and_then(|()| fs::rename(&temporary, &path)).context(what));
    done.inspect_err(|_| drop(fs::remove_file(&temporary)))
}

/// `mydocker import`.
pub fn import(args: &Import, dirs: &Dirs) -> Result<i32> {
    super::own_platform(args.platform.as_deref())?;
    let name = args.name.as_deref().map(Reference::parse).transpose()?;
    let from = args.file.to_string_lossy();
    if from.starts_with("http://") || from.starts_with("https://") {
        return Err(Error::new(format!("import does not fetch {from}")).hint(format!("curl -L {from} | mydocker import -")));
    }
    let source = source(&args.file, "import")?;
    let images = Images::open(dirs)?;
    let asked = image::Import { reference: name.as_ref(), changes: &args.change, message: args.message.as_deref() };
    let mut show = Show::bars();
    let image = images.import(source, &asked, &mut |progress| show.watch(progress)).map_err(|e| e.within(format!("import {from}")))?;
    show.finish();
    print(&format!("{}\n", image.id))?;
    Ok(0)
}

/// `mydocker load`.
pub fn load(args: &Load, dirs: &Dirs) -> Result<i32> {
    super::own_platform(args.platform.as_deref())?;
    let from = args.input.as_deref().unwrap_or(Path::new("-"));
    let source = source(from, "load")?;
    let images = Images::open(dirs)?;
    let mut show = if args.quiet { Show::lines(true) } else { Show::bars() };
    let loaded = images.load(source, &mut |progress| show.watch(progress));
    let loaded = loaded.map_err(|e| e.within(if args.input.is_some() { format!("load {}", from.display()) } else { "load".into() }))?;
    show.finish();
    let mut text = String::new();
    for image in &loaded {
        match image.names.as_slice() {
            [] => text += &format!("Loaded image ID: {}\n", image.id),
            names => text.extend(names.iter().map(|name| format!("Loaded image: {}\n", name.familiar()))),
        }
    }
    print(&text)?;
    Ok(0)
}

/// `mydocker save`.
pub fn save(args: &Save, dirs: &Dirs) -> Result<i32> {
    super::own_platform(args.platform.as_deref())?;
    let images = Images::open(dirs)?;
    // Before anything is written.
    args.images.iter().try_for_each(|name| images.resolve(name).map(drop))?;
    let names: Vec<&str> = args.images.iter().map(String::as_str).collect();
    let mut show = Show::bars();
    sink(args.output.as_deref(), "save", |out| images.save(&names, out, &mut |progress| show.watch(progress)))?;
    show.finish();
    Ok(0)
}
