//! The master's command line, for the binaries that offer it. Flags are named like the
//! real one's; durations are written as there (`15secs`, `2mins`) or as plain seconds.

use super::MasterOptions;
use meson_mesos::client::parse_duration;
use meson_mesos::types::DomainInfo;
use std::net::IpAddr;
use std::path::PathBuf;
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
}

impl MasterArgs {
    /// The master that the command line describes. `wall_clock` is the time since 1970 now.
    pub fn into_options(self, wall_clock: Duration) -> MasterOptions {
        MasterOptions {
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
    fn what_cannot_be_understood_is_said() {
        for wrong in [
            "--agent_ping_timeout=soon",
            "--agent_ping_timeout=-1",
            "--domain=us",
        ] {
            assert!(parse(&[wrong]).is_err(), "{wrong}");
        }
    }
}
