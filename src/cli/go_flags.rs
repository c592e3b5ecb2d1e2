//! Flags as Go's command lines take them, which runc's callers know: `-root DIR`, `--debug=true`, and the last one of a flag that
//! is given twice, as by an administrator's `runtimeArgs` beside the engine's own.

use clap::builder::{BoolValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Command};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// The same command, whose flags may be repeated, and say `=true` or `=false` where they have no value.
pub fn lenient(command: Command) -> Command {
    let flag = |arg: Arg| match arg.get_action() {
        ArgAction::SetTrue => arg
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_value("false")
            .default_missing_value("true")
            .value_parser(Bool),
        _ => arg,
    };
    command.args_override_self(true).mut_args(flag).mut_subcommands(lenient)
}

/// The words that strconv.ParseBool of Go takes.
#[derive(Clone)]
struct Bool;

impl TypedValueParser for Bool {
    type Value = bool;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<bool, clap::Error> {
        match value.to_str() {
            Some("1" | "t" | "T" | "TRUE" | "True") => Ok(true),
            Some("0" | "f" | "F" | "FALSE" | "False") => Ok(false),
            _ => BoolValueParser::new().parse_ref(command, arg, value),
        }
    }
}

/// Words of a command line as clap wants them.
pub struct Words {
    /// Long flags have two dashes.
    pub words: Vec<OsString>,
    /// How many of the words that were given these are: all, or those before the first that is no flag.
    pub read: usize,
}

/// Gives the long flags of `command` their second dash. What is no flag ends the reading where `flags_only` is set, or where all
/// that follows it belongs to a program.
pub fn words(command: &Command, given: &[OsString], flags_only: bool) -> Words {
    let program = command.get_positionals().any(Arg::is_trailing_var_arg_set);
    let mut words = Vec::with_capacity(given.len());
    let mut rest = given.iter();
    while let Some(word) = rest.next() {
        let bytes = word.as_bytes();
        let is_flag = bytes.starts_with(b"-") && bytes != b"-" && bytes != b"--";
        if !is_flag && flags_only {
            return Words { read: words.len(), words };
        }
        if !is_flag && (program || bytes == b"--") {
            words.push(word.clone());
            break;
        }
        let Some(arg) = is_flag.then(|| find(command, bytes)).flatten() else {
            words.push(word.clone());
            continue;
        };
        let one_dash = !bytes.starts_with(b"--") && bytes.len() > 2 && arg.get_long().is_some_and(|long| name(bytes) == long.as_bytes());
        words.push(if one_dash { [OsStr::new("-"), word].into_iter().collect() } else { word.clone() });
        let separate = arg.get_action().takes_values() && !arg.is_require_equals_set() && !bytes.contains(&b'=');
        // `-uVALUE` has its value already.
        if separate && (bytes.starts_with(b"--") || one_dash || bytes.len() == 2) {
            words.extend(rest.next().cloned());
        }
    }
    words.extend(rest.cloned());
    Words { read: words.len(), words }
}

/// The name of a flag, without dashes and value.
fn name(word: &[u8]) -> &[u8] {
    let word = word.strip_prefix(b"--").or_else(|| word.strip_prefix(b"-")).unwrap_or(word);
    word.split(|byte| *byte == b'=').next().unwrap_or(word)
}

fn find<'a>(command: &'a Command, word: &[u8]) -> Option<&'a Arg> {
    let long = command.get_arguments().find(|arg| arg.get_long().is_some_and(|long| long.as_bytes() == name(word)));
    let short = || {
        let letter = char::from(*name(word).first()?);
        command.get_arguments().find(|arg| arg.get_short() == Some(letter))
    };
    long.or_else(|| if word.starts_with(b"--") { None } else { short() })
}

/// The whole command line, through all commands.
pub fn parse<T: clap::CommandFactory + clap::FromArgMatches>(args: &[OsString]) -> Result<T, clap::Error> {
    let tree = lenient(T::command());
    let Some(program) = args.first() else { return T::from_arg_matches(&tree.try_get_matches_from(args)?) };
    let Words { words: mut line, read } = words(&tree, &args[1..], true);
    line.insert(0, program.clone());
    if let Some(command) = args.get(1 + read) {
        let known = tree.get_subcommands().find(|known| command == known.get_name() || known.get_all_aliases().any(|name| command == name));
        let rest = &args[2 + read..];
        line.push(command.clone());
        line.extend(known.map_or_else(|| rest.to_vec(), |known| words(known, rest, false).words));
    }
    match tree.try_get_matches_from(&line) {
        Ok(matches) => T::from_arg_matches(&matches),
        // The help of the plain command does not say `[=<DEBUG>]` after each flag.
        Err(error) if error.kind() == ErrorKind::DisplayHelp => Err(match T::command().try_get_matches_from(&line) {
            Err(plain) if plain.kind() == ErrorKind::DisplayHelp => plain,
            _ => error,
        }),
        Err(error) => Err(error),
    }
}
