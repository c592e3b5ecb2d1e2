//! The commands that scripts repeat, read without the tree of all commands: to build that costs most of a command's own time.
//!
//! Whatever is not plain (help, a wrong flag, another command) is left to the whole parser, which says it in its words.

use super::args::{Cli, Command, ContainerCommand};
use clap::{Args, Parser};
use std::ffi::OsString;
use std::path::PathBuf;

/// One command with the flags of [`Cli`].
#[derive(Parser)]
struct Quick<T: Args> {
    #[arg(long)]
    root: Option<PathBuf>,
    #[arg(long)]
    run_root: Option<PathBuf>,
    #[command(flatten)]
    inner: T,
}

fn read<T: Args>(args: &[&OsString], wrap: fn(T) -> ContainerCommand) -> Option<Cli> {
    let Quick { root, run_root, inner } = Quick::<T>::try_parse_from(args).ok()?;
    Some(Cli { root, run_root, command: Command::Container(wrap(inner)) })
}

/// The command line, if it is one of those.
pub fn parse(args: &[OsString]) -> Option<Cli> {
    // The flags before the command, which take a value each.
    let mut at = 1;
    while args.get(at).is_some_and(|word| word == "--root" || word == "--run-root") {
        at += 2;
    }
    let word = args.get(at)?.to_str()?;
    let rest: Vec<&OsString> = args[..at].iter().chain(&args[at + 1..]).collect();
    match word {
        "run" => read(&rest, ContainerCommand::Run),
        "create" => read(&rest, ContainerCommand::Create),
        "start" => read(&rest, ContainerCommand::Start),
        "stop" => read(&rest, ContainerCommand::Stop),
        "kill" => read(&rest, ContainerCommand::Kill),
        "rm" => read(&rest, ContainerCommand::Rm),
        "exec" => read(&rest, ContainerCommand::Exec),
        "logs" => read(&rest, ContainerCommand::Logs),
        "ps" => read(&rest, ContainerCommand::Ps),
        "wait" => read(&rest, ContainerCommand::Wait),
        _ => None,
    }
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
            "mydocker run --rm -it -h name -v a:/b --network none busybox sh -c x",
            "mydocker --root /x run -d --run-root /y busybox --rm true",
            "mydocker run --sig-proxy=false --detach-keys ctrl-a busybox -- --help -h",
            "mydocker create --name=x busybox",
            "mydocker exec -it -u 1 --privileged name ls -l --root /x",
            "mydocker ps -aq --filter status=exited --no-trunc",
            "mydocker rm -f -v a b",
            "mydocker stop -t 3 a",
            "mydocker kill -s HUP a",
            "mydocker start -ai a",
            "mydocker logs -f --tail 3 a",
            "mydocker wait a b",
        ] {
            let (quick, whole) = both(line);
            assert!(quick.is_some(), "{line}");
            assert_eq!(quick, whole, "{line}");
        }
        for line in [
            "mydocker run --help",
            "mydocker run",
            "mydocker ps --nosuch",
            "mydocker images",
            "mydocker --root",
            "mydocker --version",
            "mydocker rm",
        ] {
            assert_eq!(both(line).0, None, "{line}");
        }
    }
}
