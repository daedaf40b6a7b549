//! The flags of `bundle network`.

use clap::{Args, Subcommand};

#[derive(Subcommand, Debug)]
pub enum Network {
    /// Make a network
    #[command(after_help = "Example: bundle network create --subnet 10.90.0.0/24 --label team=web front\n\
        Example: bundle network create --driver vxlan --subnet 10.91.0.0/16 --opt vni=91 \
        --opt local=192.0.2.1 --opt etcd=http://192.0.2.9:2379 wide")]
    Create(Create),
    /// List networks
    #[command(visible_alias = "list", after_help = "Example: bundle network ls --filter driver=bridge")]
    Ls(Ls),
    /// Show all that is known of networks
    #[command(after_help = "Example: bundle network inspect --format '{{.Subnets}}' front")]
    Inspect(Inspect),
    /// Remove networks that no container is in
    #[command(visible_alias = "remove", after_help = "Example: bundle network rm front")]
    Rm(Rm),
    /// Remove all networks that no container is in
    #[command(after_help = "Example: bundle network prune --dry-run")]
    Prune(Prune),
    /// Put a container into a network, also while it runs
    #[command(after_help = "Example: bundle network connect --alias db --ip 10.90.0.9 front web")]
    Connect(Connect),
    /// Take a container out of a network, also while it runs
    #[command(after_help = "Example: bundle network disconnect front web")]
    Disconnect(Disconnect),
    /// Called by an OCI runtime as a hook: puts a container of any runtime or engine into a network, and takes it out
    #[command(
        after_help = "Example: bundle network hook --publish 8080:80 front, as createRuntime and poststop hook of a \
        container's config.json: {\"path\": \"/usr/bin/bundle\", \"args\": [\"bundle\", \"network\", \"hook\", \"front\"]}"
    )]
    Hook(Hook),
    /// Put bridges, rules and name servers back where somebody has taken them away
    #[command(after_help = "Example: bundle network reload")]
    Reload,
}

#[derive(Args, Debug)]
pub struct Create {
    /// What carries its packets: `bridge` (of this host), `macvlan` (addresses on a device's own network), `vxlan`
    /// (across hosts)
    #[arg(short, long, value_name = "DRIVER", default_value = "bridge")]
    pub driver: String,
    /// Its addresses; one for IPv4, one for IPv6 [default: a free one of 10.96.0.0/24 and following]
    #[arg(long, value_name = "ADDRESS/PREFIX")]
    pub subnet: Vec<String>,
    /// The host's address in a subnet [default: the first]
    #[arg(long, value_name = "ADDRESS")]
    pub gateway: Vec<String>,
    /// The part of a subnet that containers get addresses of
    #[arg(long, value_name = "ADDRESS/PREFIX")]
    pub ip_range: Vec<String>,
    /// An address that no container gets
    #[arg(long, value_name = "NAME=ADDRESS")]
    pub aux_address: Vec<String>,
    /// Also IPv6: a random unique local subnet if none is given
    #[arg(long)]
    pub ipv6: bool,
    /// Nothing goes in or out
    #[arg(long)]
    pub internal: bool,
    /// No name server
    #[arg(long)]
    pub disable_dns: bool,
    /// `mtu=BYTES`; `isolate=false` (other networks that say so too are let in); of macvlan `parent=DEVICE`; of vxlan
    /// `vni=NUMBER`, `local=ADDRESS`, `port=NUMBER` [4789], `etcd=URL,...`, `etcd-ca=`, `etcd-cert=`, `etcd-key=FILE`,
    /// `etcd-user=NAME`, `etcd-password-file=FILE`
    #[arg(short, long = "opt", value_name = "KEY=VALUE")]
    pub opt: Vec<String>,
    /// Of vxlan without etcd: another host's address
    #[arg(long, value_name = "ADDRESS")]
    pub peer: Vec<String>,
    /// Set a label
    #[arg(long, value_name = "KEY[=VALUE]")]
    pub label: Vec<String>,
    /// Name
    pub name: String,
}

#[derive(Args, Debug)]
pub struct Ls {
    /// Names only
    #[arg(short, long)]
    pub quiet: bool,
    /// `name=PART`, `id=BEGINNING`, `driver=DRIVER`, `dangling=true|false`, `label=KEY[=VALUE]`
    #[arg(short, long, value_name = "FILTER")]
    pub filter: Vec<String>,
    /// `table`, `json`, or a template such as `{{.Name}}`
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
}

#[derive(Args, Debug)]
pub struct Inspect {
    /// `json`, or a template such as `{{.Driver}}`
    #[arg(short, long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Networks
    #[arg(value_name = "NETWORK", required = true)]
    pub networks: Vec<String>,
}

#[derive(Args, Debug)]
pub struct Rm {
    /// Take the containers out of it first; one that is not there is no error
    #[arg(short, long)]
    pub force: bool,
    /// Networks
    #[arg(value_name = "NETWORK", required = true)]
    pub networks: Vec<String>,
}

#[derive(Args, Debug)]
pub struct Prune {
    /// `label=KEY[=VALUE]`, `label!=KEY[=VALUE]`
    #[arg(long, value_name = "FILTER")]
    pub filter: Vec<String>,
    /// Only say what would go
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
    #[command(flatten)]
    pub format: super::FormatFlag,
}

#[derive(Args, Debug)]
pub struct Connect {
    /// Another name of the container in this network
    #[arg(long, value_name = "NAME")]
    pub alias: Vec<String>,
    /// Its IPv4 address
    #[arg(long, value_name = "ADDRESS")]
    pub ip: Option<String>,
    /// Its IPv6 address
    #[arg(long, value_name = "ADDRESS")]
    pub ip6: Option<String>,
    /// Its Ethernet address
    #[arg(long, value_name = "ADDRESS")]
    pub mac_address: Option<String>,
    /// Another container, under a name that only this one sees
    #[arg(long, value_name = "CONTAINER[:NAME]")]
    pub link: Vec<String>,
    /// Network
    pub network: String,
    /// Container
    pub container: String,
}

#[derive(Args, Debug)]
pub struct Hook {
    /// Another name of the container in this network
    #[arg(long, value_name = "NAME")]
    pub alias: Vec<String>,
    /// Its IPv4 address
    #[arg(long, value_name = "ADDRESS")]
    pub ip: Option<String>,
    /// Let a port of the host lead into the container
    #[arg(short, long, value_name = "[[ADDRESS:]HOST:]PORT[/udp]")]
    pub publish: Vec<String>,
    /// Network
    pub network: String,
}

#[derive(Args, Debug)]
pub struct Disconnect {
    /// Also where the container is not in it
    #[arg(short, long)]
    pub force: bool,
    /// Network
    pub network: String,
    /// Container
    pub container: String,
}
