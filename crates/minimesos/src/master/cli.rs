//! The master's command line, for the binaries that offer it. Flags are named like the
//! real one's; durations are written as there (`15secs`, `2mins`) or as plain seconds.

use super::{Credentials, Election, MasterOptions, ServerTls};
use meson_mesos::client::parse_duration;
use meson_mesos::types::DomainInfo;
use meson_mesos::zookeeper::ZkUrl;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Runs a master: offers the resources of its agents to schedulers.
#[derive(Clone, Debug, clap::Args)]
#[command(rename_all = "snake_case")]
pub struct MasterArgs {
    /// The address to serve on
    #[arg(long, default_value = "127.0.0.1")]
    pub ip: IpAddr,
    /// The port to serve on; 0 takes a free one
    #[arg(long, default_value_t = 5050)]
    pub port: u16,
    /// The folder of the registry; without it, the registry is kept in memory
    #[arg(long, alias = "work-dir", value_name = "DIR")]
    pub work_dir: Option<PathBuf>,
    /// How schedulers and agents name this host [default: the address]
    #[arg(long)]
    pub hostname: Option<String>,
    /// Region and zone, such as 'us-east/a'
    #[arg(long, value_name = "REGION/ZONE", value_parser = domain)]
    pub domain: Option<DomainInfo>,
    /// Between two pings to an agent
    #[arg(long, alias = "agent-ping-timeout", value_name = "DURATION", default_value = "15secs", value_parser = duration)]
    pub agent_ping_timeout: Duration,
    /// So many pings without an answer make an agent unreachable
    #[arg(
        long,
        alias = "max-agent-ping-timeouts",
        value_name = "N",
        default_value_t = 5
    )]
    pub max_agent_ping_timeouts: u32,
    /// After a restart, so long may agents take to come back
    #[arg(long, alias = "agent-reregister-timeout", value_name = "DURATION", default_value = "10mins", value_parser = duration)]
    pub agent_reregister_timeout: Duration,
    /// Between two rounds of offers
    #[arg(long, alias = "allocation-interval", value_name = "DURATION", default_value = "1secs", value_parser = duration)]
    pub allocation_interval: Duration,
    /// Offers are taken back after this [default: never]
    #[arg(long, alias = "offer-timeout", value_name = "DURATION", value_parser = duration)]
    pub offer_timeout: Option<Duration>,
    /// Where masters choose the one that leads, such as 'zk://host1:2181,host2:2181/mesos'
    #[arg(long, value_name = "URL", conflicts_with = "leader")]
    pub zk: Option<ZkUrl>,
    /// A leading master that ZooKeeper has not heard for so long leads no more
    #[arg(long, alias = "zk-session-timeout", value_name = "DURATION", default_value = "10secs", value_parser = duration)]
    pub zk_session_timeout: Duration,
    /// Another master that leads: frameworks and agents are sent there
    #[arg(long, value_name = "HOST:PORT")]
    pub leader: Option<String>,
    /// Serve over TLS with this certificate, in PEM
    #[arg(long, alias = "ssl-cert", value_name = "FILE", requires = "ssl_key")]
    pub ssl_cert: Option<PathBuf>,
    /// The key of that certificate, in PEM
    #[arg(long, alias = "ssl-key", value_name = "FILE", requires = "ssl_cert")]
    pub ssl_key: Option<PathBuf>,
    /// Let in only who shows a certificate of this authority, in PEM
    #[arg(
        long,
        alias = "ssl-client-ca",
        value_name = "FILE",
        requires = "ssl_cert"
    )]
    pub ssl_client_ca: Option<PathBuf>,
    /// Principals and their secrets, as the real one reads them
    #[arg(long, value_name = "FILE", value_parser = credentials)]
    pub credentials: Option<Credentials>,
    /// Let in only frameworks that prove to be one of the principals
    #[arg(
        long,
        alias = "authenticate-http-frameworks",
        requires = "credentials",
        default_value_t = false,
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true,
        action = clap::ArgAction::Set
    )]
    pub authenticate_http_frameworks: bool,
}

impl MasterArgs {
    /// The master that the command line describes. `wall_clock` is the time since 1970 now.
    pub fn into_options(self, wall_clock: Duration) -> MasterOptions {
        let election = match (self.zk, self.leader) {
            (Some(url), _) => Election::ZooKeeper {
                url,
                session_timeout: self.zk_session_timeout,
            },
            (None, Some(leader)) => Election::Elsewhere(leader),
            (None, None) => Election::Alone,
        };
        let tls = self.ssl_cert.zip(self.ssl_key);
        let tls = tls.map(|(certificate, key)| ServerTls {
            certificate,
            key,
            client_authority: self.ssl_client_ca,
        });
        let credentials = self
            .credentials
            .filter(|_| self.authenticate_http_frameworks);
        MasterOptions {
            election,
            tls,
            credentials,
            ip: self.ip,
            port: self.port,
            work_dir: self.work_dir,
            hostname: self.hostname,
            domain: self.domain,
            agent_ping_timeout: self.agent_ping_timeout,
            max_agent_ping_timeouts: self.max_agent_ping_timeouts,
            agent_reregister_timeout: self.agent_reregister_timeout,
            allocation_interval: self.allocation_interval,
            offer_timeout: self.offer_timeout,
            ..MasterOptions::new(wall_clock)
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string()),
        Err(_) => parse_duration(text).map_err(|error| error.to_string()),
    }
}

fn credentials(file: &str) -> Result<Credentials, String> {
    Credentials::read(Path::new(file)).map_err(|error| error.to_string())
}

fn domain(text: &str) -> Result<DomainInfo, String> {
    match text.split_once('/') {
        Some((region, zone)) if !region.is_empty() && !zone.is_empty() => {
            Ok(DomainInfo::new(region, zone))
        }
        _ => Err("write it as region/zone".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        master: MasterArgs,
    }

    fn parse(more: &[&str]) -> Result<MasterOptions, clap::Error> {
        let arguments = ["master"].iter().chain(more);
        Program::try_parse_from(arguments)
            .map(|program| program.master.into_options(Duration::ZERO))
    }

    #[test]
    fn flags_are_written_as_the_real_ones() {
        let options = parse(&[
            "--ip=127.0.0.1",
            "--port=5055",
            "--work_dir=/w",
            "--agent_ping_timeout=1secs",
            "--max_agent_ping_timeouts=2",
            "--offer_timeout=3secs",
            "--domain=us-east/a",
        ])
        .unwrap();
        assert_eq!((options.port, options.max_agent_ping_timeouts), (5055, 2));
        assert_eq!(options.agent_ping_timeout, Duration::from_secs(1));
        assert_eq!(options.offer_timeout, Some(Duration::from_secs(3)));
        assert_eq!(options.domain, Some(DomainInfo::new("us-east", "a")));
    }

    #[test]
    fn dashes_and_plain_seconds_do_as_well() {
        let options = parse(&["--work-dir", "/w", "--allocation-interval", "0.05"]).unwrap();
        assert_eq!(options.allocation_interval, Duration::from_millis(50));
        assert_eq!(options.work_dir, Some("/w".into()));
    }

    #[test]
    fn several_masters_choose_one() {
        let options = parse(&["--zk=zk://a,b/mesos", "--zk_session_timeout=2secs"]).unwrap();
        let url = "zk://a,b/mesos".parse().unwrap();
        let session_timeout = Duration::from_secs(2);
        assert_eq!(
            options.election,
            Election::ZooKeeper {
                url,
                session_timeout
            }
        );
        let options = parse(&["--leader=m:5050"]).unwrap();
        assert_eq!(options.election, Election::Elsewhere("m:5050".to_owned()));
        assert!(parse(&["--leader=m:5050", "--zk=zk://a/mesos"]).is_err());
    }

    #[test]
    fn item_06_frameworks_are_asked_who_they_are_only_if_it_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("credentials");
        std::fs::write(&file, "fw s3cret").unwrap();
        let file = format!("--credentials={}", file.display());
        assert!(parse(&[&file]).unwrap().credentials.is_none());
        for flag in [
            "--authenticate_http_frameworks",
            "--authenticate_http_frameworks=true",
        ] {
            assert!(parse(&[&file, flag]).unwrap().credentials.is_some());
            assert!(parse(&[flag]).is_err(), "nobody could be let in");
        }
    }

    #[test]
    fn what_cannot_be_understood_is_said() {
        for wrong in [
            "--agent_ping_timeout=soon",
            "--agent_ping_timeout=-1",
            "--domain=us",
            "--zk=http://a",
            "--ssl_cert=/c",
            "--credentials=/no/such/file",
        ] {
            assert!(parse(&[wrong]).is_err(), "{wrong}");
        }
    }
}
