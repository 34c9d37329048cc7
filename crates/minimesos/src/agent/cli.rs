//! The agent's command line, for the binaries that offer it.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use meson_mesos::client::Tls;
use meson_mesos::types::DomainInfo;

use super::{AgentOptions, ParseError, parse_attributes, parse_resources};

/// Runs an agent: starts executors on this machine for a minimesos master.
#[derive(Debug, Clone, clap::Args)]
pub struct AgentArgs {
    /// The master, such as http://127.0.0.1:5050; several, with commas between them; or
    /// zk://host1:2181,host2:2181/mesos
    #[arg(long, value_name = "URL")]
    pub master: String,
    /// The authority of a master that serves over TLS, in PEM
    #[arg(long, value_name = "FILE")]
    pub master_ca: Option<PathBuf>,
    /// The address to serve executors on
    #[arg(long, default_value = "127.0.0.1")]
    pub ip: IpAddr,
    /// The port to serve executors on; 0 takes a free one, and keeps it
    #[arg(long, default_value_t = 0)]
    pub port: u16,
    /// The folder for sandboxes, the fetcher's cache and the agent's state
    #[arg(long, value_name = "DIR")]
    pub work_dir: PathBuf,
    /// How schedulers name this host [default: the address]
    #[arg(long)]
    pub hostname: Option<String>,
    /// What to offer, such as 'cpus:4;mem:2048;ports:[31000-31099]' [default: what
    /// the machine has]
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub resources: String,
    /// What to say about the agent, such as 'region:us-east;disk:ssd'
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub attributes: String,
    /// Region and zone, such as 'us-east/a'
    #[arg(long, value_name = "REGION/ZONE")]
    pub domain: Option<String>,
    /// Run executors as the user of their framework [default: if the agent is root]
    #[arg(long, value_name = "BOOL")]
    pub switch_user: Option<bool>,
    /// What containers are held to: 'posix/mem' kills one that uses more memory than was
    /// asked for [default: nothing]
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub isolation: String,
    /// Seconds that an executor has to subscribe after its start
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0, value_parser = seconds)]
    pub executor_registration_timeout: f64,
    /// Seconds that an executor has to come back after the agent's restart
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0, value_parser = seconds)]
    pub executor_reregistration_timeout: f64,
    /// Seconds that an executor has to shut down, unless it says otherwise
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0, value_parser = seconds)]
    pub executor_shutdown_grace_period: f64,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
    Ok(seconds)
}

/// Why a command line cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ArgsError {
    /// Resources or attributes.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The authority of the master.
    #[error("cannot read the authority of the master, {path}: {source}")]
    Authority {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The domain.
    #[error("cannot parse domain '{0}': write it as region/zone")]
    Domain(String),
    /// The isolation.
    #[error(
        "unknown isolation '{0}': this agent has no control groups; 'posix/mem' limits memory by looking at it"
    )]
    Isolation(String),
}

impl AgentArgs {
    /// The agent that the command line describes.
    ///
    /// # Errors
    /// When one of its texts is not understood.
    pub fn into_options(self) -> Result<AgentOptions, ArgsError> {
        let domain = self
            .domain
            .map(|text| match text.split_once('/') {
                Some((region, zone)) if !region.is_empty() && !zone.is_empty() => {
                    Ok(DomainInfo::new(region, zone))
                }
                _ => Err(ArgsError::Domain(text)),
            })
            .transpose()?;
        let mut options = AgentOptions::new(self.master, self.work_dir);
        if let Some(path) = self.master_ca {
            let pem = std::fs::read(&path);
            let pem = pem.map_err(|source| ArgsError::Authority { path, source })?;
            options.tls = Some(Tls {
                authority: Some(pem),
                identity: None,
            });
        }
        options.ip = self.ip;
        options.port = self.port;
        options.hostname = self.hostname;
        options.resources = parse_resources(&self.resources)?;
        options.attributes = parse_attributes(&self.attributes)?;
        options.domain = domain;
        options.switch_user = self.switch_user;
        for isolation in self.isolation.split(',').filter(|text| !text.is_empty()) {
            match isolation {
                "posix/mem" => options.limit_memory = true,
                unknown => return Err(ArgsError::Isolation(unknown.to_owned())),
            }
        }
        options.timeouts.executor_registration =
            Duration::from_secs_f64(self.executor_registration_timeout);
        options.timeouts.executor_reregistration =
            Duration::from_secs_f64(self.executor_reregistration_timeout);
        options.timeouts.executor_shutdown_grace =
            Duration::from_secs_f64(self.executor_shutdown_grace_period);
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        agent: AgentArgs,
    }

    fn options(more: &[&str]) -> Result<AgentOptions, ArgsError> {
        let base = ["agent", "--master", "http://m:5050", "--work-dir", "/w"];
        let arguments = base.iter().chain(more);
        Program::try_parse_from(arguments)
            .unwrap()
            .agent
            .into_options()
    }

    #[test]
    fn a_command_line_becomes_an_agent() {
        let options = options(&[
            "--resources",
            "cpus:2;mem:512",
            "--attributes",
            "disk:ssd",
            "--domain",
            "eu/a",
            "--isolation",
            "posix/mem",
            "--executor-registration-timeout",
            "0.5",
        ])
        .unwrap();
        assert_eq!(options.resources.len(), 2);
        assert_eq!(options.attributes.len(), 1);
        assert!(options.limit_memory);
        assert_eq!(options.domain, Some(DomainInfo::new("eu", "a")));
        assert_eq!(
            options.timeouts.executor_registration,
            Duration::from_millis(500)
        );
    }

    #[test]
    fn what_cannot_be_understood_is_said() {
        for (wrong, word) in [
            (["--resources", "cpus"], "resource"),
            (["--attributes", "x"], "attribute"),
            (["--domain", "eu"], "region/zone"),
            (["--isolation", "cgroups/mem"], "posix/mem"),
        ] {
            let error = options(&wrong).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
