//! Flags as Go's command lines take them, which runc's callers know: `-root DIR`, `--debug=true`, and the last one of a flag that
//! is given twice, as by an administrator's `runtimeArgs` beside the engine's own.
//!
//! Here they become words that clap knows. Of a flag that is given twice it takes the last by `args_override_self`.

use clap::{Arg, ArgAction, Command, Id};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Words of a command line as clap wants them.
pub struct Words {
    /// Long flags have two dashes, and switches no value.
    pub words: Vec<OsString>,
    /// How many of the words that were given these are: all, or those before the first that is no flag.
    pub read: usize,
}

/// Reads the flags of `command`. What is no flag ends the reading where `flags_only` is set, or where all that follows it belongs
/// to a program.
pub fn words(command: &Command, given: &[OsString], flags_only: bool) -> Words {
    let program = command.get_positionals().any(Arg::is_trailing_var_arg_set);
    let mut words: Vec<(Option<&Id>, OsString)> = Vec::with_capacity(given.len());
    let mut read = 0;
    while let Some(word) = given.get(read) {
        let bytes = word.as_bytes();
        let is_flag = bytes.starts_with(b"-") && bytes != b"-" && bytes != b"--";
        if !is_flag && (flags_only || program || bytes == b"--") {
            break;
        }
        read += 1;
        if !is_flag {
            words.push((None, word.clone()));
            continue;
        }
        for flag in one_by_one(command, bytes) {
            let Some((arg, one_dash)) = find(command, flag.as_bytes()) else {
                words.push((None, flag));
                continue;
            };
            let (start, value) = flag.as_bytes().split_at(flag.as_bytes().iter().position(|byte| *byte == b'=').unwrap_or(flag.len()));
            let dash: &[u8] = if one_dash { b"-" } else { b"" };
            let switch = matches!(arg.get_action(), ArgAction::SetTrue).then(|| is_true(value)).flatten();
            match switch {
                Some(false) => words.retain(|(id, _)| *id != Some(arg.get_id())),
                Some(true) => words.push((Some(arg.get_id()), OsString::from_vec([dash, start].concat()))),
                None => words.push((None, OsString::from_vec([dash, flag.as_bytes()].concat()))),
            }
            // `-uVALUE` has its value already.
            let short = !start.starts_with(b"--") && !one_dash;
            let separate = arg.get_action().takes_values() && !arg.is_require_equals_set() && value.is_empty();
            if separate
                && (!short || start.len() == 2)
                && let Some(value) = given.get(read)
            {
                words.push((None, value.clone()));
                read += 1;
            }
        }
    }
    let mut words: Vec<OsString> = words.into_iter().map(|(_, word)| word).collect();
    if !flags_only {
        words.extend_from_slice(&given[read..]);
        read = given.len();
    }
    Words { words, read }
}

/// What the value of a switch says, in the words that strconv.ParseBool of Go takes; none is true.
fn is_true(value: &[u8]) -> Option<bool> {
    match value {
        b"" | b"=1" | b"=t" | b"=T" | b"=true" | b"=TRUE" | b"=True" => Some(true),
        b"=0" | b"=f" | b"=F" | b"=false" | b"=FALSE" | b"=False" => Some(false),
        _ => None,
    }
}

/// The flags of a word: `-td` is two switches.
fn one_by_one(command: &Command, word: &[u8]) -> Vec<OsString> {
    let mut flags = Vec::with_capacity(1);
    let mut rest = word.to_vec();
    while rest.len() > 2
        && rest[2] != b'='
        && find(command, &rest)
            .is_some_and(|(arg, one_dash)| !rest.starts_with(b"--") && !one_dash && matches!(arg.get_action(), ArgAction::SetTrue))
    {
        flags.push(OsStr::from_bytes(&rest[..2]).to_owned());
        rest.remove(1);
    }
    flags.push(OsString::from_vec(rest));
    flags
}

/// The flag of a word, and whether it is a long one that has one dash.
fn find<'a>(command: &'a Command, word: &[u8]) -> Option<(&'a Arg, bool)> {
    let two = word.strip_prefix(b"--");
    let name = two.or_else(|| word.strip_prefix(b"-"))?.split(|byte| *byte == b'=').next()?;
    let long = command.get_arguments().find(|arg| arg.get_long().is_some_and(|long| long.as_bytes() == name));
    match (long, two) {
        (Some(arg), _) => Some((arg, two.is_none() && name.len() > 1)),
        (None, Some(_)) => None,
        (None, None) => {
            let letter = char::from(*name.first()?);
            command.get_arguments().find(|arg| arg.get_short() == Some(letter)).map(|arg| (arg, false))
        }
    }
}

/// The whole command line, through all commands.
pub fn parse<T: clap::CommandFactory + clap::FromArgMatches>(args: &[OsString]) -> Result<T, clap::Error> {
    let tree = T::command();
    let Some(program) = args.first() else { return T::from_arg_matches(&tree.try_get_matches_from(args)?) };
    let Words { words: mut line, read } = words(&tree, &args[1..], true);
    line.insert(0, program.clone());
    if let Some(command) = args.get(1 + read) {
        let known = tree.get_subcommands().find(|known| command == known.get_name() || known.get_all_aliases().any(|name| command == name));
        let rest = &args[2 + read..];
        line.push(command.clone());
        line.extend(known.map_or_else(|| rest.to_vec(), |known| words(known, rest, false).words));
    }
    T::from_arg_matches(&tree.try_get_matches_from(&line)?)
}
