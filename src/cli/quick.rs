//! The commands that engines repeat, read without the tree of all commands: to build that takes most of a short command's own time.
//!
//! Whatever is not plain (help, a wrong flag, another command) is left to the whole parser, which says it in its words.

use super::args::{Cli, Command, Globals};
use super::go_flags::{self, Words};
use clap::{Args, CommandFactory, FromArgMatches, Parser};
use std::ffi::OsString;

#[derive(Parser)]
#[command(name = "keel", disable_version_flag = true, args_override_self = true)]
struct Line<T: Args> {
    #[command(flatten)]
    inner: T,
}

fn read<T: Args>(words: &[OsString]) -> Option<T> {
    let command = Line::<T>::command();
    let Words { words, .. } = go_flags::words(&command, words, false);
    let matches = command.no_binary_name(true).try_get_matches_from(words).ok()?;
    Line::<T>::from_arg_matches(&matches).ok().map(|line| line.inner)
}

/// The command line, if it is one of those.
pub fn parse(args: &[OsString]) -> Option<Cli> {
    let command = Line::<Globals>::command();
    let Words { words, read: globals } = go_flags::words(&command, args.get(1..)?, true);
    let name = args.get(1 + globals)?.to_str()?;
    let rest = &args[2 + globals..];
    let parsed = match name {
        "create" => Command::Create(read(rest)?),
        "start" => Command::Start(read(rest)?),
        "run" => Command::Run(read(rest)?),
        "exec" => Command::Exec(read(rest)?),
        "state" => Command::State(read(rest)?),
        "kill" => Command::Kill(read(rest)?),
        "delete" => Command::Delete(read(rest)?),
        _ => return None,
    };
    let matches = command.no_binary_name(true).try_get_matches_from(words).ok()?;
    let globals = Line::<Globals>::from_arg_matches(&matches).ok()?.inner;
    Some(Cli { globals, version: false, command: Some(parsed) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(line: &str) -> (Option<String>, Option<String>) {
        let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let show = |cli: Cli| format!("{cli:?}");
        (parse(&args).map(show), go_flags::parse::<Cli>(&args).ok().map(show))
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
            "keel -root /run/x -log=/l -log-format json -debug=true create -bundle b -pid-file p -no-pivot=false id",
            "keel --root /a --root /b --debug --debug=false --log-format json --log-format text start id",
            "keel exec -env A=1 -env B=2 -cwd /x -cwd /y -tty=T -t=false id sh -c -root --debug=x",
            "keel run -no-subreaper --detach=0 -d=1 id",
            "keel delete id -force",
            "keel exec -td id sh",
            "keel exec -td --tty=false -uapp id sh",
            "keel exec -dt=0 id sh -td",
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
            "keel --debug=maybe state id",
            "keel -nosuch state id",
            "keel list",
            "keel delete id other",
        ] {
            assert_eq!(both(line).0, None, "{line}");
        }
    }
}
