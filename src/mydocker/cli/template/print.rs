//! Values as Go's package fmt prints them.

use crate::mydocker::cli::units::general;
use crate::mydocker::cli::visible::{quoted, visible};
use serde_json::Value;

/// A value where a template prints it: [`plain`], and `<no value>` for null.
pub fn shown(value: &Value) -> String {
    if value.is_null() { "<no value>".into() } else { plain(value) }
}

/// Go's `%v`: `map[a:b]`, `[a b]`, `true`, `<nil>`; keys are sorted.
pub fn plain(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => match n.as_f64() {
            Some(float) if n.is_f64() => general(float, None),
            _ => n.to_string(),
        },
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| key.as_str());
            format!("map[{}]", entries.iter().map(|(key, value)| format!("{key}:{}", plain(value))).collect::<Vec<_>>().join(" "))
        }
    }
}

/// The name of a value's type, as Go would call it.
pub fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_f64() => "float64",
        Value::Number(_) => "int",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// How one verb of a format wants its value.
#[derive(Default)]
struct Verb {
    minus: bool,
    plus: bool,
    space: bool,
    sharp: bool,
    zero: bool,
    width: usize,
    precision: Option<usize>,
    letter: char,
}

/// The widest a value is padded to, so that a format cannot ask for gigabytes.
const WIDEST: usize = 10_000;

/// Go's `Sprintf`; in values, but not in the format, what a terminal would obey is escaped. What does not fit is said in the text, as Go does: `%!d(string=x)`, `%!s(MISSING)`, `%!(EXTRA int=1)`.
pub fn sprintf(format: &str, values: &[&Value]) -> String {
    let (mut out, mut values, mut rest) = (String::new(), values.iter(), format);
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let (verb, after) = read(&rest[at + 1..]);
        rest = after;
        match verb {
            None => out.push_str("%!(NOVERB)"),
            Some(Verb { letter: '%', .. }) => out.push('%'),
            Some(verb) => match values.next() {
                None => out.push_str(&format!("%!{}(MISSING)", verb.letter)),
                Some(value) => out.push_str(&verb.print(value)),
            },
        }
    }
    out.push_str(rest);
    let extra: Vec<String> =
        values.map(|value| if value.is_null() { plain(value) } else { format!("{}={}", type_name(value), plain(value)) }).collect();
    if !extra.is_empty() {
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    out
}

/// A verb and what follows it.
fn read(text: &str) -> (Option<Verb>, &str) {
    let mut verb = Verb::default();
    let mut rest = text;
    while let Some(flag) = rest.chars().next().filter(|c| "-+ #0".contains(*c)) {
        match flag {
            '-' => verb.minus = true,
            '+' => verb.plus = true,
            ' ' => verb.space = true,
            '#' => verb.sharp = true,
            _ => verb.zero = true,
        }
        rest = &rest[1..];
    }
    let number = |rest: &mut &str| {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number = rest[..end].parse().unwrap_or(if end == 0 { 0 } else { WIDEST }).min(WIDEST);
        *rest = &rest[end..];
        number
    };
    verb.width = number(&mut rest);
    if let Some(after) = rest.strip_prefix('.') {
        rest = after;
        verb.precision = Some(number(&mut rest));
    }
    let Some(letter) = rest.chars().next() else { return (None, rest) };
    verb.letter = letter;
    (Some(verb), &rest[letter.len_utf8()..])
}

impl Verb {
    fn print(&self, value: &Value) -> String {
        // A list is printed element by element, as Go does for all but %v and %T.
        if let (Value::Array(items), false) = (value, "vT".contains(self.letter)) {
            return format!("[{}]", items.iter().map(|item| self.print(item)).collect::<Vec<_>>().join(" "));
        }
        let (text, is_number) = match self.text(value) {
            Some(text) => (text, value.is_number()),
            None if value.is_null() => (format!("%!{}(<nil>)", self.letter), false),
            None => (format!("%!{}({}={})", self.letter, type_name(value), plain(value)), false),
        };
        let text = if is_number && !text.starts_with('-') && "dvfFeEgG".contains(self.letter) {
            format!(
                "{}{text}",
                if self.plus {
                    "+"
                } else if self.space {
                    " "
                } else {
                    ""
                }
            )
        } else {
            text
        };
        let fill = self.width.saturating_sub(text.chars().count());
        match () {
            () if self.minus => text + &" ".repeat(fill),
            () if self.zero && is_number => {
                let sign = usize::from(text.starts_with(['-', '+', ' ']));
                format!("{}{}{}", &text[..sign], "0".repeat(fill), &text[sign..])
            }
            () => " ".repeat(fill) + &text,
        }
    }

    /// The value without sign and padding; `None` if the verb is not for its type.
    fn text(&self, value: &Value) -> Option<String> {
        let cut = |text: &str| self.precision.map_or_else(|| text.to_owned(), |precision| text.chars().take(precision).collect());
        let whole = value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from));
        let radix = |prefix: &str, digits: fn(u128) -> String| {
            whole.map(|n| format!("{}{}{}", if n < 0 { "-" } else { "" }, if self.sharp { prefix } else { "" }, digits(n.unsigned_abs())))
        };
        let hex = |text: &str, upper: bool| text.bytes().map(|b| if upper { format!("{b:02X}") } else { format!("{b:02x}") }).collect();
        match (self.letter, value) {
            ('v', Value::String(text)) if self.sharp => Some(quoted(text)),
            ('v', _) => Some(visible(&plain(value)).into_owned()),
            ('T', _) => Some(type_name(value).into()),
            ('t', Value::Bool(b)) => Some(b.to_string()),
            ('s', Value::String(text)) => Some(visible(&cut(text)).into_owned()),
            ('q', Value::String(text)) => Some(quoted(&cut(text))),
            ('s' | 'q', Value::Object(map)) => {
                let entry = |(key, item): (&String, &Value)| {
                    let key = if self.letter == 'q' { quoted(key) } else { visible(key).into_owned() };
                    format!("{key}:{}", Verb { letter: self.letter, ..Verb::default() }.print(item))
                };
                Some(format!("map[{}]", map.iter().map(entry).collect::<Vec<_>>().join(" ")))
            }
            ('x', Value::String(text)) => Some(hex(text, false)),
            ('X', Value::String(text)) => Some(hex(text, true)),
            ('d', _) => whole.map(|n| n.to_string()),
            ('x', _) => radix("0x", |n| format!("{n:x}")),
            ('X', _) => radix("0X", |n| format!("{n:X}")),
            ('o', _) => radix("0", |n| format!("{n:o}")),
            ('b', _) => radix("0b", |n| format!("{n:b}")),
            ('c', _) => whole.and_then(|n| char::from_u32(u32::try_from(n).ok()?)).map(String::from),
            ('q', _) => whole.and_then(|n| char::from_u32(u32::try_from(n).ok()?)).map(|c| format!("{c:?}")),
            ('f' | 'F', Value::Number(n)) => n.as_f64().map(|n| format!("{n:.*}", self.precision.unwrap_or(6))),
            ('g' | 'G', Value::Number(n)) => n.as_f64().map(|n| general(n, self.precision)),
            ('e' | 'E', Value::Number(n)) => n.as_f64().map(|n| exponent(n, self.precision.unwrap_or(6))),
            _ => None,
        }
    }
}

/// `1.500000e+00`.
fn exponent(value: f64, precision: usize) -> String {
    let text = format!("{value:.precision$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_as_go_prints_them() {
        for (value, text) in [
            (json!({"b": 1, "a": "x"}), "map[a:x b:1]"),
            (json!(["a", true, null, 1.5, [2]]), "[a true <nil> 1.5 [2]]"),
            (json!(null), "<no value>"),
            (json!(1e21), "1e+21"),
            (json!(18_446_744_073_709_551_615u64), "18446744073709551615"),
        ] {
            assert_eq!(shown(&value), text);
        }
    }

    #[test]
    fn formats() {
        for (format, values, text) in [
            ("%s is %d, %q %v%%", vec![json!("x"), json!(-3), json!("a\"\n\u{1b}"), json!(true)], "x is -3, \"a\\\"\\n\\x1b\" true%"),
            ("[%5s|%-5s|%05d|%+d|%.2s]", vec![json!("a"), json!("b"), json!(-42), json!(7), json!("héllo")], "[    a|b    |-0042|+7|hé]"),
            ("%x %#x %X %o %b %c", vec![json!("hi"), json!(255), json!(255), json!(8), json!(5), json!(65)], "6869 0xff FF 10 101 A"),
            ("%.2f %g %e", vec![json!(1.005), json!(1e30), json!(1234.5)], "1.00 1e+30 1.234500e+03"),
            ("%d", vec![json!("x")], "%!d(string=x)"),
            ("%s %s", vec![json!("x")], "x %!s(MISSING)"),
            ("x", vec![json!(1), json!("y")], "x%!(EXTRA int=1, string=y)"),
            ("%s", vec![json!(null)], "%!s(<nil>)"),
            ("%q", vec![json!(["a", "b"])], "[\"a\" \"b\"]"),
            ("%t %T %", vec![json!(false), json!(1)], "false int %!(NOVERB)"),
        ] {
            assert_eq!(sprintf(format, &values.iter().collect::<Vec<_>>()), text, "{format}");
        }
    }
}
