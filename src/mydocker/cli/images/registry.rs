//! `pull`, `push`, `login`, `logout`, and the image that `run` asks for.

use super::Show;
use crate::mydocker::cli::print;
use crate::mydocker::files::Dirs;
use crate::mydocker::image::{self, DEFAULT_DOMAIN, Image, Images, Logins, Pulled, Reference};
use crate::sys::{Context, Error, Result};
use clap::Args;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use std::io::{BufRead, IsTerminal, Read, Write};

/// `pull`.
#[derive(Args, Debug)]
pub struct Pull {
    /// Download all tagged images in the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Suppress verbose output
    #[arg(short, long)]
    quiet: bool,
    /// Set platform
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// The image
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    name: String,
}

/// `push`.
#[derive(Args, Debug)]
pub struct Push {
    /// Push all tags of an image to the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Suppress verbose output
    #[arg(short, long)]
    quiet: bool,
    /// The image
    #[arg(value_name = "NAME[:TAG]")]
    name: String,
}

/// `login`.
#[derive(Args, Debug)]
pub struct Login {
    /// Password or Personal Access Token (PAT)
    #[arg(short, long, conflicts_with = "password_stdin")]
    password: Option<String>,
    /// Take the Password or Personal Access Token (PAT) from stdin
    #[arg(long)]
    password_stdin: bool,
    /// Username
    #[arg(short, long)]
    username: Option<String>,
    /// The registry
    server: Option<String>,
}

/// `logout`.
#[derive(Args, Debug)]
pub struct Logout {
    /// The registry
    server: Option<String>,
}

/// The image for `run` and `create`, by `--pull`'s policy. `busybox` is made of this machine's own where it is missing.
pub fn obtain(images: &Images, name: &str, policy: &str, quiet: bool) -> Result<Image> {
    if policy != "always"
        && let Some(image) = images.find(name)?
    {
        return Ok(image);
    }
    let reference = Reference::parse(name)?;
    let mut offline = None;
    if policy != "always" && reference.familiar() == "busybox:latest" {
        match images.ensure_busybox() {
            Err(error) if policy != "never" => offline = Some(error),
            made => return made,
        }
    }
    if policy == "never" {
        return Err(Error::new(format!("no such image: {}", reference.familiar())).hint("--pull=never forbids to get it"));
    }
    let mut show = Show::lines(quiet);
    if policy == "missing" {
        show.line(&format!("Unable to find image '{}' locally", reference.familiar()));
    }
    match fetch(images, &reference, &mut show) {
        Ok(pulled) => {
            show.finish();
            if !quiet {
                eprintln!("Digest: {}\nStatus: {}", pulled.digest, status(&pulled, &reference));
            }
            Ok(pulled.image)
        }
        // What would have helped without a network is the better advice.
        Err(error) => Err(offline.unwrap_or(error)),
    }
}

fn fetch(images: &Images, reference: &Reference, show: &mut Show) -> Result<Pulled> {
    let what = reference.digest().map_or_else(|| reference.tag().unwrap_or_default().to_owned(), ToString::to_string);
    show.line(&format!("{what}: Pulling from {}", reference.path()));
    images.pull(reference, &Logins::of_user()?, &mut |progress| show.watch(progress))
}

fn status(pulled: &Pulled, reference: &Reference) -> String {
    let what = if pulled.new { "Downloaded newer image" } else { "Image is up to date" };
    format!("{what} for {}", reference.familiar())
}

/// `mydocker pull`.
pub fn pull(args: &Pull, dirs: &Dirs) -> Result<i32> {
    super::own_platform(args.platform.as_deref())?;
    let reference = Reference::parse(&args.name)?;
    let images = Images::open(dirs)?;
    if !args.all_tags {
        return pull_one(&images, &reference, args.quiet).map(|()| 0);
    }
    let bare = !args.name.contains('@') && !args.name.rsplit('/').next().is_some_and(|last| last.contains(':'));
    if !bare {
        return Err(Error::new("tag can't be used with --all-tags/-a"));
    }
    for tag in image::tags(&reference, &Logins::of_user()?)? {
        pull_one(&images, &Reference::parse(&format!("{}:{tag}", reference.repository()))?, args.quiet)?;
    }
    Ok(0)
}

fn pull_one(images: &Images, reference: &Reference, quiet: bool) -> Result<()> {
    let mut show = Show::lines(quiet);
    let pulled = fetch(images, reference, &mut show)?;
    show.finish();
    if !quiet {
        print(&format!("Digest: {}\nStatus: {}\n", pulled.digest, status(&pulled, reference)))?;
    }
    print(&format!("{reference}\n"))
}

/// `mydocker push`.
pub fn push(args: &Push, dirs: &Dirs) -> Result<i32> {
    let images = Images::open(dirs)?;
    let reference = Reference::parse(&args.name)?;
    let mut all = vec![reference.clone()];
    if args.all_tags {
        if args.name.rsplit('/').next().is_some_and(|last| last.contains(':')) {
            return Err(Error::new("tag can't be used with --all-tags/-a"));
        }
        let names = images.list()?.into_iter().flat_map(|image| image.names);
        all = names.filter(|name| name.repository() == reference.repository()).collect();
        all.sort();
    }
    let nothing = || Error::new(format!("an image does not exist locally with the tag: {}", reference.familiar_repository()));
    if all.is_empty() || (!args.all_tags && images.find(&reference.to_string())?.is_none()) {
        return Err(nothing().hint("mydocker tag gives an image a name"));
    }
    let logins = Logins::of_user()?;
    for name in &all {
        let mut show = Show::lines(args.quiet);
        show.line(&format!("The push refers to repository [{}]", name.repository()));
        let digest = images.push(name, &logins, &mut |progress| show.watch(progress))?;
        show.finish();
        let tag = name.tag().unwrap_or_default();
        print(&if args.quiet { format!("{name}\n") } else { format!("{tag}: digest: {digest}\n") })?;
    }
    Ok(0)
}

/// Asks on the terminal, on stderr. What is secret is not shown while it is typed.
fn ask(question: &str, secret: bool) -> Result<String> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        return Err(Error::new("cannot perform an interactive login from a non TTY device").hint("give -u and --password-stdin"));
    }
    eprint!("{question}: ");
    let _ = std::io::stderr().flush();
    let before = tcgetattr(&input).context(|| "read the terminal's settings")?;
    if secret {
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&input, OptionalActions::Flush, &silent).context(|| "stop the terminal's echo")?;
    }
    let mut line = String::new();
    let read = input.lock().read_line(&mut line);
    if secret {
        let _ = tcsetattr(&input, OptionalActions::Flush, &before);
        eprintln!();
    }
    read.context(|| "read the answer")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// `mydocker login`.
pub fn login(args: &Login) -> Result<i32> {
    let server = args.server.as_deref().unwrap_or(DEFAULT_DOMAIN);
    let server = server.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    if args.password_stdin && args.username.is_none() {
        return Err(Error::new("must provide --username with --password-stdin"));
    }
    let user = args.username.clone().map_or_else(|| ask("Username", false), Ok)?;
    let password = if args.password_stdin {
        let mut text = String::new();
        // No password is longer; a file that is not one is not read whole.
        std::io::stdin().take(1 << 16).read_to_string(&mut text).context(|| "read the password")?;
        text.trim_end_matches(['\r', '\n']).to_owned()
    } else if let Some(password) = &args.password {
        eprintln!("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
        password.clone()
    } else {
        ask("Password", true)?
    };
    if user.is_empty() || password.is_empty() {
        return Err(Error::new("a user name and a password are required"));
    }
    image::login(server, &user, &password, &Logins::of_user()?)?;
    print("Login Succeeded\n")?;
    Ok(0)
}

/// `mydocker logout`.
pub fn logout(args: &Logout) -> Result<i32> {
    let server = args.server.as_deref().unwrap_or(DEFAULT_DOMAIN);
    let server = server.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let known = Logins::of_user()?.remove(server)?;
    print(&if known { format!("Removing login credentials for {server}\n") } else { format!("Not logged in to {server}\n") })?;
    Ok(0)
}
