//! The commands that engines repeat, read without the tree of all commands: to build that takes most of a short command's own time.
//!
//! Whatever is not plain (help, a wrong flag, another command) is left to the whole parser, which says it in its words.

use super::args::{Cli, Command, Globals};
use clap::{Args, Parser};
use std::ffi::OsString;

/// Flags before the command whose value is the next word.
const VALUED: [&str; 5] = ["--root", "--log", "--log-format", "--cgroup-manager", "--criu"];

#[derive(Parser)]
#[command(disable_version_flag = true)]
struct Words<T: Args> {
    #[command(flatten)]
    inner: T,
}

fn read<T: Args>(words: &[OsString]) -> Option<T> {
    let name = OsString::from("keel");
    Words::<T>::try_parse_from(std::iter::once(&name).chain(words)).ok().map(|words| words.inner)
}

/// The command line, if it is one of those.
pub fn parse(args: &[OsString]) -> Option<Cli> {
    let mut at = 1;
    while let Some(flag) = args.get(at)?.to_str()?.strip_prefix("--").map(|_| &args[at]) {
        at += if VALUED.iter().any(|valued| flag == valued) { 2 } else { 1 };
    }
    let words = &args[at + 1..];
    let command = match args.get(at)?.to_str()? {
        "create" => Command::Create(read(words)?),
        "start" => Command::Start(read(words)?),
        "run" => Command::Run(read(words)?),
        "exec" => Command::Exec(read(words)?),
        "state" => Command::State(read(words)?),
        "kill" => Command::Kill(read(words)?),
        "delete" => Command::Delete(read(words)?),
        _ => return None,
    };
    Some(Cli { globals: read::<Globals>(&args[1..at])?, version: false, command: Some(command) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(line: &str) -> (Option<String>, Option<String>) {
        let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let show = |cli: Cli| format!("{cli:?}");
        (parse(&args).map(show), Cli::try_parse_from(&args).ok().map(show))
    }

    #[test]
    fn it_reads_as_the_whole_parser_does() {
        for line in [
            "keel --root /run/x --log /l --log-format json --systemd-cgroup create --bundle b --pid-file=p --console-socket c id",
            "keel --root=/x --rootless=true run --detach --no-subreaper -b b --preserve-fds 2 id",
            "keel --debug --cgroup-manager disabled start id",
            "keel exec --process p.json --detach --pid-file p id",
            "keel exec -e A=1 --cwd / -t id sh -c x --root y",
            "keel exec id -- --help",
            "keel state id",
            "keel kill --all id KILL",
            "keel kill id",
            "keel delete --force id",
        ] {
            let (quick, whole) = both(line);
            assert!(quick.is_some(), "{line}");
            assert_eq!(quick, whole, "{line}");
        }
        for line in [
            "keel",
            "keel --root",
            "keel --root x",
            "keel --version",
            "keel -v",
            "keel --help",
            "keel state",
            "keel state --help",
            "keel state --root x id",
            "keel state -v id",
            "keel --nosuch state id",
            "keel --log-format xml state id",
            "keel list",
            "keel delete id other",
        ] {
            assert_eq!(both(line).0, None, "{line}");
        }
    }
}
