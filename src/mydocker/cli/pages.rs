//! Shell completions and man pages, written from the definition of the command line.

use crate::sys::{Context, Error, Result};
use clap::Command;
use clap_complete::Shell;
use std::io::Write;
use std::path::Path;

/// Writes the completions for `bash`, `zsh`, `fish` or `elvish`, to be put where the shell looks for them.
pub fn completion(command: &mut Command, shell: &str, out: &mut dyn Write) -> Result<()> {
    let shell = match shell {
        "bash" => Shell::Bash,
        "zsh" => Shell::Zsh,
        "fish" => Shell::Fish,
        "elvish" => Shell::Elvish,
        other => return Err(Error::new(format!("no completions for the shell {other:?}")).hint("one of bash, zsh, fish, elvish")),
    };
    let name = command.get_name().to_owned();
    // Into memory first: clap_complete panics where it cannot write.
    let mut text = Vec::new();
    clap_complete::generate(shell, command, name, &mut text);
    out.write_all(&text).context(|| "write the completions".to_owned())
}

/// Writes `NAME.1`, and `NAME-SUBCOMMAND.1` for each subcommand that is not hidden, into a directory that exists.
pub fn man(command: Command, directory: &Path) -> Result<()> {
    clap_mangen::generate_to(command, directory).context(|| format!("write the man pages into {}", directory.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Arg;

    fn command() -> Command {
        let run = Command::new("run").about("Run a program in a new container").arg(Arg::new("name").long("name").help("Its name"));
        let volume = Command::new("volume").subcommand(Command::new("ls"));
        Command::new("mydocker").about("Containers").subcommand(run).subcommand(volume).subcommand(Command::new("monitor").hide(true))
    }

    #[test]
    fn completions_know_commands_and_flags() {
        for shell in ["bash", "zsh", "fish", "elvish"] {
            let mut text = Vec::new();
            completion(&mut command(), shell, &mut text).unwrap();
            let text = String::from_utf8(text).unwrap();
            assert!(text.contains("mydocker") && text.contains("volume") && text.contains("name"), "{shell}: {text}");
        }
        assert!(completion(&mut command(), "tcsh", &mut Vec::new()).is_err());
    }

    #[test]
    fn a_page_for_each_command() {
        let directory = std::env::temp_dir().join(format!("mydocker-man-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let pages = man(command(), &directory);
        let mut names: Vec<_> =
            std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        let run = std::fs::read_to_string(directory.join("mydocker-run.1")).unwrap_or_default();
        std::fs::remove_dir_all(&directory).unwrap();
        names.sort();
        assert_eq!(names, ["mydocker-run.1", "mydocker-volume-ls.1", "mydocker-volume.1", "mydocker.1"]);
        pages.unwrap();
        assert!(run.contains("mydocker\\-run") && run.contains("Run a program in a new container") && run.contains("\\-\\-name"), "{run}");
    }
}
