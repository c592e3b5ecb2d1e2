//! `top` and `port`: a container's processes, and where its ports are.

use super::{options, print, ps, table};
use crate::lifecycle;
use crate::mydocker::container::Containers;
use crate::mydocker::files::Dirs;
use crate::mydocker::monitor::must_run;
use crate::mydocker::network::Networks;
use crate::mydocker::network::ports::{Port, PortSpec};
use crate::sys::{Context, Error, Result};
use clap::Args;
use std::process::Command;

/// `top`.
#[derive(Args, Debug)]
pub struct Top {
    /// Container, then options of ps(1)
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_names = ["CONTAINER", "PS OPTIONS"])]
    pub container_and_options: Vec<String>,
}

/// `port`.
#[derive(Args, Debug)]
pub struct PortArgs {
    /// Name or id
    pub container: String,
    /// Only this port of the container
    #[arg(value_name = "PORT[/PROTOCOL]")]
    pub port: Option<String>,
}

/// `mydocker top`: what the host's ps(1) says of the container's processes.
pub fn top(args: &Top, dirs: &Dirs) -> Result<i32> {
    let (name, options) = options::first_word(&args.container_and_options, "container")?;
    let container = Containers::new(dirs).find(name)?;
    must_run(&container)?;
    let pids = lifecycle::processes(&container.runtime()?, &container.runtime_id()?)?;
    let default = ["-ef".to_owned()];
    let options = if options.is_empty() { &default } else { options };
    let output = match Command::new("ps").args(options).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::new("ps is not installed on the host").hint("package procps"));
        }
        other => other.context(|| "run ps")?,
    };
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(Error::new(format!("ps {}: {}", options.join(" "), why.lines().find(|line| !line.is_empty()).unwrap_or("failed"))));
    }
    print(&table::align(&rows(&String::from_utf8_lossy(&output.stdout), &pids)?)).map(|()| 0)
}

/// The header and the rows of these processes, with tabs between the cells. The last column, a command, may hold spaces.
fn rows(text: &str, pids: &[i32]) -> Result<String> {
    let mut lines = text.lines();
    let titles: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
    let at = titles.iter().position(|title| *title == "PID");
    let at = at.ok_or_else(|| Error::new("couldn't find PID field in ps output").hint("-o needs pid too"))?;
    let mut out = titles.join("\t") + "\n";
    for line in lines {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if !fields.get(at).and_then(|pid| pid.parse().ok()).is_some_and(|pid| pids.contains(&pid)) {
            continue;
        }
        let (head, last) = fields.split_at(titles.len().saturating_sub(1).min(fields.len()));
        out += &[head.join("\t"), last.join(" ")].join(if head.is_empty() { "" } else { "\t" });
        out.push('\n');
    }
    Ok(out)
}

/// `mydocker port`.
pub fn port(args: &PortArgs, dirs: &Dirs) -> Result<i32> {
    let container = Containers::new(dirs).find(&args.container)?;
    let wanted = match &args.port {
        Some(text) if text.contains(':') => return Err(Error::new(format!("invalid port {text:?}")).hint("PORT[/PROTOCOL]")),
        Some(text) => Some(PortSpec::parse(text)?),
        None => None,
    };
    let state = container.state()?;
    // Without an interface there is no port, and no network directory need be made to find that out.
    let ports: Vec<Port> = if state.attachments.is_empty() {
        state.ports
    } else {
        Networks::open(dirs)?.leases()?.remove(container.id()).map(|lease| lease.ports).unwrap_or_default()
    };
    let Some(wanted) = wanted else {
        let line = |port: &Port| ps::port_words(port).split_once("->").map(|(host, own)| format!("{own} -> {host}\n")).unwrap_or_default();
        return print(&ports.iter().map(line).collect::<String>()).map(|()| 0);
    };
    let same = |port: &&Port| wanted.iter().any(|one| one.container_port == port.container_port && one.protocol == port.protocol);
    let found: String = ports.iter().filter(same).map(|port| format!("{}:{}\n", port.host_ip, port.host_port)).collect();
    if found.is_empty() {
        let text = args.port.as_deref().unwrap_or_default();
        let protocol = if text.contains('/') { "" } else { "/tcp" };
        return Err(Error::new(format!("no public port '{text}{protocol}' published for {}", args.container)));
    }
    print(&found).map(|()| 0)
}

#[cfg(test)]
mod tests {
    use super::rows;

    #[test]
    fn only_the_containers_processes_and_their_whole_commands() {
        let text = "UID          PID    PPID CMD\nroot           1       0 init\nroot          42       1 sh -c sleep 9\n";
        assert_eq!(rows(text, &[42]).unwrap(), "UID\tPID\tPPID\tCMD\nroot\t42\t1\tsh -c sleep 9\n");
        assert_eq!(rows("PID\n 42\n 43\n", &[42]).unwrap(), "PID\n42\n");
        assert!(rows("CMD\nsh\n", &[42]).is_err());
    }
}
