//! Commands on networks.

use super::filter::Filters;
use super::volumes::{Inspect, Ls, Rm, records};
use super::{each, options, print, prune, template};
use crate::mydocker::container::{Container, Containers, Record, journal};
use crate::mydocker::files::Dirs;
use crate::mydocker::network::names::host_name;
use crate::mydocker::network::{self, Attachment, Join, Mode, Network, Networks, Subnet};
use crate::mydocker::userns::is_rootless;
use crate::sys::{Error, Result};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// The commands on networks.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Connect a container to a network
    Connect(Connect),
    /// Create a network
    Create(Create),
    /// Disconnect a container from a network
    Disconnect(Disconnect),
    /// Display detailed information on one or more networks
    Inspect(Inspect),
    /// List networks
    #[command(visible_alias = "list")]
    Ls(Ls),
    /// Remove all unused networks
    Prune(prune::One),
    /// Remove one or more networks
    #[command(visible_alias = "remove")]
    Rm(Rm),
}

/// `network connect`.
#[derive(Args, Debug)]
pub struct Connect {
    /// Add network-scoped alias for the container
    #[arg(long, value_name = "NAME")]
    pub alias: Vec<String>,
    /// IPv4 address (e.g., 172.30.100.104)
    #[arg(long, value_name = "ADDRESS")]
    pub ip: Option<Ipv4Addr>,
    /// The network's name or id
    pub network: String,
    /// The container's name or id
    pub container: String,
}

/// `network disconnect`.
#[derive(Args, Debug)]
pub struct Disconnect {
    /// Force the container to disconnect from a network: no error where it is not connected
    #[arg(short, long)]
    pub force: bool,
    /// The network's name or id
    pub network: String,
    /// The container's name or id
    pub container: String,
}

/// `network create`.
#[derive(Args, Debug)]
pub struct Create {
    /// Driver to manage the network
    #[arg(short, long, default_value = "bridge")]
    pub driver: String,
    /// Subnet in CIDR format that represents a network segment
    #[arg(long, value_name = "SUBNET")]
    pub subnet: Option<String>,
    /// IPv4 gateway for the subnet
    #[arg(long, value_name = "ADDRESS")]
    pub gateway: Option<Ipv4Addr>,
    /// Allocate container addresses from a sub-range
    #[arg(long, value_name = "SUBNET")]
    pub ip_range: Option<String>,
    /// Restrict external access to the network
    #[arg(long)]
    pub internal: bool,
    /// Set metadata on a network
    #[arg(long, value_name = "KEY=VALUE")]
    pub label: Vec<String>,
    /// Set driver specific options
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub opt: Vec<String>,
    /// Its name
    pub name: String,
}

/// Runs one command; the exit code.
pub fn run(command: &Command, dirs: &Dirs) -> Result<i32> {
    let bridges = matches!(command, Command::Connect(_) | Command::Create(_) | Command::Disconnect(_));
    if bridges && is_rootless() {
        return Err(Error::new("networks can be made and changed by root only")
            .hint("without root there is the default network, host, none and container:NAME"));
    }
    match command {
        Command::Connect(args) => connect(args, dirs),
        Command::Create(args) => create(args, dirs),
        Command::Disconnect(args) => disconnect(args, dirs),
        Command::Inspect(args) => {
            let networks = Networks::open(dirs)?;
            let mut found = Vec::new();
            let code = each(&args.names, |name| networks.get(name).and_then(|it| value(&networks, &it)).map(|value| found.push(value)))?;
            print(&template::inspect(args.format.as_deref(), &found)?)?;
            Ok(code)
        }
        Command::Ls(args) => ls(args, dirs),
        Command::Prune(args) => {
            prune::confirm(args.force, "This will remove all custom networks not used by at least one container.", "network prune")?;
            remove_unused(dirs, &Filters::parse(&args.filter, &prune::KNOWN)?).map(|()| 0)
        }
        Command::Rm(args) => rm(args, dirs),
    }
}

fn tell(dirs: &Dirs, action: &str, network: &Network, container: Option<&str>) {
    let mut attributes = BTreeMap::from([("name".to_owned(), network.name.clone()), ("type".to_owned(), network.driver.clone())]);
    attributes.extend(container.map(|id| ("container".to_owned(), id.to_owned())));
    journal::note(dirs, "network", action, &network.id, attributes);
}

fn create(args: &Create, dirs: &Dirs) -> Result<i32> {
    let pairs = |list: &[String]| list.iter().map(|text| options::label(text)).collect::<Result<BTreeMap<_, _>>>();
    let subnet = |text: &Option<String>| text.as_deref().map(str::parse::<Subnet>).transpose();
    let create = network::Create {
        name: args.name.clone(),
        driver: args.driver.clone(),
        subnet: subnet(&args.subnet)?,
        gateway: args.gateway,
        ip_range: subnet(&args.ip_range)?,
        internal: args.internal,
        labels: pairs(&args.label)?,
        options: pairs(&args.opt)?,
    };
    let network = Networks::open(dirs)?.create(&create)?;
    tell(dirs, "create", &network, None);
    print(&format!("{}\n", network.id)).map(|()| 0)
}

fn ls(args: &Ls, dirs: &Dirs) -> Result<i32> {
    let filters = Filters::parse(&args.filter, &["dangling", "driver", "id", "label", "label!", "name", "scope", "type"])?;
    let networks = Networks::open(dirs)?;
    let records = records(dirs)?;
    let dangling = filters.flag("dangling")?;
    let fits = |network: &Network| {
        let kind = if network.is_predefined() { "builtin" } else { "custom" };
        filters.name(&network.name)
            && filters.id(&network.id)
            && filters.labels(&network.labels)
            && filters.is("driver", &network.driver)
            && filters.is("scope", "local")
            && filters.is("type", kind)
            && dangling.is_none_or(|wanted| (!network.is_predefined() && !used(&records, network)) == wanted)
    };
    let all: Vec<Network> = networks.list()?.into_iter().filter(fits).collect();
    let id = |network: &Network| if args.no_trunc { network.id.clone() } else { network.id.chars().take(12).collect() };
    if args.quiet && args.format.is_none() {
        print(&all.iter().map(|network| id(network) + "\n").collect::<String>())?;
        return Ok(0);
    }
    let row = |network: &Network| {
        let labels: Vec<String> = network.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        json!({"ID": id(network), "Name": network.name, "Driver": network.driver, "Scope": "local", "IPv4": "true", "IPv6": "false", "Internal": network.internal.to_string(), "Labels": labels.join(","), "CreatedAt": network.created})
    };
    let rows: Vec<Value> = all.iter().map(row).collect();
    let default = "table {{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}";
    print(&template::list(args.format.as_deref(), default, &[("ID", "NETWORK ID")], &rows)?)?;
    Ok(0)
}

fn rm(args: &Rm, dirs: &Dirs) -> Result<i32> {
    let networks = Networks::open(dirs)?;
    each(&args.names, |name| {
        if args.force && networks.get(name).is_err() {
            return print(&format!("{name}\n"));
        }
        let network = networks.remove(name)?;
        tell(dirs, "destroy", &network, None);
        print(&format!("{name}\n"))
    })
}

/// Whether a container was created on a network, also one that does not run.
fn used(records: &[Record], network: &Network) -> bool {
    records.iter().any(|record| joins(record).iter().any(|join| is(join, network)))
}

fn joins(record: &Record) -> Vec<Join> {
    match Mode::parse_all(&record.settings.networks) {
        Ok(Mode::Networks(joins)) => joins,
        _ => Vec::new(),
    }
}

/// Whether that is how somebody would name the network.
fn is(join: &Join, network: &Network) -> bool {
    join.network == network.name || (join.network.len() >= 12 && network.id.starts_with(&join.network))
}

/// Removes and lists the networks that no container was created on.
pub fn remove_unused(dirs: &Dirs, filters: &Filters) -> Result<()> {
    filters.get("until").iter().try_for_each(|text| super::time::parse(text).map(drop))?;
    let records = records(dirs)?;
    let old = |network: &Network| prune::old_enough(filters, &network.created).unwrap_or(false);
    let gone = Networks::open(dirs)?.prune(|network| used(&records, network) || !filters.labels(&network.labels) || !old(network))?;
    gone.iter().for_each(|network| tell(dirs, "destroy", network, None));
    prune::listed("Deleted Networks:", gone.into_iter().map(|network| network.name))
}

/// A running container is connected at once; one that is not, at its next start. Both remember it.
fn connect(args: &Connect, dirs: &Dirs) -> Result<i32> {
    let networks = Networks::open(dirs)?;
    let container = Containers::new(dirs).find(&args.container)?;
    let network = networks.get(&args.network)?;
    let record = container.record()?;
    args.alias.iter().try_for_each(|alias| host_name("--alias", alias))?;
    let join = Join { network: network.name.clone(), address: args.ip, mac: None, aliases: args.alias.clone() };
    if network.subnet.is_none() {
        return Err(Error::new(format!("cannot connect a container to the network {}: it is no bridge", network.name)));
    }
    let private = match Mode::parse_all(&record.settings.networks)? {
        Mode::Host | Mode::Container(_) => {
            return Err(Error::new(
                "container sharing network namespace with another container or host cannot be connected to any other network",
            ));
        }
        Mode::None => true,
        Mode::Networks(joins) => {
            if joins.iter().any(|join| is(join, &network)) {
                return Err(Error::new(format!("endpoint with name {} already exists in network {}", record.name, network.name)));
            }
            false
        }
    };
    if is_up(&container)? {
        if private && !networks.leases()?.contains_key(&record.id) {
            let words = "cannot connect container to multiple networks with one of the networks in private (none) mode";
            return Err(Error::new(words).hint("stop it first"));
        }
        let attachment = networks.connect(&record.id, &join)?;
        container.change(|state| state.attachments.push(attachment))?;
    }
    change(&container, |all| {
        // Of a container without a network, this is the first.
        all.retain(|name| name != "none");
        if all.is_empty() && !private {
            all.push("bridge".into());
        }
        all.push(typed(&join));
    })?;
    tell(dirs, "connect", &network, Some(&record.id));
    Ok(0)
}

fn is_up(container: &Container) -> Result<bool> {
    let state = container.state()?;
    Ok(state.status.is_up() && container.process(&state).is_some())
}

/// As `--network` would take it.
fn typed(join: &Join) -> String {
    if join.address.is_none() && join.aliases.is_empty() {
        return join.network.clone();
    }
    let address = join.address.map(|address| format!(",ip={address}")).unwrap_or_default();
    let aliases: String = join.aliases.iter().map(|alias| format!(",alias={alias}")).collect();
    format!("name={}{address}{aliases}", join.network)
}

fn change(container: &Container, change: impl FnOnce(&mut Vec<String>)) -> Result<()> {
    let _lock = container.lock()?;
    let mut record = container.record()?;
    change(&mut record.settings.networks);
    container.save_record(&record)
}

fn disconnect(args: &Disconnect, dirs: &Dirs) -> Result<i32> {
    let networks = Networks::open(dirs)?;
    let container = Containers::new(dirs).find(&args.container)?;
    let network = networks.get(&args.network)?;
    let record = container.record()?;
    if !joins(&record).iter().any(|join| is(join, &network)) {
        if args.force {
            return Ok(0);
        }
        return Err(Error::new(format!("container {} is not connected to network {}", record.id, network.name)));
    }
    if is_up(&container)? {
        networks.disconnect(&record.id, &network.id)?;
        let elsewhere = |at: &Attachment| at.network_id != network.id;
        container.change(|state| state.attachments.retain(elsewhere))?;
    }
    change(&container, |all| {
        let other = |text: &str| !matches!(Mode::parse(text), Ok(Mode::Networks(joins)) if joins.iter().any(|join| is(join, &network)));
        all.retain(|text| other(text));
        if all.is_empty() {
            all.push("none".into());
        }
    })?;
    tell(dirs, "disconnect", &network, Some(&record.id));
    Ok(0)
}

/// As docker shows it.
pub fn value(networks: &Networks, network: &Network) -> Result<Value> {
    let mut containers = Map::new();
    for (id, lease) in networks.leases()? {
        for at in lease.attachments.iter().filter(|at| at.network_id == network.id) {
            containers.insert(
                id.clone(),
                json!({"Name": lease.name, "MacAddress": at.mac, "IPv4Address": format!("{}/{}", at.address, at.prefix)}),
            );
        }
    }
    Ok(
        json!({"Name": network.name, "Id": network.id, "Created": network.created, "Scope": "local", "Driver": network.driver, "Internal": network.internal, "Labels": network.labels, "Options": network.options, "Containers": containers, "IPAM": {"Driver": "default", "Config": [{"Subnet": network.subnet, "Gateway": network.gateway}]}}),
    )
}
